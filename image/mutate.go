package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocibuild/ocibuild/image/layer"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Mutation says how Mutate changes an image. The zero value changes nothing.
type Mutation struct {
	// Config changes the config. What it says of layers and history is not
	// looked at.
	Config func(*Config) error
	// Annotations are set in the manifest; an empty value takes one away.
	Annotations map[string]string
	// Squash puts what all layers come to into one, and needs TOCs.
	Squash bool
	TOCs   TOCs
}

// Mutate makes a changed copy of an image and gives it no name. Of an index it
// changes every image, which must all be there; what builders have said of them
// is left out, since it is no longer about them. The same image and the same
// changes give the same digest. Hold a lease until the result is used.
func (s *Store) Mutate(ctx context.Context, desc ocispec.Descriptor, m Mutation) (ocispec.Descriptor, error) {
	out, err := s.mapImages(ctx, desc, 0, func(img *Image) (ocispec.Descriptor, error) { return s.mutateImage(ctx, img, m) })
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("change image: %w", err)
	}
	return out, nil
}

func (s *Store) mutateImage(ctx context.Context, img *Image, m Mutation) (ocispec.Descriptor, error) {
	cfg, layers := img.Config, img.Layers
	if m.Config != nil {
		if err := m.Config(&cfg); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	cfg.History = img.Config.History
	if m.Squash && len(layers) > 0 {
		ly, err := s.squash(ctx, layers, m.TOCs)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		cfg.History = squashedHistory(img)
		layers = []Layer{ly}
	}
	return s.AssembleAnnotated(ctx, cfg, layers, mergeAnnotations(img.Manifest.Annotations, m.Annotations))
}

// squash makes one layer of what layers come to.
func (s *Store) squash(ctx context.Context, layers []Layer, memo TOCs) (Layer, error) {
	files, err := s.Files(ctx, layers, memo)
	if err != nil {
		return Layer{}, err
	}
	return s.WriteLayer(memo, func(w *layer.Writer) error { return files.flatten(ctx, w) })
}

// WriteLayer stores the layer that write makes, uncompressed, and remembers its
// table of contents.
func (s *Store) WriteLayer(memo TOCs, write func(*layer.Writer) error) (Layer, error) {
	blob, err := s.Create()
	if err != nil {
		return Layer{}, err
	}
	defer blob.Abort()
	w := layer.NewWriter(blob)
	if err := write(w); err != nil {
		return Layer{}, err
	}
	digests, toc, err := w.Close()
	if err != nil {
		return Layer{}, err
	}
	desc, err := blob.Commit(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer})
	if err != nil {
		return Layer{}, err
	}
	return Layer{Descriptor: desc, DiffID: desc.Digest, Content: digests.Content}, memo.PutTOC(desc.Digest, toc.Marshal())
}

// squashedHistory keeps what was done, as entries that gave no layer, before the
// one that gave it.
func squashedHistory(img *Image) []ocispec.History {
	var history []ocispec.History
	for _, h := range img.Config.History {
		h.EmptyLayer = true
		history = append(history, h)
	}
	return append(history, ocispec.History{
		Created: img.Config.Created, Comment: fmt.Sprintf("squashed %d layers of %s", len(img.Layers), img.ID()),
	})
}

// mapImages puts what change makes of it in the place of every image. Artifacts
// stay as they are.
func (s *Store) mapImages(ctx context.Context, desc ocispec.Descriptor, depth int, change func(*Image) (ocispec.Descriptor, error)) (ocispec.Descriptor, error) {
	if depth > maxDepth {
		return desc, fmt.Errorf("index %s: more than %d indexes within each other", desc.Digest, maxDepth)
	}
	doc, err := readDocument(ctx, s, desc)
	if err != nil {
		return desc, err
	}
	if doc.index == nil {
		img, err := readImage(ctx, s, desc, doc.manifest)
		var other *NotImageError
		switch {
		case errors.As(err, &other) && depth > 0:
			return desc, nil
		case err != nil:
			return desc, err
		}
		return change(img)
	}
	var entries []ocispec.Descriptor
	for _, child := range doc.index.Manifests {
		entry, keep, err := s.mapEntry(ctx, child, depth, change)
		if err != nil {
			return desc, err
		}
		if keep {
			entries = append(entries, entry)
		}
	}
	doc.index.Manifests = entries
	doc.index.MediaType = ocispec.MediaTypeImageIndex
	return s.putIndex(ctx, doc.index)
}

// mapEntry changes an entry of an index; keep is false for what goes.
func (s *Store) mapEntry(ctx context.Context, entry ocispec.Descriptor, depth int, change func(*Image) (ocispec.Descriptor, error)) (out ocispec.Descriptor, keep bool, err error) {
	switch {
	case entry.Annotations[attestationType] != "":
		return entry, false, nil
	case !isManifestType(entry.MediaType) && !isIndexType(entry.MediaType):
		return entry, true, nil
	case !s.there(entry.Digest):
		p := ocispec.Platform{OS: "unknown", Architecture: "unknown"}
		if entry.Platform != nil {
			p = *entry.Platform
		}
		return entry, false, &PlatformError{Image: entry.Digest, Want: p, Absent: true}
	}
	changed, err := s.mapImages(ctx, entry, depth+1, change)
	if err != nil {
		return entry, false, err
	}
	entry.MediaType, entry.Digest, entry.Size = changed.MediaType, changed.Digest, changed.Size
	if changed.Platform != nil {
		entry.Platform = changed.Platform
	}
	return entry, true, nil
}
