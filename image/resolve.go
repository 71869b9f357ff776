package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Resolve finds an image by reference, reference@digest, digest of a manifest
// or index, image id, or the beginning of one of these digests, with or
// without "sha256:". A name goes before an id that begins alike. The errors
// are ErrNotFound, *AmbiguousError and *RefError.
func (s *Store) Resolve(ctx context.Context, name string) (ocispec.Descriptor, error) {
	found, err := s.find(ctx, name)
	return found.Descriptor, err
}

// find is Resolve that tells the table's name too; a zero Ref for an image
// that was found by its digest.
func (s *Store) find(ctx context.Context, name string) (Reference, error) {
	table, err := s.References(ctx)
	if err != nil {
		return Reference{}, err
	}
	ref, refErr := ParseRef(name)
	if refErr == nil {
		for _, r := range table {
			if matches(r, ref.WithDefaultTag()) {
				return r, nil
			}
		}
	}
	prefix, isID := strings.CutPrefix(name, "sha256:")
	switch {
	case hexID.MatchString(prefix) && (isID || refErr != nil || ref.tag == ""):
		desc, err := s.byID(ctx, table, name, prefix)
		return Reference{Descriptor: desc}, err
	case refErr != nil:
		return Reference{}, refErr
	case ref.digest != "":
		desc, err := s.byID(ctx, table, ref.Familiar(), ref.digest.Encoded())
		return Reference{Descriptor: desc}, err
	}
	return Reference{}, fmt.Errorf("image %s: %w", ref.WithDefaultTag().Familiar(), ErrNotFound)
}

// candidate is an image that an id may stand for.
type candidate struct {
	desc ocispec.Descriptor
	id   digest.Digest // of the config; of the index itself for an index
}

// byID looks among the images that have names first, then among all blobs.
func (s *Store) byID(ctx context.Context, table []Reference, name, prefix string) (ocispec.Descriptor, error) {
	for _, list := range []func(context.Context, []Reference) ([]candidate, error){s.namedImages, s.allImages} {
		candidates, err := list(ctx, table)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		desc, err := pickID(candidates, name, prefix)
		if err != nil || desc.Digest != "" {
			return desc, err
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("image %s: %w", name, ErrNotFound)
}

// pickID gives a zero descriptor when nothing matches. Manifests with the
// same config are one image: the first of them.
func pickID(candidates []candidate, name, prefix string) (ocispec.Descriptor, error) {
	var first ocispec.Descriptor
	var ids, matched []digest.Digest
	for _, c := range candidates {
		var match digest.Digest
		switch {
		case strings.HasPrefix(c.id.Encoded(), prefix):
			match = c.id
		case strings.HasPrefix(c.desc.Digest.Encoded(), prefix):
			match = c.desc.Digest
		default:
			continue
		}
		if len(ids) == 0 {
			first = c.desc
		}
		if !slices.Contains(ids, c.id) {
			ids = append(ids, c.id)
			matched = append(matched, match)
		}
	}
	if len(ids) > 1 {
		return ocispec.Descriptor{}, &AmbiguousError{Name: name, Matches: matched}
	}
	return first, nil
}

// namedImages lists what the table names, and the images of its indexes.
func (s *Store) namedImages(ctx context.Context, table []Reference) ([]candidate, error) {
	var list []candidate
	for _, r := range table {
		more, err := s.imagesBelow(ctx, r.Descriptor)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

// imagesBelow passes over what cannot be read.
func (s *Store) imagesBelow(ctx context.Context, desc ocispec.Descriptor) ([]candidate, error) {
	c := closure{from: s, present: s.there, problem: func(ocispec.Descriptor, error) {}}
	if err := c.add(ctx, desc); err != nil {
		return nil, err
	}
	var list []candidate
	for _, d := range c.found {
		one, ok, err := s.asImage(ctx, d)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, one)
		}
	}
	return list, nil
}

// asImage reads a manifest or index; anything else is not ok.
func (s *Store) asImage(ctx context.Context, d ocispec.Descriptor) (c candidate, ok bool, err error) {
	if d.MediaType != "" && !isIndexType(d.MediaType) && !isManifestType(d.MediaType) {
		return candidate{}, false, nil
	}
	doc, err := readDocument(ctx, s, d)
	switch {
	case err != nil:
		return candidate{}, false, ctx.Err()
	case doc.index != nil:
		d.MediaType = orDefault(d.MediaType, doc.index.MediaType, ocispec.MediaTypeImageIndex)
		return candidate{d, d.Digest}, true, nil
	}
	d.MediaType = orDefault(d.MediaType, doc.manifest.MediaType, ocispec.MediaTypeImageManifest)
	return candidate{d, doc.manifest.Config.Digest}, true, nil
}

func orDefault(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// allImages reads every blob that may be a manifest or index.
func (s *Store) allImages(ctx context.Context, _ []Reference) ([]candidate, error) {
	var list []candidate
	err := s.eachBlob(func(b blobFile) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if b.info.Size() > maxManifest || !beginsDocument(b.path) {
			return nil
		}
		c, ok, err := s.asImage(ctx, ocispec.Descriptor{Digest: b.digest, Size: b.info.Size()})
		if ok {
			list = append(list, c)
		}
		return err
	})
	return list, err
}

// beginsDocument reports whether the file begins as JSON of a manifest does.
// Layers and most else do not.
func beginsDocument(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 512)
	n, _ := io.ReadFull(f, head)
	return bytes.HasPrefix(bytes.TrimSpace(head[:n]), []byte("{"))
}

// there reports whether a blob is in the store and leaves no mark.
func (s *Store) there(d digest.Digest) bool {
	f, err := s.openBlob(d)
	if err != nil {
		return false
	}
	f.Close()
	return true
}
