package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// document stores a manifest, an index, or what one is made of.
func (x *suite) document(t *testing.T, mediaType string, v any) (desc ocispec.Descriptor) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	x.try(t, "put "+mediaType, func() (err error) {
		desc, err = x.s.Put(t.Context(), ocispec.Descriptor{MediaType: mediaType}, bytes.NewReader(text))
		return err
	})
	return desc
}

func (x *suite) tag(t *testing.T, name string, desc ocispec.Descriptor) {
	t.Helper()
	x.try(t, "tag "+name, func() error { return x.s.Tag(t.Context(), mustRef(t, name), desc) })
}

// everything is a nested index with images of several platforms, an attestation of
// one of them, and an artifact that is about it.
func (x *suite) everything(t *testing.T, name string) ocispec.Descriptor {
	t.Helper()
	one, two, three := x.build(t, "one:v1", "1"), x.build(t, "two:v1", "1", "2"), x.build(t, "three:v1", "3")
	one.Platform, two.Platform, three.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"},
		&ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, &ocispec.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.1"}
	versioned := specs.Versioned{SchemaVersion: 2}
	attestation := x.document(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: versioned, MediaType: ocispec.MediaTypeImageManifest, Config: x.document(t, ocispec.MediaTypeImageConfig, map[string]string{"os": "unknown", "architecture": "unknown"}),
		Layers: []ocispec.Descriptor{x.document(t, "application/vnd.in-toto+json", map[string]string{"predicate": "x"})},
	})
	attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	attestation.Annotations = map[string]string{attestationType: "attestation-manifest", attestationOf: one.Digest.String()}
	artifact := x.document(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: versioned, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.example+type", Subject: &one,
		Config: x.document(t, ocispec.MediaTypeEmptyJSON, struct{}{}), Layers: []ocispec.Descriptor{x.document(t, "text/plain", "signature")},
	})
	artifact.ArtifactType = "application/vnd.example+type"
	inner := x.document(t, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: versioned, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{two, three}, Annotations: map[string]string{"inner": "yes"},
	})
	outer := x.document(t, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: versioned, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{one, inner, attestation, artifact}, Annotations: map[string]string{"outer": "yes"},
	})
	x.tag(t, name, outer)
	return outer
}

// needed lists all that an image leads to.
func (x *suite) needed(t *testing.T, desc ocispec.Descriptor) []digest.Digest {
	t.Helper()
	c := closure{from: x.s, present: x.s.there}
	if err := c.add(t.Context(), desc); err != nil {
		t.Fatal(err)
	}
	return digestsOf(c.found)
}

// testRoundTrip wants what is more than an image to be the same after an archive.
func testRoundTrip(t *testing.T, x *suite) {
	outer := x.everything(t, "all:v1")
	want := x.needed(t, outer)
	for _, format := range []ArchiveFormat{DockerArchive, OCIArchive} {
		var archive bytes.Buffer
		x.try(t, "save", func() error {
			archive.Reset()
			return x.s.Save(t.Context(), &archive, []string{"all:v1"}, SaveOptions{Format: format})
		})
		y := &suite{root: filepath.Join(t.TempDir(), "store"), fail: x.fail, disk: x.disk}
		x.try(t, "open", func() (err error) { y.s, err = open(y.root, x.disk); return err })
		x.try(t, "load", func() error {
			_, err := y.s.Load(t.Context(), bytes.NewReader(archive.Bytes()), LoadOptions{})
			return err
		})
		got, err := y.s.Resolve(t.Context(), "all:v1")
		if err != nil || got.Digest != outer.Digest {
			t.Fatalf("%s: %s, %v", format, got.Digest, err)
		}
		if diff := cmp.Diff(want, y.needed(t, got)); diff != "" {
			t.Errorf("%s: %s", format, diff)
		}
		mustBeClean(t, y.s)
	}
}

// testPlatformGoes wants an index to stay whole while an image of it goes.
func testPlatformGoes(t *testing.T, x *suite) {
	outer := x.everything(t, "all:v1")
	for _, name := range []string{"one:v1", "two:v1", "three:v1"} {
		x.try(t, "untag", func() error { return gone(x.s.Untag(t.Context(), mustRef(t, name))) })
	}
	x.try(t, "remove", func() error {
		_, errs := x.s.Remove(t.Context(), []string{"all:v1"}, RemoveOptions{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "arm", Variant: "v7"}}})
		var absent *PlatformError
		if err := errors.Join(errs...); !errors.As(err, &absent) { // removed by the attempt before
			return err
		}
		return nil
	})
	if got, err := x.s.Resolve(t.Context(), "all:v1"); err != nil || got.Digest != outer.Digest {
		t.Errorf("%s, %v", got.Digest, err)
	}
	for arch, there := range map[string]bool{"amd64": true, "arm": false} {
		_, err := x.s.Select(t.Context(), outer, &ocispec.Platform{OS: "linux", Architecture: arch})
		if (err == nil) != there {
			t.Errorf("%s: %v", arch, err)
		}
	}
}

// gone forgives what an earlier attempt has done.
func gone(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// testLayerAlone wants a layer that is kept to outlive its image.
func testLayerAlone(t *testing.T, x *suite) {
	x.build(t, "app:v1", "1", "2")
	img := mustHave(t, x.s, "app:v1")
	top := ChainID(img.Layers)
	x.try(t, "keep", func() error {
		_, err := x.s.KeepLayer(t.Context(), top.String(), map[string]string{"k": "v"})
		return err
	})
	x.try(t, "untag", func() error { return gone(x.s.Untag(t.Context(), mustRef(t, "app:v1"))) })
	age(t, x.s)
	x.try(t, "prune", func() error { _, err := x.s.Prune(t.Context(), PruneOptions{}); return err })
	l, err := x.s.FindLayer(t.Context(), top.String())
	if err != nil || l.Labels["k"] != "v" || l.Parent == "" {
		t.Fatalf("%+v, %v", l, err)
	}
	x.try(t, "remove", func() error { _, err := x.s.RemoveLayer(t.Context(), top.String(), nil); return gone(err) })
	age(t, x.s)
	x.try(t, "prune", func() error { _, err := x.s.Prune(t.Context(), PruneOptions{}); return err })
	if left := blobs(t, x.s); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// testCompressed wants the same compressed image each time.
func testCompressed(t *testing.T, x *suite) {
	desc := x.build(t, "app:v1", strings.Repeat("1", 3*readSize), "2")
	var made [2]ocispec.Descriptor
	for i := range made {
		x.try(t, "compress", func() (err error) { made[i], err = x.s.Portable(t.Context(), desc, testGzip()); return err })
	}
	if made[0].Digest != made[1].Digest || made[0].Digest == desc.Digest {
		t.Errorf("%s, %s of %s", made[0].Digest, made[1].Digest, desc.Digest)
	}
	x.tag(t, "app:gz", made[0])
	if a, b := mustHave(t, x.s, "app:gz"), mustHave(t, x.s, "app:v1"); a.ID() != b.ID() {
		t.Errorf("ids %s and %s", a.ID(), b.ID())
	}
}

// testMutate wants a changed copy, and the original as it was.
func testMutate(t *testing.T, x *suite) {
	desc := x.build(t, "app:v1", "1", "2")
	var changed ocispec.Descriptor
	x.try(t, "mutate", func() (err error) {
		changed, err = x.s.Mutate(t.Context(), desc, Mutation{Annotations: map[string]string{"a": "1"}, Squash: true, TOCs: memoryTOCs{}})
		return err
	})
	x.tag(t, "app:v2", changed)
	if was, is := mustHave(t, x.s, "app:v1"), mustHave(t, x.s, "app:v2"); len(was.Layers) != 2 || len(is.Layers) != 1 || is.Manifest.Annotations["a"] != "1" {
		t.Errorf("%d layers, %d layers, %v", len(was.Layers), len(is.Layers), is.Manifest.Annotations)
	}
}

// testRepair wants a damaged layer to cost its image alone.
func testRepair(t *testing.T, x *suite) {
	x.build(t, "good:v1", "1")
	x.build(t, "bad:v1", "1", "2")
	victim := mustHave(t, x.s, "bad:v1").Layers[1].Descriptor.Digest
	if err := os.Truncate(x.s.blobPath(victim), 7); err != nil {
		t.Fatal(err)
	}
	x.try(t, "repair", func() error {
		faults, err := x.s.Fsck(t.Context(), FsckOptions{})
		if err == nil {
			_, err = x.s.Repair(t.Context(), faults, RepairOptions{})
		}
		return err
	})
	mustHave(t, x.s, "good:v1")
	if _, err := x.s.Resolve(t.Context(), "bad:v1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("bad:v1: %v", err)
	}
	x.build(t, "bad:v1", "1", "2")
	mustHave(t, x.s, "bad:v1")
}
