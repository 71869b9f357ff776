package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layer is one layer of an image.
type Layer struct {
	Descriptor ocispec.Descriptor
	DiffID     digest.Digest // of the uncompressed tar
	Content    digest.Digest // of what it holds, but for the times of the work itself; empty when nobody has looked
}

// Image is a manifest with its config.
type Image struct {
	Descriptor ocispec.Descriptor // of the manifest
	Manifest   ocispec.Manifest
	Config     Config
	Layers     []Layer // bottom first
}

// ID is the image id: the digest of the config.
func (i *Image) ID() digest.Digest { return i.Manifest.Config.Digest }

// Image reads the image that desc names. Of an index it is the one for p, or
// for this machine where p is nil; without one the error is a *PlatformError.
// A manifest is taken as it is. Everything the image has in the store is marked
// as used; the layers are not looked at otherwise and may be missing.
func (s *Store) Image(ctx context.Context, desc ocispec.Descriptor, p *ocispec.Platform) (*Image, error) {
	want := HostPlatform()
	if p != nil {
		want = *p
	}
	img, err := imageFrom(ctx, s, desc, want)
	if err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	for _, d := range []ocispec.Descriptor{desc, img.Descriptor, img.Manifest.Config} {
		s.Use(d.Digest)
	}
	for _, l := range img.Layers {
		s.UseAnywhere(l.Descriptor.Digest)
	}
	return img, nil
}

func imageFrom(ctx context.Context, from blobReader, desc ocispec.Descriptor, want ocispec.Platform) (*Image, error) {
	doc, err := readDocument(ctx, from, desc)
	if err != nil {
		return nil, err
	}
	if doc.index == nil {
		return readImage(ctx, from, desc, doc.manifest)
	}
	chosen, err := pickPlatform(ctx, from, desc, want)
	if err != nil {
		return nil, err
	}
	doc, err = readDocument(ctx, from, chosen)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, &PlatformError{Image: desc.Digest, Want: want, Absent: true}
	case err != nil:
		return nil, fmt.Errorf("image for %s: %w", FormatPlatform(want), err)
	}
	return readImage(ctx, from, chosen, doc.manifest)
}

func readImage(ctx context.Context, from blobReader, desc ocispec.Descriptor, m *ocispec.Manifest) (*Image, error) {
	if !isConfigType(m.Config.MediaType) {
		return nil, &NotImageError{desc.Digest, m.Config.MediaType}
	}
	text, err := from.ReadBlob(ctx, m.Config, maxConfig)
	if err != nil {
		return nil, err
	}
	cfg, err := decodeConfig(text)
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	layers, err := pairLayers(m.Layers, cfg.RootFS)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if desc.MediaType == "" {
		desc.MediaType = m.MediaType
	}
	return &Image{Descriptor: desc, Manifest: *m, Config: cfg, Layers: layers}, nil
}

func pairLayers(descs []ocispec.Descriptor, root ocispec.RootFS) ([]Layer, error) {
	if len(descs) != len(root.DiffIDs) {
		return nil, fmt.Errorf("it has %d layers and its config %d", len(descs), len(root.DiffIDs))
	}
	layers := make([]Layer, 0, len(descs))
	for i, d := range descs {
		if layerType(d.MediaType) == "" {
			return nil, fmt.Errorf("layer %d has media type %q, which is no file system layer", i, d.MediaType)
		}
		layers = append(layers, Layer{Descriptor: d, DiffID: root.DiffIDs[i]})
	}
	return layers, nil
}

// pickPlatform finds the image of an index that fits best; the first of those
// that fit alike.
func pickPlatform(ctx context.Context, from blobReader, index ocispec.Descriptor, want ocispec.Platform) (ocispec.Descriptor, error) {
	images, err := indexImages(ctx, from, index, 0)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var best ocispec.Descriptor
	bestDistance := -1
	missingPlatform := &PlatformError{Image: index.Digest, Want: NormalPlatform(want)}
	for _, m := range images {
		distance, ok := platformDistance(want, *m.Platform)
		missingPlatform.Have = append(missingPlatform.Have, *m.Platform)
		if ok && (bestDistance < 0 || distance < bestDistance) {
			best, bestDistance = m, distance
		}
	}
	if bestDistance < 0 {
		return ocispec.Descriptor{}, missingPlatform
	}
	return best, nil
}

// indexImages lists the container images of an index and of the indexes in
// it, each with its platform. Attestations are left out.
func indexImages(ctx context.Context, from blobReader, index ocispec.Descriptor, depth int) ([]ocispec.Descriptor, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("index %s: more than %d indexes within each other", index.Digest, maxDepth)
	}
	doc, err := readDocument(ctx, from, index)
	if err != nil {
		return nil, err
	}
	if doc.index == nil {
		return nil, fmt.Errorf("read index %s: it is a manifest", index.Digest)
	}
	var list []ocispec.Descriptor
	for _, m := range doc.index.Manifests {
		more, err := indexChild(ctx, from, m, depth)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

func indexChild(ctx context.Context, from blobReader, m ocispec.Descriptor, depth int) ([]ocispec.Descriptor, error) {
	switch {
	case isIndexType(m.MediaType):
		return indexImages(ctx, from, m, depth+1)
	case !isManifestType(m.MediaType):
		return nil, nil
	case m.Platform == nil:
		doc, err := readDocument(ctx, from, m)
		if err != nil {
			return nil, err
		}
		if !isConfigType(doc.manifest.Config.MediaType) {
			return nil, nil
		}
		img, err := readImage(ctx, from, m, doc.manifest)
		if err != nil {
			return nil, err
		}
		m.Platform = &img.Config.Platform
	}
	if m.Platform.OS == "unknown" || m.Annotations[attestationType] != "" {
		return nil, nil
	}
	return []ocispec.Descriptor{m}, nil
}
