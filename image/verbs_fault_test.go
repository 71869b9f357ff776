package image

import (
	"context"
	"errors"
	"fmt"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// lifeOfVerbs is what the verbs that change images do, once each. It can be lived
// again after it was cut short.
func lifeOfVerbs(ctx context.Context, s *Store) error {
	ref := mustParse("multi:v1")
	var entries []ocispec.Descriptor
	for i, arch := range []string{"amd64", "s390x", "riscv64"} {
		cfg := testConfig(arch)
		cfg.Platform = linux(arch)
		l, err := addLayer(s, fmt.Appendf(nil, "layer of %s", arch))
		if err != nil {
			return err
		}
		desc, err := s.Assemble(ctx, cfg, []Layer{l})
		if err != nil {
			return err
		}
		if err := s.Tag(ctx, mustParse(fmt.Sprintf("one:v%d", i)), desc); err != nil {
			return err
		}
		entries = append(entries, desc)
	}
	if err := liveWithIndex(ctx, s, ref, entries); err != nil {
		return err
	}
	if err := liveWithLayer(ctx, s, "one:v0"); err != nil {
		return err
	}
	if err := makeOld(s); err != nil {
		return err
	}
	_, errs := s.Remove(ctx, []string{"one:v0", "one:v1", "one:v2", "changed:v1"}, RemoveOptions{})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := makeOld(s); err != nil {
		return err
	}
	_, errs = s.Remove(ctx, []string{"multi:v1"}, RemoveOptions{Platforms: []ocispec.Platform{linux("s390x")}})
	return errors.Join(errs...)
}

func liveWithIndex(ctx context.Context, s *Store, ref Ref, entries []ocispec.Descriptor) error {
	lease, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	index, err := s.AssembleIndex(ctx, entries[:2], nil)
	if err == nil {
		err = s.Tag(ctx, ref, index)
	}
	if err != nil {
		return err
	}
	index, err = s.EditIndex(ctx, ref, func(e *IndexEdit) error { return e.Add(ctx, entries[2]) })
	if err != nil {
		return err
	}
	changed, err := s.Mutate(ctx, index, Mutation{Annotations: map[string]string{"a": "1"}})
	if err != nil {
		return err
	}
	return s.Tag(ctx, mustParse("changed:v1"), changed)
}

func liveWithLayer(ctx context.Context, s *Store, name string) error {
	desc, err := s.Resolve(ctx, name)
	if err != nil {
		return err
	}
	img, err := s.Select(ctx, desc, nil)
	if err != nil {
		return err
	}
	for _, label := range []string{"first", "second"} {
		if _, err := s.KeepLayer(ctx, img.Layers[0].DiffID.String(), map[string]string{"label": label}); err != nil {
			return err
		}
	}
	return nil
}

func TestVerbsCrashAtEveryPoint(t *testing.T) {
	l := settledLife{
		settle: func(t *testing.T, s *Store) {
			if _, err := build(t.Context(), s, "old:v1", []byte("layer 0")); err != nil {
				t.Fatal(err)
			}
		},
		live: lifeOfVerbs,
		name: "multi:v1",
		left: func(t *testing.T, s *Store) {
			mustHave(t, s, "old:v1")
			if _, err := s.List(t.Context(), ListOptions{Unnamed: true}); err != nil {
				t.Errorf("list: %v", err)
			}
		},
		lived: func(t *testing.T, s *Store) {
			if list, err := s.Layers(t.Context()); err != nil || len(list) == 0 {
				t.Errorf("layers: %v, %v", list, err)
			}
		},
	}
	atEveryPoint(t, crashes, 6, l.crash)
}
