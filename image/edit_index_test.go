package image

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func readIndexOf(t *testing.T, s *Store, desc ocispec.Descriptor) *ocispec.Index {
	t.Helper()
	doc, err := readDocument(t.Context(), s, desc)
	if err != nil || doc.index == nil {
		t.Fatalf("%v", err)
	}
	return doc.index
}

func TestAssembleIndex(t *testing.T) {
	s := newStore(t)
	_, images := bundle(t, s, "multi:v1")
	bare := images[1]
	bare.Platform = nil
	artifact, attestation := putArtifact(t, s, images[0]), putAttestation(t, s, images[1])
	a, _ := foreign()
	desc, err := s.AssembleIndex(t.Context(), []ocispec.Descriptor{images[0], bare, artifact, attestation, images[0]}, map[string]string{"a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	validate(t, s, desc)
	index := readIndexOf(t, s, desc)
	if len(index.Manifests) != 4 || index.Annotations["a"] != "1" || index.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("%+v", index)
	}
	if p := index.Manifests[1].Platform; p == nil || FormatPlatform(*p) != FormatPlatform(a) {
		t.Errorf("platform %v", p)
	}
	if got := index.Manifests[2].ArtifactType; got != "application/vnd.test.note" {
		t.Errorf("artifact type %q", got)
	}
	again, err := s.AssembleIndex(t.Context(), []ocispec.Descriptor{images[0], bare, artifact, attestation}, map[string]string{"a": "1"})
	if err != nil || again.Digest != desc.Digest {
		t.Errorf("another digest the second time: %v, %v", again, err)
	}
}

func TestAssembleIndexRefuses(t *testing.T) {
	s := newStore(t)
	_, images := bundle(t, s, "multi:v1")
	img := mustHave(t, s, "multi:v1")
	twin := images[1]
	twin.Platform = images[0].Platform
	var taken *PlatformTakenError
	if _, err := s.AssembleIndex(t.Context(), []ocispec.Descriptor{images[0], twin}, nil); !errors.As(err, &taken) {
		t.Errorf("two for one platform: %v", err)
	}
	if _, err := s.AssembleIndex(t.Context(), []ocispec.Descriptor{img.Manifest.Config}, nil); err == nil {
		t.Error("a config was taken for a manifest")
	}
	lose(t, s, images...)
	if _, err := s.AssembleIndex(t.Context(), images, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing is there: %v", err)
	}
}

func TestEditIndexTogether(t *testing.T) {
	s := newStore(t)
	ref := mustRef(t, "multi:v1")
	if _, err := s.CreateIndex(t.Context(), ref, CreateIndexOptions{}); err != nil {
		t.Fatal(err)
	}
	const n = 8
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		p := ocispec.Platform{OS: "linux", Architecture: "arm", Variant: fmt.Sprintf("v%d", i)}
		cfg := testConfig(fmt.Sprint(i))
		cfg.Platform = p
		desc, err := s.Assemble(t.Context(), cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			_, errs[i] = s.EditIndex(context.Background(), ref, func(e *IndexEdit) error { return e.Add(context.Background(), desc) })
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	desc, err := s.Lookup(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(readIndexOf(t, s, desc).Manifests); got != n {
		t.Errorf("%d of %d additions are left", got, n)
	}
	mustBeClean(t, s)
}

func TestEditIndex(t *testing.T) {
	s := newStore(t)
	index, images := bundle(t, s, "multi:v1")
	ref := mustRef(t, "multi:v1")
	edit := func(f func(e *IndexEdit) error) (*ocispec.Index, error) {
		desc, err := s.EditIndex(t.Context(), ref, f)
		if err != nil {
			return nil, err
		}
		return readIndexOf(t, s, desc), nil
	}
	// What goes with an image goes with it.
	got, err := edit(func(e *IndexEdit) error { return e.Remove(t.Context(), images[1].Digest.Encoded()[:12]) })
	if err != nil || len(got.Manifests) != len(readIndexOf(t, s, index).Manifests)-2 {
		t.Errorf("%+v, %v", got, err)
	}
	var none *NoEntryError
	for _, name := range []string{images[1].Digest.String(), "linux/nothing", "nowhere:v1", "ffffffff", "Bad Name"} {
		if _, err := edit(func(e *IndexEdit) error { return e.Remove(t.Context(), name) }); !errors.As(err, &none) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var many *AmbiguousError
	_, err = edit(func(e *IndexEdit) error {
		e.index.Manifests = append(e.index.Manifests, e.index.Manifests[0])
		return e.Remove(t.Context(), e.index.Manifests[0].Digest.String())
	})
	if !errors.As(err, &many) {
		t.Errorf("%v", err)
	}
	mustBuild(t, s, "one:v1", file{"a", "1"})
	var single *NotIndexError
	if _, err := s.EditIndex(t.Context(), mustRef(t, "one:v1"), nil); !errors.As(err, &single) {
		t.Errorf("%v", err)
	}
	if _, err := s.EditIndex(t.Context(), mustRef(t, "none:v1"), nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}
