package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	for _, kind := range []string{"kill", "power failure, bytes lost", "power failure, names lost"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := scratch(t)
			for n := 1; ; n += 6 * shortStep() {
				if crashVerbs(t, filepath.Join(dir, fmt.Sprint(n)), kind, n) {
					return
				}
			}
		})
	}
}

// crashVerbs stops a life at its nth change, and wants what is left to be whole
// and good enough to live it again.
func crashVerbs(t *testing.T, root, kind string, n int) (done bool) {
	boot := "1"
	p := &tape{}
	s := openTest(t, root, disk{before: p.before, boot: func() string { return boot }, flush: noFlush})
	if _, err := build(t.Context(), s, "old:v1", []byte("layer 0")); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.count, p.stopAt = 0, n
	p.mu.Unlock()
	err := lifeOfVerbs(t.Context(), s)
	if p.stopped == "" {
		if err != nil {
			t.Fatalf("without a crash: %v", err)
		}
		mustBeClean(t, s)
		mustHave(t, s, "multi:v1")
		return true
	}
	switch kind {
	case "power failure, bytes lost":
		p.loseBytes(t)
		boot = "2"
	case "power failure, names lost":
		p.loseNames(t)
		boot = "2"
	}
	after := openTest(t, root, disk{boot: func() string { return boot }, flush: noFlush})
	mustBeClean(t, after)
	mustHave(t, after, "old:v1")
	if _, err := after.List(t.Context(), ListOptions{Unnamed: true}); err != nil {
		t.Errorf("list: %v", err)
	}
	if err := lifeOfVerbs(t.Context(), after); err != nil {
		t.Errorf("the same again: %v", err)
	}
	mustBeClean(t, after)
	mustHave(t, after, "multi:v1")
	if list, err := after.Layers(t.Context()); err != nil || len(list) == 0 {
		t.Errorf("layers: %v, %v", list, err)
	}
	if t.Failed() {
		t.Fatalf("after a crash at %d (%s)", n, p.stopped)
	}
	os.RemoveAll(root)
	return false
}
