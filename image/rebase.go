package image

import (
	"context"
	"fmt"
	"maps"
	"reflect"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Base is an image that another is made on.
type Base struct {
	Descriptor ocispec.Descriptor // a manifest or an index
	Name       string             // what to call it in annotations; may be empty
}

// NotBaseError says that an image was not made on what is called its base.
type NotBaseError struct {
	Image, Base digest.Digest
	Layer       int // the first that differs
}

// Error tells where they part.
func (e *NotBaseError) Error() string {
	return fmt.Sprintf("%s is not made on %s: they differ from layer %d on", e.Image, e.Base, e.Layer)
}

// Rebase makes a copy of an image in which the layers of another base take the
// place of those of the old one, and gives it no name. What the image has from
// the old base in its config and has not changed, it has from the new one. Of an
// index it does so for every image, which must all be there, with the base for
// its platform. No step runs again, so what the image made of the old base's
// files stays as it was. Hold a lease until the result is used.
func (s *Store) Rebase(ctx context.Context, desc ocispec.Descriptor, old, fresh Base) (ocispec.Descriptor, error) {
	out, err := s.mapImages(ctx, desc, 0, func(img *Image) (ocispec.Descriptor, error) {
		platform := img.Config.Platform
		before, err := s.selectImage(ctx, old.Descriptor, &platform)
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("old base: %w", err)
		}
		after, err := s.selectImage(ctx, fresh.Descriptor, &platform)
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("new base: %w", err)
		}
		return s.rebaseImage(ctx, img, before, after, fresh.Name)
	})
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("rebase: %w", err)
	}
	return out, nil
}

func (s *Store) rebaseImage(ctx context.Context, img, old, fresh *Image, name string) (ocispec.Descriptor, error) {
	for i, l := range old.Layers {
		if i >= len(img.Layers) || img.Layers[i].DiffID != l.DiffID {
			return ocispec.Descriptor{}, &NotBaseError{Image: img.ID(), Base: old.ID(), Layer: i}
		}
	}
	layers := append(append([]Layer(nil), fresh.Layers...), img.Layers[len(old.Layers):]...)
	cfg := img.Config
	cfg.Author = kept(img.Config.Author, old.Config.Author, fresh.Config.Author)
	cfg.OSVersion = fresh.Config.OSVersion
	cfg.OSFeatures = fresh.Config.OSFeatures
	cfg.Config = rebaseConfig(img.Config.Config, old.Config.Config, fresh.Config.Config)
	cfg.History = append(append([]ocispec.History(nil), fresh.Config.History...), ownHistory(img, old)...)
	annotations := map[string]string{ocispec.AnnotationBaseImageDigest: fresh.Descriptor.Digest.String(), ocispec.AnnotationBaseImageName: name}
	return s.AssembleAnnotated(ctx, cfg, layers, mergeAnnotations(img.Manifest.Annotations, annotations))
}

// ownHistory is what was done on the base: the entries after those of its
// layers, without those that the base itself ends with.
func ownHistory(img, base *Image) []ocispec.History {
	history := img.Config.History
	if n := len(base.Config.History); n <= len(history) && countLayers(history[:n]) == len(base.Layers) {
		return history[n:]
	}
	layers := 0
	for i, h := range history {
		if layers == len(base.Layers) {
			return history[i:]
		}
		if !h.EmptyLayer {
			layers++
		}
	}
	return nil
}

// kept is what an image has when its base changes: its own if it is not what the
// old base gave it, else what the new one gives.
func kept[T any](own, old, fresh T) T {
	if reflect.DeepEqual(own, old) {
		return fresh
	}
	return own
}

// keptMap is kept for each key.
func keptMap[V any](own, old, fresh map[string]V) map[string]V {
	merged := maps.Clone(fresh)
	if merged == nil {
		merged = make(map[string]V)
	}
	for key := range old {
		if _, ok := own[key]; !ok {
			delete(merged, key)
		}
	}
	for key, value := range own {
		was, ok := old[key]
		if !ok || !reflect.DeepEqual(was, value) {
			merged[key] = value
		}
	}
	if len(merged) == 0 {
		return nil
	}
	return merged
}

func rebaseConfig(own, old, fresh RunConfig) RunConfig {
	c := own
	c.User = kept(own.User, old.User, fresh.User)
	c.WorkingDir = kept(own.WorkingDir, old.WorkingDir, fresh.WorkingDir)
	c.Entrypoint = kept(own.Entrypoint, old.Entrypoint, fresh.Entrypoint)
	c.Cmd = kept(own.Cmd, old.Cmd, fresh.Cmd)
	c.StopSignal = kept(own.StopSignal, old.StopSignal, fresh.StopSignal)
	c.Shell = kept(own.Shell, old.Shell, fresh.Shell)
	c.Healthcheck = kept(own.Healthcheck, old.Healthcheck, fresh.Healthcheck)
	c.Labels = keptMap(own.Labels, old.Labels, fresh.Labels)
	c.ExposedPorts = keptMap(own.ExposedPorts, old.ExposedPorts, fresh.ExposedPorts)
	c.Volumes = keptMap(own.Volumes, old.Volumes, fresh.Volumes)
	c.Env = keptEnv(own, old, fresh)
	return c
}

// keptEnv is kept for each variable, in the order of the new base.
func keptEnv(own, old, fresh RunConfig) []string {
	merged := RunConfig{}
	merged.Env = fresh.Env
	for _, e := range old.Env {
		if _, ok := own.Getenv(envName(e)); !ok {
			merged.UnsetEnv(envName(e))
		}
	}
	for _, e := range own.Env {
		value, _ := own.Getenv(envName(e))
		if was, ok := old.Getenv(envName(e)); !ok || was != value {
			merged.SetEnv(envName(e), value)
		}
	}
	return merged.Env
}
