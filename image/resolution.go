package image

import (
	"context"
	"errors"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Resolution is what a reference stands for: by itself, and in the store.
type Resolution struct {
	// Name is the reference in normal form and Familiar the short one; both are
	// empty for what is an image id and no name.
	Name       string `json:",omitempty"`
	Familiar   string `json:",omitempty"`
	Registry   string `json:",omitempty"`
	Repository string `json:",omitempty"`
	Tag        string `json:",omitempty"`
	// Present says that the store has it. Then Digest and MediaType are those of
	// the manifest or index, Id is the image id, and Names all names that it has.
	Present   bool
	Digest    digest.Digest `json:",omitempty"`
	MediaType string        `json:",omitempty"`
	Id        digest.Digest `json:",omitempty"`
	Names     []string      `json:",omitempty"`
	Platforms []string      `json:",omitempty"` // those that are there
}

// Explain tells what a reference, an image id or the beginning of one stands for.
// It is no error that the store has no such image, unless it could be an id
// only. What is no reference at all is a *RefError.
func (s *Store) Explain(ctx context.Context, text string) (*Resolution, error) {
	m := s.openMemo()
	defer m.save()
	ref, refErr := ParseRef(text)
	hex, isID := strings.CutPrefix(text, "sha256:")
	isID = isID && isHexID(hex)
	found, err := s.resolveIn(ctx, m, text)
	switch {
	case errors.Is(err, ErrNotFound) && refErr == nil && !isID:
		r := &Resolution{}
		r.setRef(ref.WithDefaultTag())
		return r, nil
	case err != nil:
		return nil, err
	}
	r := &Resolution{Present: true, Digest: found.Descriptor.Digest, MediaType: found.Descriptor.MediaType}
	if !found.Ref.IsZero() {
		r.setRef(found.Ref)
	}
	summary := m.summarise(ctx, found.Descriptor)
	if summary.Err != nil {
		return nil, summary.Err
	}
	r.Id = summary.ID()
	for _, i := range summary.Images() {
		if i.Present {
			r.Platforms = append(r.Platforms, FormatPlatform(i.Platform))
		}
	}
	entries, err := m.entries(ctx)
	for _, e := range entries {
		if e.Descriptor.Digest == r.Digest && !e.Ref.IsZero() {
			r.Names = append(r.Names, e.Ref.Familiar())
		}
	}
	return r, err
}

func (r *Resolution) setRef(ref Ref) {
	r.Name, r.Familiar = ref.String(), ref.Familiar()
	r.Registry, r.Repository, r.Tag = ref.host, ref.repo, ref.tag
	if r.Digest == "" {
		r.Digest = ref.digest
	}
}
