package image

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// IndexEdit changes the index that a name stands for, one call after the other.
type IndexEdit struct {
	store *Store
	index *ocispec.Index
}

// NotIndexError says that a name stands for one image where an index is wanted.
type NotIndexError struct{ Name string }

// Error tells the name.
func (e *NotIndexError) Error() string { return e.Name + " is one image, not an index of several" }

// EditIndex lets edit change the index that ref names, and names the result. It
// keeps others who do so waiting. Without such a name the error is ErrNotFound,
// with one of a manifest a *NotIndexError.
func (s *Store) EditIndex(ctx context.Context, ref Ref, edit func(*IndexEdit) error) (ocispec.Descriptor, error) {
	unlock, err := s.Lock(ctx, "edit "+ref.entryName().String())
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer unlock()
	lease, err := s.Lease(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer lease.Release()
	old, err := s.Lookup(ctx, ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	doc, err := readDocument(ctx, s, old)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if doc.index == nil {
		return ocispec.Descriptor{}, &NotIndexError{ref.Familiar()}
	}
	doc.index.MediaType = orDefault(old.MediaType, doc.index.MediaType)
	if err := edit(&IndexEdit{s, doc.index}); err != nil {
		return ocispec.Descriptor{}, err
	}
	desc, err := s.putIndex(ctx, doc.index)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("change index %s: %w", ref.Familiar(), err)
	}
	return desc, s.Tag(ctx, ref, desc)
}

// Add adds manifests. One that is there already is replaced in its place.
func (e *IndexEdit) Add(ctx context.Context, manifests ...ocispec.Descriptor) error {
	for _, m := range manifests {
		entry, err := e.store.indexEntry(ctx, m)
		if err != nil {
			return err
		}
		if err := addEntry(e.index, entry); err != nil {
			return err
		}
	}
	return nil
}

// Remove takes the entry away that name stands for, as find finds it, and what
// builders say of it.
func (e *IndexEdit) Remove(ctx context.Context, name string) error {
	at, err := e.find(ctx, name)
	if err != nil {
		return err
	}
	gone := e.index.Manifests[at].Digest
	e.index.Manifests = slices.DeleteFunc(e.index.Manifests, func(m ocispec.Descriptor) bool {
		return m.Digest == gone || m.Annotations[attestationOf] == gone.String()
	})
	return nil
}

// Annotation is what Annotate sets. Fields that are empty stay as they are.
type Annotation struct {
	Platform    ocispec.Platform
	Annotations map[string]string // an empty value takes the key away
}

// Annotate changes what the index says of the entry that name stands for, or of
// itself where name is empty.
func (e *IndexEdit) Annotate(ctx context.Context, name string, a Annotation) error {
	if name == "" {
		e.index.Annotations = mergeAnnotations(e.index.Annotations, a.Annotations)
		return nil
	}
	at, err := e.find(ctx, name)
	if err != nil {
		return err
	}
	m := &e.index.Manifests[at]
	*m = a.Of(*m)
	for i, other := range e.index.Manifests {
		if i != at && isImageEntry(other) && isImageEntry(*m) && samePlatform(*other.Platform, *m.Platform) {
			return &PlatformTakenError{Platform: *m.Platform, Manifest: other.Digest}
		}
	}
	return nil
}

// Of gives desc with the annotation.
func (a Annotation) Of(desc ocispec.Descriptor) ocispec.Descriptor {
	desc.Annotations = mergeAnnotations(desc.Annotations, a.Annotations)
	p := ocispec.Platform{}
	if desc.Platform != nil {
		p = *desc.Platform
	}
	p.OS, p.Architecture = orDefault(a.Platform.OS, p.OS), orDefault(a.Platform.Architecture, p.Architecture)
	p.Variant, p.OSVersion = orDefault(a.Platform.Variant, p.Variant), orDefault(a.Platform.OSVersion, p.OSVersion)
	if a.Platform.OSFeatures != nil {
		p.OSFeatures = a.Platform.OSFeatures
	}
	if p.OS != "" || p.Architecture != "" || p.Variant != "" || p.OSVersion != "" || p.OSFeatures != nil {
		desc.Platform = &p
	}
	return desc
}

func mergeAnnotations(old, set map[string]string) map[string]string {
	merged := maps.Clone(old)
	if merged == nil {
		merged = make(map[string]string)
	}
	for key, value := range set {
		merged[key] = value
		if value == "" {
			delete(merged, key)
		}
	}
	if len(merged) == 0 {
		return nil
	}
	return merged
}

// find gives the place of the entry that name stands for: the digest of its
// manifest or the beginning of it, a platform, or an image that Resolve finds.
func (e *IndexEdit) find(ctx context.Context, name string) (int, error) {
	hex := strings.TrimPrefix(name, "sha256:")
	var found []int
	var matches []digest.Digest
	for i, m := range e.index.Manifests {
		byDigest := isHexID(hex) && strings.HasPrefix(m.Digest.Encoded(), hex)
		if byDigest || isImageEntry(m) && FormatPlatform(*m.Platform) == name {
			found, matches = append(found, i), append(matches, m.Digest)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
	default:
		return 0, &AmbiguousError{Name: name, Matches: matches}
	}
	desc, err := e.store.Resolve(ctx, name)
	var bad *RefError
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.As(err, &bad) {
		return 0, err
	}
	at := slices.IndexFunc(e.index.Manifests, func(m ocispec.Descriptor) bool { return err == nil && m.Digest == desc.Digest })
	if at < 0 {
		return 0, &NoEntryError{name}
	}
	return at, nil
}

// NoEntryError says that an index has no such entry.
type NoEntryError struct{ Name string }

// Error tells what was looked for.
func (e *NoEntryError) Error() string { return "the index has no entry " + e.Name }
