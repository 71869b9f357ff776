package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// manifestSource gives the manifests of one image: the store's or a registry's.
type manifestSource interface {
	// top is what the name stands for.
	top(ctx context.Context) (ocispec.Descriptor, []byte, error)
	// entry is a manifest that an index names; nil if it is not there.
	entry(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
}

type storedManifests struct {
	store *image.Store
	desc  ocispec.Descriptor
}

// maxManifest is how large a manifest or index may be.
const maxManifest = 4 << 20

func (m storedManifests) top(ctx context.Context) (ocispec.Descriptor, []byte, error) {
	text, err := m.store.ReadBlob(ctx, m.desc, maxManifest)
	return m.desc, text, err
}

func (m storedManifests) entry(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	text, err := m.store.ReadBlob(ctx, desc, maxManifest)
	if errors.Is(err, image.ErrNotFound) {
		return nil, nil
	}
	return text, err
}

type remoteManifests struct {
	client *registry.Client
	ref    image.Ref
}

func (m remoteManifests) top(ctx context.Context) (ocispec.Descriptor, []byte, error) {
	return m.client.Manifest(ctx, repository(m.ref), remoteReference(m.ref))
}

func (m remoteManifests) entry(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	_, text, err := m.client.Manifest(ctx, repository(m.ref), desc.Digest.String())
	return text, err
}

// source finds the image in the store, else asks its registry.
func (c *manifestInspectCommand) source(ctx context.Context, s *session) (manifestSource, error) {
	st, err := s.store()
	if err != nil {
		return nil, err
	}
	desc, err := st.Resolve(ctx, c.name)
	if err == nil {
		return storedManifests{st, desc}, nil
	}
	ref, refErr := image.ParseRef(c.name)
	if !errors.Is(err, image.ErrNotFound) || refErr != nil {
		return nil, missingImage(c.name, err)
	}
	return remoteManifests{s.client(c.insecure, noDisplay{}), ref.WithDefaultTag()}, nil
}

// verboseManifest is what manifest inspect -v prints of a manifest.
type verboseManifest struct {
	Descriptor ocispec.Descriptor
	Present    bool
	Manifest   json.RawMessage `json:",omitempty"`
}

func verboseManifests(ctx context.Context, from manifestSource, desc ocispec.Descriptor, text []byte) ([]verboseManifest, error) {
	if !image.IsIndex(desc.MediaType) {
		return []verboseManifest{{desc, true, text}}, nil
	}
	var index ocispec.Index
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, fmt.Errorf("read index %s: %w", desc.Digest, err)
	}
	list := []verboseManifest{}
	for _, m := range index.Manifests {
		body, err := from.entry(ctx, m)
		if err != nil {
			return nil, err
		}
		list = append(list, verboseManifest{m, body != nil, body})
	}
	return list, nil
}
