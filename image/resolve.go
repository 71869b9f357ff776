package image

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
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
	m := s.openMemo()
	defer m.save()
	return s.resolveIn(ctx, m, name)
}

func (s *Store) resolveIn(ctx context.Context, m *memo, name string) (Reference, error) {
	table, err := m.entries(ctx)
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
	case isHexID(prefix) && (isID || refErr != nil || ref.tag == ""):
		desc, err := s.byID(ctx, m, name, prefix)
		return Reference{Descriptor: desc}, err
	case refErr != nil:
		return Reference{}, refErr
	case ref.digest != "":
		desc, err := s.byID(ctx, m, ref.Familiar(), ref.digest.Encoded())
		return Reference{Descriptor: desc}, err
	}
	return Reference{}, fmt.Errorf("image %s: %w", ref.WithDefaultTag().Familiar(), ErrNotFound)
}

// candidate is an image that an id may stand for.
type candidate struct {
	desc ocispec.Descriptor
	id   digest.Digest
}

// byID looks among the images of the table first, then among all blobs.
func (s *Store) byID(ctx context.Context, m *memo, name, prefix string) (ocispec.Descriptor, error) {
	listed, err := s.tableSummaries(ctx, m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc, err := pickID(candidates(listed), name, prefix)
	if err != nil || desc.Digest != "" {
		return desc, err
	}
	found, err := s.documentBlobs(ctx, nil)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var loose []Summary
	for _, d := range found {
		loose = append(loose, m.summarise(ctx, d))
	}
	desc, err = pickID(candidates(loose), name, prefix)
	if err == nil && desc.Digest == "" {
		err = fmt.Errorf("image %s: %w", name, ErrNotFound)
	}
	return desc, err
}

// candidates are the images of a list and the images of its indexes.
func candidates(list []Summary) []candidate {
	var all []candidate
	for i := range list {
		s := &list[i]
		if s.Err != nil {
			continue
		}
		all = append(all, candidate{s.Descriptor, s.ID()})
		for _, member := range s.Members {
			if member.Present && s.IsIndex {
				all = append(all, candidate{member.Descriptor, member.ID})
			}
		}
	}
	return all
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

func orDefault(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// beginsDocument reports whether the file begins as JSON of a manifest does.
// Layers and most else do not. It is asked of every blob there is, so it goes without
// what an os.File costs.
func beginsDocument(path string) bool {
	fd, err := uninterrupted(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) })
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var head [512]byte
	n, err := uninterrupted(func() (int, error) { return unix.Read(fd, head[:]) })
	return err == nil && bytes.HasPrefix(bytes.TrimSpace(head[:n]), []byte("{"))
}

// uninterrupted repeats a system call that a signal has cut short.
func uninterrupted(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// Has reports whether the store has a blob. Unlike Use it leaves no mark.
func (s *Store) Has(d digest.Digest) bool { return s.there(d) }

// there reports whether a blob is in the store, wherever a prune may just have
// put it, and leaves no mark.
func (s *Store) there(d digest.Digest) bool {
	if checkDigest(d) != nil {
		return false
	}
	blob := s.blobPath(d)
	for _, path := range []string{blob, s.trashPath(d), blob} {
		if unix.Access(path, unix.F_OK) == nil {
			return true
		}
	}
	return s.aside.blob(d) != nil
}
