package build

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// defaultPath is the PATH of an image that sets none; one of windows has none then.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// historyComment marks the history entries that a Dockerfile made, with the
// word BuildKit uses, which tools look for.
const historyComment = "buildkit.dockerfile.v0"

// State is what a step gives the next one. It is immutable: every change
// makes a new State that shares what did not change.
type State struct {
	// Config is the image config so far. Created times in its history that
	// are nil are filled in when the image is assembled.
	Config image.Config
	// Env is what a RUN sees: the config's environment and the build
	// arguments in scope, the later assignment winning.
	Env scope
	// Args are the build arguments declared so far, in order.
	Args []argValue
	// Layers is the root filesystem, bottom first.
	Layers []*Layer
	// files are what a context holds, which is no root filesystem; else nil.
	files tree
	// cmdSet says that this stage has had a CMD: its ENTRYPOINT keeps it.
	cmdSet bool
	// inherited counts the history entries that came with the base image.
	inherited int
}

// argValue is a declared build argument; Value is nil if nothing gives it one.
type argValue struct {
	Name  string
	Value *string
}

// scratchState is the State of FROM scratch.
func scratchState(p ocispec.Platform) *State {
	var c image.Config
	c.OS, c.Architecture, c.Variant = p.OS, p.Architecture, p.Variant
	c.OSVersion, c.OSFeatures = p.OSVersion, p.OSFeatures
	c.Config.WorkingDir = "/"
	c.RootFS.Type = "layers"
	return (&State{Config: c}).begin()
}

// baseState is the State of FROM image.
func baseState(img *image.Image) *State {
	s := &State{Config: cloneConfig(img.Config)}
	for _, l := range img.Layers {
		s.Layers = append(s.Layers, readyLayer(l))
	}
	s.Config.Created = nil
	s.inherited = len(img.Config.History)
	return s.begin()
}

// begin makes the State a stage starts with from that of its base: triggers
// have been taken out into the plan, and PATH is always set.
func (s *State) begin() *State {
	n := s.clone()
	n.cmdSet = false
	n.Config.Config.OnBuild = nil
	if dir := slashed(n.Config.Config.WorkingDir, n.Config.OS); dir != "" {
		n.Config.Config.WorkingDir = workdir(dir, dir) // a relative one twice, as with BuildKit
	}
	if _, ok := scopeOf(n.Config.Config.Env).lookup("PATH"); !ok && n.Config.OS != windows {
		n.Config.Config.Env = append(n.Config.Config.Env, "PATH="+defaultPath)
	}
	for _, e := range n.Config.Config.Env {
		k, v, _ := strings.Cut(e, "=")
		n.Env = n.Env.with(k, v)
	}
	return n
}

func (s *State) clone() *State {
	n := *s
	n.Config = cloneConfig(s.Config)
	n.Args = slices.Clone(s.Args)
	n.Layers = slices.Clone(s.Layers)
	return &n
}

func cloneConfig(c image.Config) image.Config {
	n := c
	n.OSFeatures = slices.Clone(c.OSFeatures)
	n.RootFS.DiffIDs = slices.Clone(c.RootFS.DiffIDs)
	n.History = slices.Clone(c.History)
	rc := &n.Config
	rc.Env, rc.Cmd, rc.Entrypoint = slices.Clone(rc.Env), slices.Clone(rc.Cmd), slices.Clone(rc.Entrypoint)
	rc.OnBuild, rc.Shell = slices.Clone(rc.OnBuild), slices.Clone(rc.Shell)
	rc.ExposedPorts, rc.Volumes, rc.Labels = maps.Clone(rc.ExposedPorts), maps.Clone(rc.Volumes), maps.Clone(rc.Labels)
	if rc.Healthcheck != nil {
		h := *rc.Healthcheck
		h.Test = slices.Clone(h.Test)
		rc.Healthcheck = &h
	}
	return n
}

// addLayer gives the State with a layer on top and its history entry.
func (s *State) addLayer(l *Layer, createdBy string) *State {
	n := s.clone()
	created := l.created
	n.Layers = append(n.Layers, l)
	n.Config.History = append(n.Config.History, ocispec.History{
		Created: &created, CreatedBy: createdBy, Comment: historyComment,
	})
	return n
}

// addHistory gives the State with the entry of an instruction that made no layer.
func (s *State) addHistory(createdBy string) *State {
	n := s.clone()
	n.Config.History = append(n.Config.History, ocispec.History{
		CreatedBy: createdBy, Comment: historyComment, EmptyLayer: true,
	})
	return n
}

// Layer is a layer of a State. It may still be in the making: a RUN's
// successor starts on what the RUN left in its directory while that is
// archived and hashed.
type Layer struct {
	// dir is the snapshot that holds the layer unpacked, if that is known.
	dir   string
	done  chan struct{}
	image image.Layer
	// created is when the step that made the layer ended.
	created time.Time
	// made is what made the layer, where the history does not tell it.
	made string
	err  error
}

func readyLayer(l image.Layer) *Layer {
	done := make(chan struct{})
	close(done)
	return &Layer{done: done, image: l}
}

// wait gives the layer when it is made.
func (l *Layer) wait(ctx context.Context) (image.Layer, error) {
	select {
	case <-l.done:
		return l.image, l.err
	case <-ctx.Done():
		return image.Layer{}, context.Cause(ctx)
	}
}

// layers gives the State's layers when they are all made.
func (s *State) layers(ctx context.Context) ([]image.Layer, error) {
	out := make([]image.Layer, len(s.Layers))
	for i, l := range s.Layers {
		var err error
		if out[i], err = l.wait(ctx); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// contents is the identity of the root filesystem in step keys: what each
// layer holds, whatever its compression and the times at which steps ran. A layer
// that nobody has looked into is identified by its diffID.
func (s *State) contents(ctx context.Context) ([]digest.Digest, error) {
	layers, err := s.layers(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]digest.Digest, len(layers))
	for i, l := range layers {
		if out[i] = l.Content; out[i] == "" {
			out[i] = l.DiffID
		}
	}
	return out, nil
}
