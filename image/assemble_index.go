package image

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// AssembleIndex writes an index of manifests, in that order, with OCI media
// types, and makes it and what it names durable. An entry without a platform
// gets the one its config says. Manifests may be absent if their descriptors are
// complete, though not all of them. The same input gives the same digest.
func (s *Store) AssembleIndex(ctx context.Context, manifests []ocispec.Descriptor, annotations map[string]string) (ocispec.Descriptor, error) {
	index := newIndex()
	index.Annotations = annotations
	desc, err := s.assembleIndex(ctx, index, manifests)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("assemble index: %w", err)
	}
	return desc, nil
}

func (s *Store) assembleIndex(ctx context.Context, index *ocispec.Index, manifests []ocispec.Descriptor) (ocispec.Descriptor, error) {
	for _, m := range manifests {
		entry, err := s.indexEntry(ctx, m)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		if err := addEntry(index, entry); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	return s.putIndex(ctx, index)
}

// putIndex stores an index and makes it and what is there of it durable.
func (s *Store) putIndex(ctx context.Context, index *ocispec.Index) (ocispec.Descriptor, error) {
	if index.Manifests == nil {
		index.Manifests = []ocispec.Descriptor{}
	}
	desc, err := s.putDocument(ctx, orDefault(index.MediaType, ocispec.MediaTypeImageIndex), index)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	needs, err := s.useAll(ctx, desc)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return desc, needs.sync(ctx, s)
}

// indexEntry completes what an index says of a manifest.
func (s *Store) indexEntry(ctx context.Context, desc ocispec.Descriptor) (ocispec.Descriptor, error) {
	desc = withoutName(desc)
	if err := checkDescriptor(desc); err != nil {
		return desc, err
	}
	if !isIndexType(desc.MediaType) && !isManifestType(desc.MediaType) {
		return desc, fmt.Errorf("%s has media type %q and is neither a manifest nor an index", desc.Digest, desc.MediaType)
	}
	if !s.Use(desc.Digest) || isIndexType(desc.MediaType) {
		return desc, nil
	}
	doc, err := readDocument(ctx, s, desc)
	if err != nil {
		return desc, err
	}
	facts, err := readFacts(ctx, s, desc, doc.manifest)
	switch {
	case err != nil:
		return desc, err
	case facts.Kind == KindArtifact && desc.ArtifactType == "":
		desc.ArtifactType = facts.ArtifactType
	case facts.Kind == KindImage && desc.Platform == nil:
		p := facts.Platform
		desc.Platform = &p
	}
	return desc, nil
}

// addEntry adds an entry to an index, in place of the same manifest for the same
// platform.
func addEntry(index *ocispec.Index, entry ocispec.Descriptor) error {
	for i, m := range index.Manifests {
		samePlace := m.Platform == nil || entry.Platform == nil || samePlatform(*m.Platform, *entry.Platform)
		if m.Digest == entry.Digest && samePlace {
			index.Manifests[i] = entry
			return nil
		}
		if isImageEntry(m) && isImageEntry(entry) && samePlatform(*m.Platform, *entry.Platform) {
			return &PlatformTakenError{Platform: *m.Platform, Manifest: m.Digest}
		}
	}
	index.Manifests = append(index.Manifests, entry)
	return nil
}

// isImageEntry reports whether an entry is a container image with its platform.
func isImageEntry(m ocispec.Descriptor) bool {
	return isManifestType(m.MediaType) && m.Platform != nil && m.Platform.OS != "unknown" && m.Annotations[attestationType] == "" && m.ArtifactType == ""
}

func samePlatform(a, b ocispec.Platform) bool {
	a, b = NormalPlatform(a), NormalPlatform(b)
	return a.OS == b.OS && a.Architecture == b.Architecture && a.Variant == b.Variant &&
		a.OSVersion == b.OSVersion && slices.Equal(a.OSFeatures, b.OSFeatures)
}

// PlatformTakenError says that an index has an image for the platform already.
type PlatformTakenError struct {
	Platform ocispec.Platform
	Manifest digest.Digest
}

// Error names the image that is there.
func (e *PlatformTakenError) Error() string {
	return fmt.Sprintf("the index has an image for %s already: %s", FormatPlatform(e.Platform), e.Manifest)
}

// IndexEntries gives what an index takes from an image that Resolve finds: the
// manifest, or of an index all its entries; with platforms only the images for
// these.
func (s *Store) IndexEntries(ctx context.Context, name string, platforms []ocispec.Platform) ([]ocispec.Descriptor, error) {
	desc, err := s.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	var list []ocispec.Descriptor
	for _, p := range platforms {
		img, err := s.Select(ctx, desc, &p)
		if err != nil {
			return nil, err
		}
		entry, err := s.indexEntry(ctx, img.Descriptor)
		if err != nil {
			return nil, err
		}
		list = append(list, entry)
	}
	if len(list) > 0 {
		return list, nil
	}
	doc, err := readDocument(ctx, s, desc)
	switch {
	case err != nil:
		return nil, err
	case doc.index != nil:
		return doc.index.Manifests, nil
	}
	entry, err := s.indexEntry(ctx, desc)
	return []ocispec.Descriptor{entry}, err
}

// CreateIndexOptions says what CreateIndex makes.
type CreateIndexOptions struct {
	// Images are names as IndexEntries takes them, and Platforms what to take
	// of each.
	Images    []string
	Platforms []ocispec.Platform
	// Annotations are those of the index.
	Annotations map[string]string
	// Amend adds to an index that has the name already.
	Amend bool
}

// ExistsError says that a name is taken.
type ExistsError struct{ Ref Ref }

// Error tells the name.
func (e *ExistsError) Error() string { return e.Ref.Familiar() + " is in the store already" }

// CreateIndex makes an index of images, which may be none yet, and names it. A
// name that is taken is an *ExistsError unless the options let it add to what
// is there.
func (s *Store) CreateIndex(ctx context.Context, ref Ref, o CreateIndexOptions) (ocispec.Descriptor, error) {
	var entries []ocispec.Descriptor
	for _, name := range o.Images {
		more, err := s.IndexEntries(ctx, name, o.Platforms)
		if err != nil {
			return ocispec.Descriptor{}, &EntryError{name, err}
		}
		entries = append(entries, more...)
	}
	_, err := s.Lookup(ctx, ref)
	switch {
	case err == nil && !o.Amend:
		return ocispec.Descriptor{}, &ExistsError{ref.entryName()}
	case err == nil:
		return s.EditIndex(ctx, ref, func(e *IndexEdit) error {
			return errors.Join(e.Add(ctx, entries...), e.Annotate(ctx, "", Annotation{Annotations: o.Annotations}))
		})
	case !errors.Is(err, ErrNotFound):
		return ocispec.Descriptor{}, err
	}
	lease, err := s.Lease(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer lease.Release()
	desc, err := s.AssembleIndex(ctx, entries, mergeAnnotations(nil, o.Annotations))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return desc, s.Tag(ctx, ref, desc)
}

// EntryError is an error about one image that an index was to be made of.
type EntryError struct {
	Name string
	Err  error
}

// Error tells the image and the cause.
func (e *EntryError) Error() string { return e.Name + ": " + e.Err.Error() }

// Unwrap is the cause.
func (e *EntryError) Unwrap() error { return e.Err }
