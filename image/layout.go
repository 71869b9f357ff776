package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Take copies an image, or an index with what of it is there, from another OCI
// image layout into the store. name is a tag or a digest; empty is the only
// image of the layout. Every blob is verified. The store gives it no name.
func (s *Store) Take(ctx context.Context, dir, name string) (ocispec.Descriptor, error) {
	l := layoutDir(dir)
	desc, err := l.find(name)
	if err == nil {
		err = s.take(ctx, l, desc, 0)
	}
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("image layout %s: %w", dir, err)
	}
	return desc, nil
}

// take copies what a document names, then the document.
func (s *Store) take(ctx context.Context, l layoutDir, desc ocispec.Descriptor, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("more than %d indexes within each other", maxDepth)
	}
	if isIndexType(desc.MediaType) || isManifestType(desc.MediaType) {
		if err := s.takeChildren(ctx, l, desc, depth); err != nil {
			return err
		}
	}
	f, err := os.Open(l.blob(desc.Digest))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = s.Put(ctx, ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}, f)
	return err
}

func (s *Store) takeChildren(ctx context.Context, l layoutDir, desc ocispec.Descriptor, depth int) error {
	doc, err := readDocument(ctx, l, desc)
	if err != nil {
		return err
	}
	for _, child := range doc.children() {
		if err := checkDescriptor(child); err != nil {
			return err
		}
		if _, err := os.Lstat(l.blob(child.Digest)); errors.Is(err, fs.ErrNotExist) && (doc.index != nil || len(child.URLs) > 0) {
			continue // an image for a platform that was left out, or a foreign layer
		}
		if err := s.take(ctx, l, child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// layoutDir is an OCI image layout that is only read.
type layoutDir string

func (l layoutDir) blob(d digest.Digest) string {
	return filepath.Join(string(l), ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// ReadBlob reads a document.
func (l layoutDir) ReadBlob(_ context.Context, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, err
	}
	info, err := os.Stat(l.blob(desc.Digest))
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", desc.Digest, limit)
	}
	text, err := os.ReadFile(l.blob(desc.Digest))
	if err == nil && desc.Digest.Algorithm().FromBytes(text) != desc.Digest {
		return nil, &VerifyError{Want: desc.Digest, WantSize: desc.Size, GotSize: int64(len(text))}
	}
	return text, err
}

// find looks a tag or a digest up in the layout's index.
func (l layoutDir) find(name string) (ocispec.Descriptor, error) {
	text, err := os.ReadFile(filepath.Join(string(l), ocispec.ImageIndexFile))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	doc, err := decodeDocument(ocispec.MediaTypeImageIndex, text)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var found []ocispec.Descriptor
	for _, m := range doc.index.Manifests {
		if name == "" || m.Digest.String() == name || m.Annotations[ocispec.AnnotationRefName] == name {
			found = append(found, m)
		}
	}
	switch {
	case len(found) == 0:
		return ocispec.Descriptor{}, fmt.Errorf("no image %q: %w", name, ErrNotFound)
	case len(found) > 1 && name == "":
		return ocispec.Descriptor{}, fmt.Errorf("%d images, name one by its tag or digest", len(found))
	}
	return found[0], checkDescriptor(found[0])
}
