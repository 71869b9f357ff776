package image

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// mustRemove removes images and wants no error.
func mustRemove(t *testing.T, s *Store, o RemoveOptions, names ...string) RemoveReport {
	t.Helper()
	report, errs := s.Remove(t.Context(), names, o)
	for _, err := range errs {
		t.Error(err)
	}
	mustBeClean(t, s)
	return report
}

func TestRemove(t *testing.T) {
	s := newStore(t)
	mustBuild(t, s, "app:v1", file{"a", "shared"}, file{"b", "1"})
	mustBuild(t, s, "app:v2", file{"a", "shared"}, file{"b", "2"})
	mustBuild(t, s, "", file{"loose", "1"})
	age(t, s)
	id := mustHave(t, s, "app:v1").ID()
	age(t, s)
	report := mustRemove(t, s, RemoveOptions{}, "app:v1")
	if len(report.Untagged) != 1 || len(report.Deleted) != 1 || report.Deleted[0] != id {
		t.Errorf("%+v", report)
	}
	mustHave(t, s, "app:v2")
	if list, err := s.List(t.Context(), ListOptions{Unnamed: true}); err != nil || listed(list) != "app:v2 ?" && listed(list) != "? app:v2" {
		t.Errorf("%q, %v", listed(list), err)
	}
	if got := len(blobs(t, s)); got != 7 {
		t.Errorf("%d blobs are left", got)
	}
}

func TestRemoveByID(t *testing.T) {
	s := newStore(t)
	desc := mustBuild(t, s, "a:v1", file{"a", "1"})
	if err := s.Tag(t.Context(), mustRef(t, "b:v1"), desc); err != nil {
		t.Fatal(err)
	}
	id := mustHave(t, s, "a:v1").ID().String()
	_, errs := s.Remove(t.Context(), []string{id}, RemoveOptions{})
	var shared *SharedIDError
	if len(errs) != 1 || !errors.As(errs[0], &shared) || len(shared.Refs) != 2 {
		t.Errorf("%v", errs)
	}
	mustHave(t, s, "a:v1")
	age(t, s)
	if report := mustRemove(t, s, RemoveOptions{Force: true}, id[:20]); len(report.Untagged) != 2 || len(report.Deleted) != 1 {
		t.Errorf("%+v", report)
	}
	if left := blobs(t, s); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestRemoveInUse(t *testing.T) {
	s := newStore(t)
	mustBuild(t, s, "app:v1", file{"a", "1"})
	age(t, s)
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	desc, err := s.Resolve(t.Context(), "app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if img, err := s.Select(t.Context(), desc, nil); err != nil {
		t.Fatal(err)
	} else if by, err := s.inUse(&Summary{Descriptor: img.Descriptor}); by != "" || err != nil {
		t.Errorf("only looked at, and %q, %v", by, err)
	}
	id := mustHave(t, s, "app:v1").ID().String() // which marks it
	_, errs := s.Remove(t.Context(), []string{id}, RemoveOptions{})
	var used *InUseError
	if len(errs) != 1 || !errors.As(errs[0], &used) {
		t.Errorf("%v", errs)
	}
	report := mustRemove(t, s, RemoveOptions{Force: true}, id)
	if len(report.Untagged) != 1 || len(report.Deleted) != 0 {
		t.Errorf("%+v", report)
	}
	lease.Release()
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if left := blobs(t, s); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestRemovePlatform(t *testing.T) {
	s := newStore(t)
	_, images := bundle(t, s, "multi:v1")
	a, b := foreign()
	age(t, s)
	report := mustRemove(t, s, RemoveOptions{Platforms: []ocispec.Platform{a, b}}, "multi:v1")
	if len(report.Untagged) != 0 || len(report.Deleted) != 2 {
		t.Errorf("%+v", report)
	}
	for i, there := range []bool{true, false, false} {
		if s.there(images[i].Digest) != there {
			t.Errorf("image %d: there %v, want %v", i, !there, there)
		}
	}
	if got := len(blobs(t, s)); got != 11 {
		t.Errorf("%d blobs are left", got)
	}
	var none *PlatformError
	if _, errs := s.Remove(t.Context(), []string{"multi:v1"}, RemoveOptions{Platforms: []ocispec.Platform{a}}); len(errs) != 1 || !errors.As(errs[0], &none) || !none.Absent {
		t.Errorf("again: %v", errs)
	}
	var last *LastPlatformError
	if _, errs := s.Remove(t.Context(), []string{"multi:v1"}, RemoveOptions{Platforms: []ocispec.Platform{HostPlatform()}}); len(errs) != 1 || !errors.As(errs[0], &last) {
		t.Errorf("the last: %v", errs)
	}
	mustHave(t, s, "multi:v1")
}

func TestRemoveRefuses(t *testing.T) {
	s := newStore(t)
	_, images := bundle(t, s, "multi:v1")
	a, b := foreign()
	if err := s.Tag(t.Context(), mustRef(t, "one:v1"), images[1]); err != nil {
		t.Fatal(err)
	}
	age(t, s)
	var used *InUseError
	if _, errs := s.Remove(t.Context(), []string{images[2].Digest.String()}, RemoveOptions{}); len(errs) != 1 || !errors.As(errs[0], &used) {
		t.Errorf("part of an index: %v", errs)
	}
	if _, errs := s.Remove(t.Context(), []string{"multi:v1"}, RemoveOptions{Platforms: []ocispec.Platform{a}}); len(errs) != 1 || !errors.As(errs[0], &used) {
		t.Errorf("with a name of its own: %v", errs)
	}
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	s.Use(images[2].Digest)
	if _, errs := s.Remove(t.Context(), []string{"multi:v1"}, RemoveOptions{Platforms: []ocispec.Platform{b}}); len(errs) != 1 || !errors.As(errs[0], &used) {
		t.Errorf("in use: %v", errs)
	}
	for _, img := range images {
		if !s.there(img.Digest) {
			t.Errorf("%s is gone", img.Digest)
		}
	}
	_, errs := s.Remove(t.Context(), []string{"absent:v1", "App", "one:v1"}, RemoveOptions{})
	if len(errs) != 2 || !errors.Is(errs[0], ErrNotFound) {
		t.Errorf("%v", errs)
	}
	if _, err := s.Resolve(t.Context(), "one:v1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an error kept another image: %v", err)
	}
	mustBeClean(t, s)
}

// An artifact that the table has without a name, as other programs write them.
func TestRemoveUnnamedEntry(t *testing.T) {
	s := newStore(t)
	image := mustBuild(t, s, "app:v1", file{"a", "1"})
	note := putArtifact(t, s, image)
	err := s.changeIndex(t.Context(), func(index *ocispec.Index) (bool, error) {
		index.Manifests = append(index.Manifests, note)
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	age(t, s)
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, s)
	if info, err := s.Inspect(t.Context(), "app:v1", nil); err != nil || len(info.Referrers) != 1 || info.Referrers[0].Digest != note.Digest {
		t.Errorf("%+v, %v", info, err)
	}
	age(t, s)
	if report := mustRemove(t, s, RemoveOptions{}, note.Digest.Encoded()[:12]); !equal(report.Deleted, []digest.Digest{note.Digest}) {
		t.Errorf("%+v", report)
	}
	mustHave(t, s, "app:v1")
}
