package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Assemble writes the config and the manifest of an image of these layers,
// bottom first, with OCI media types, and makes them and the layers durable.
// The layers' diff ids replace the ones in cfg; the history is taken as it is.
// The same input gives the same digest. A layer that is not in the store is
// ErrNotFound.
func (s *Store) Assemble(ctx context.Context, cfg Config, layers []Layer) (ocispec.Descriptor, error) {
	return s.AssembleAnnotated(ctx, cfg, layers, nil)
}

// AssembleAnnotated is Assemble for a manifest with annotations.
func (s *Store) AssembleAnnotated(ctx context.Context, cfg Config, layers []Layer, annotations map[string]string) (ocispec.Descriptor, error) {
	desc, err := s.assemble(ctx, cfg, layers, annotations)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("assemble image: %w", err)
	}
	return desc, nil
}

func (s *Store) assemble(ctx context.Context, cfg Config, layers []Layer, annotations map[string]string) (ocispec.Descriptor, error) {
	if cfg.OS == "" || cfg.Architecture == "" {
		return ocispec.Descriptor{}, errors.New("the config names no platform")
	}
	if n := countLayers(cfg.History); n > len(layers) {
		return ocispec.Descriptor{}, fmt.Errorf("the history has %d layers and the image %d", n, len(layers))
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Layers:    []ocispec.Descriptor{}, Annotations: annotations,
	}
	var used, away []digest.Digest
	cfg.RootFS = ocispec.RootFS{Type: "layers"}
	for i, l := range layers {
		desc, err := manifestLayer(l)
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("layer %d: %w", i, err)
		}
		there, err := s.useLayer(&desc)
		switch {
		case err != nil:
			return ocispec.Descriptor{}, fmt.Errorf("layer %d: %w", i, err)
		case there:
			used = append(used, desc.Digest)
		case len(desc.URLs) == 0:
			away = append(away, desc.Digest)
		}
		manifest.Layers = append(manifest.Layers, desc)
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, l.DiffID)
	}
	text, err := cfg.encode()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if manifest.Config, err = s.putBytes(ctx, ocispec.MediaTypeImageConfig, text); err != nil {
		return ocispec.Descriptor{}, err
	}
	desc, err := s.putDocument(ctx, manifest.MediaType, manifest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return desc, needs{append(used, manifest.Config.Digest, desc.Digest), away}.sync(ctx, s)
}

// useLayer marks a layer as used and checks its size, or fills it in. Only a
// foreign layer may be absent, and one that a registry has.
func (s *Store) useLayer(desc *ocispec.Descriptor) (there bool, err error) {
	have, ok := s.have(ocispec.Descriptor{Digest: desc.Digest})
	if !ok && (len(desc.URLs) > 0 || desc.Size > 0 && s.useAway(desc.Digest)) {
		return false, nil
	}
	if !ok {
		return false, missing(desc.Digest)
	}
	if desc.Size == 0 {
		desc.Size = have.Size
	}
	if desc.Size != have.Size {
		return false, &VerifyError{Want: desc.Digest, WantSize: desc.Size, GotSize: have.Size}
	}
	return true, nil
}

func countLayers(history []ocispec.History) int {
	n := 0
	for _, h := range history {
		if !h.EmptyLayer {
			n++
		}
	}
	return n
}

// manifestLayer is the layer's line in the manifest.
func manifestLayer(l Layer) (ocispec.Descriptor, error) {
	if err := checkDescriptor(l.Descriptor); err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := l.DiffID.Validate(); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("diff id %q: %w", string(l.DiffID), err)
	}
	mediaType := layerType(l.Descriptor.MediaType)
	if mediaType == "" {
		return ocispec.Descriptor{}, fmt.Errorf("media type %q is no file system layer", l.Descriptor.MediaType)
	}
	return ocispec.Descriptor{
		MediaType:   mediaType,
		Digest:      l.Descriptor.Digest,
		Size:        l.Descriptor.Size,
		URLs:        l.Descriptor.URLs,
		Annotations: publicAnnotations(l.Descriptor.Annotations),
	}, nil
}

// publicAnnotations leaves out those that stores keep for themselves.
func publicAnnotations(in map[string]string) map[string]string {
	var out map[string]string
	for key, value := range in {
		if key == "containerd.io/uncompressed" || key == "buildkit/createdat" ||
			strings.HasPrefix(key, "containerd.io/distribution.source.") {
			continue
		}
		if out == nil {
			out = make(map[string]string, len(in))
		}
		out[key] = value
	}
	return out
}

// putDocument stores a manifest or index, written as BuildKit writes it.
func (s *Store) putDocument(ctx context.Context, mediaType string, doc any) (ocispec.Descriptor, error) {
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode manifest: %w", err)
	}
	return s.putBytes(ctx, mediaType, text)
}

func (s *Store) putBytes(ctx context.Context, mediaType string, text []byte) (ocispec.Descriptor, error) {
	want := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(text), Size: int64(len(text))}
	return s.Put(ctx, want, bytes.NewReader(text))
}
