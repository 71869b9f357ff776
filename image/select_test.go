package image

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func linux(arch string) ocispec.Platform { return ocispec.Platform{OS: "linux", Architecture: arch} }

// foreign are two platforms that are not this machine's.
func foreign() (a, b ocispec.Platform) {
	host := HostPlatform().Architecture
	var others []ocispec.Platform
	for _, arch := range []string{"riscv64", "s390x", "ppc64le"} {
		if arch != host {
			others = append(others, linux(arch))
		}
	}
	return others[0], others[1]
}

// bundle names an index as BuildKit makes them, images for this machine and two
// others and what is said of each, with one of the images in an index within it,
// and an artifact.
func bundle(t *testing.T, s *Store, name string) (ocispec.Descriptor, []ocispec.Descriptor) {
	t.Helper()
	a, b := foreign()
	_, images := indexOf(t, s, HostPlatform(), a, b)
	outer, inner := newIndex(), newIndex()
	inner.Manifests = append(inner.Manifests, images[2])
	nested, err := s.putDocument(t.Context(), inner.MediaType, inner)
	if err != nil {
		t.Fatal(err)
	}
	outer.Manifests = append(outer.Manifests, images[0], images[1], nested, putAttestation(t, s, images[0]), putAttestation(t, s, images[1]), putArtifact(t, s, images[0]))
	desc, err := s.putDocument(t.Context(), outer.MediaType, outer)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), mustRef(t, name), desc); err != nil {
		t.Fatal(err)
	}
	return desc, images
}

func putAttestation(t *testing.T, s *Store, of ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	desc := putManifest(t, s, ocispec.Manifest{
		Config: putText(t, s, ocispec.MediaTypeImageConfig, `{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":[]},"config":{}}`),
		Layers: []ocispec.Descriptor{putText(t, s, "application/vnd.in-toto+json", `{"_type":"`+of.Digest.String()+`"}`)},
	})
	desc.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	desc.Annotations = map[string]string{attestationType: "attestation-manifest", attestationOf: of.Digest.String()}
	return desc
}

func putArtifact(t *testing.T, s *Store, subject ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	return putManifest(t, s, ocispec.Manifest{
		ArtifactType: "application/vnd.test.note",
		Config:       putText(t, s, ocispec.MediaTypeEmptyJSON, "{}"),
		Layers:       []ocispec.Descriptor{putText(t, s, "text/plain", "a note about "+subject.Digest.String())},
		Subject:      &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	})
}

func putText(t *testing.T, s *Store, mediaType, text string) ocispec.Descriptor {
	t.Helper()
	desc, err := s.putBytes(t.Context(), mediaType, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

func putManifest(t *testing.T, s *Store, m ocispec.Manifest) ocispec.Descriptor {
	t.Helper()
	m.Versioned, m.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageManifest
	desc, err := s.putDocument(t.Context(), m.MediaType, m)
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

// lose removes a manifest from the store, as if it had not been fetched.
func lose(t *testing.T, s *Store, images ...ocispec.Descriptor) {
	t.Helper()
	for _, d := range images {
		if err := os.Remove(s.blobPath(d.Digest)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSelect(t *testing.T) {
	s := newStore(t)
	index, images := bundle(t, s, "multi:v1")
	artifact := putArtifact(t, s, index)
	a, b := foreign()
	host := HostPlatform()
	lose(t, s, images[1])
	tests := []struct {
		name   string
		desc   ocispec.Descriptor
		want   *ocispec.Platform
		found  ocispec.Descriptor
		absent bool
		fails  bool
	}{
		{"this machine's", index, nil, images[0], false, false},
		{"another, in a nested index", index, &b, images[2], false, false},
		{"not fetched", index, &a, ocispec.Descriptor{}, true, true},
		{"not there at all", index, &ocispec.Platform{OS: "plan9", Architecture: "mips"}, ocispec.Descriptor{}, false, true},
		{"a manifest", images[2], nil, images[2], false, false},
		{"a manifest for that platform", images[0], &host, images[0], false, false},
		{"a manifest for another", images[0], &b, ocispec.Descriptor{}, false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			img, err := s.Select(t.Context(), test.desc, test.want)
			var none *PlatformError
			switch {
			case test.fails && (!errors.As(err, &none) || none.Absent != test.absent || !errors.Is(err, ErrNotFound)):
				t.Errorf("%v", err)
			case !test.fails && (err != nil || img.Descriptor.Digest != test.found.Digest):
				t.Errorf("%+v, %v", img, err)
			}
		})
	}
	t.Run("the first that is there", func(t *testing.T) {
		lose(t, s, images[0])
		if img, err := s.Select(t.Context(), index, nil); err != nil || img.Descriptor.Digest != images[2].Digest {
			t.Errorf("%+v, %v", img, err)
		}
	})
	t.Run("an artifact", func(t *testing.T) {
		var other *NotImageError
		if _, err := s.Select(t.Context(), artifact, nil); !errors.As(err, &other) || other.MediaType != ocispec.MediaTypeEmptyJSON {
			t.Errorf("%v", err)
		}
	})
}

func TestArchiveOfPlatforms(t *testing.T) {
	a, b := foreign()
	tests := []struct {
		name      string
		platforms []ocispec.Platform
		images    []int // which of the images are in the archive
		blobs     int
	}{
		{"all", nil, []int{0, 1, 2}, 19},
		{"one", []ocispec.Platform{a}, []int{1}, 7},
		{"one in a nested index", []ocispec.Platform{b}, []int{2}, 5},
		{"two", []ocispec.Platform{HostPlatform(), b}, []int{0, 2}, 11},
	}
	for _, test := range tests {
		for _, side := range []string{"save", "load"} {
			for _, format := range []ArchiveFormat{DockerArchive, OCIArchive} {
				t.Run(test.name+" "+side+" "+string(format), func(t *testing.T) {
					x, y := newStore(t), newStore(t)
					index, images := bundle(t, x, "multi:v1")
					save, load := SaveOptions{Format: format}, LoadOptions{Platforms: test.platforms}
					if side == "save" {
						save.Platforms, load.Platforms = test.platforms, nil
					}
					var archive bytes.Buffer
					if err := x.Save(t.Context(), &archive, []string{"multi:v1"}, save); err != nil {
						t.Fatal(err)
					}
					loaded, err := y.Load(t.Context(), &archive, load)
					if err != nil || len(loaded) != 1 || loaded[0].Descriptor.Digest != index.Digest {
						t.Fatalf("%+v, %v", loaded, err)
					}
					mustBeClean(t, y)
					if got := len(blobs(t, y)); got != test.blobs {
						t.Errorf("%d blobs, want %d", got, test.blobs)
					}
					var there []int
					for i, img := range images {
						if y.there(img.Digest) {
							there = append(there, i)
						}
					}
					if !equal(there, test.images) {
						t.Errorf("images %v, want %v", there, test.images)
					}
				})
			}
		}
	}
}

func equal[T comparable](a, b []T) bool {
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestArchiveRefusesPlatform(t *testing.T) {
	s := newStore(t)
	bundle(t, s, "multi:v1")
	mustBuild(t, s, "one:v1", file{"a", "1"})
	nowhere := []ocispec.Platform{{OS: "plan9", Architecture: "mips"}}
	for _, name := range []string{"multi:v1", "one:v1"} {
		var none *PlatformError
		var out bytes.Buffer
		if err := s.Save(t.Context(), &out, []string{name}, SaveOptions{OCIArchive, nowhere}); !errors.As(err, &none) || out.Len() > 0 {
			t.Errorf("save %s: %v, %d bytes", name, err, out.Len())
		}
		if err := s.Save(t.Context(), &out, []string{name}, SaveOptions{Format: OCIArchive}); err != nil {
			t.Fatal(err)
		}
		y := newStore(t)
		if _, err := y.Load(t.Context(), &out, LoadOptions{nowhere}); !errors.As(err, &none) {
			t.Errorf("load %s: %v", name, err)
		}
		if left := blobs(t, y); len(left) > 0 {
			t.Errorf("load %s left %v", name, left)
		}
	}
}

// What nobody can read as an image comes back as it went.
func TestArtifactRoundTrip(t *testing.T) {
	for _, format := range []ArchiveFormat{DockerArchive, OCIArchive} {
		x, y := newStore(t), newStore(t)
		image := mustBuild(t, x, "app:v1", file{"a", "1"})
		artifact := putArtifact(t, x, image)
		if err := x.Tag(t.Context(), mustRef(t, "note:v1"), artifact); err != nil {
			t.Fatal(err)
		}
		var archive bytes.Buffer
		if err := x.Save(t.Context(), &archive, []string{"note:v1"}, SaveOptions{Format: format}); err != nil {
			t.Fatal(err)
		}
		if format == DockerArchive && !strings.Contains(archive.String(), "manifest.json") {
			t.Error("no manifest.json")
		}
		if _, err := y.Load(t.Context(), &archive, LoadOptions{}); err != nil {
			t.Fatal(err)
		}
		mustBeClean(t, y)
		info, err := y.Inspect(t.Context(), "note:v1", nil)
		if err != nil || info.Descriptor.Digest != artifact.Digest || info.Id != artifact.Digest ||
			info.ArtifactType != "application/vnd.test.note" || info.Subject != image.Digest || info.Config != nil {
			t.Errorf("%+v, %v", info, err)
		}
	}
}

func TestInspect(t *testing.T) {
	s := newStore(t)
	index, images := bundle(t, s, "multi:v1")
	if err := s.Tag(t.Context(), mustRef(t, "other.io/multi:v2"), index); err != nil {
		t.Fatal(err)
	}
	note := putArtifact(t, s, index)
	if err := s.Tag(t.Context(), mustRef(t, "note:v1"), note); err != nil {
		t.Fatal(err)
	}
	a, b := foreign()
	lose(t, s, images[1])
	info, err := s.Inspect(t.Context(), "multi:v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if info.Id != index.Digest || info.Manifest.Digest != images[0].Digest || info.Architecture != HostPlatform().Architecture {
		t.Errorf("%+v", info)
	}
	if !equal(info.RepoTags, []string{"multi:v1", "other.io/multi:v2"}) || info.RepoDigests[1] != "other.io/multi@"+index.Digest.String() {
		t.Errorf("%v %v", info.RepoTags, info.RepoDigests)
	}
	kinds := ""
	for _, m := range info.Manifests {
		kinds += string(m.Kind) + " " + m.Platform + " " + map[bool]string{true: "here", false: "absent"}[m.Present] + "\n"
	}
	want := "image " + FormatPlatform(HostPlatform()) + " here\nimage " + FormatPlatform(a) + " absent\nimage " + FormatPlatform(b) +
		" here\nattestation unknown/unknown here\nattestation unknown/unknown here\nartifact  here\n"
	if kinds != want {
		t.Errorf("got\n%swant\n%s", kinds, want)
	}
	if len(info.Referrers) != 1 || info.Referrers[0].Digest != note.Digest || info.Referrers[0].Subject != index.Digest {
		t.Errorf("%+v", info.Referrers)
	}
	one, err := s.Inspect(t.Context(), "multi:v1", &b)
	if err != nil || one.Manifest.Digest != images[2].Digest || one.Id != one.ConfigDigest || one.Size >= info.Size {
		t.Errorf("%+v, %v", one, err)
	}
	if len(one.Layers) != 1 || one.Layers[0].DiffID != one.RootFS.Layers[0] || one.Layers[0].ChainID != one.RootFS.Layers[0] {
		t.Errorf("%+v", one.Layers)
	}
	var none *PlatformError
	if _, err := s.Inspect(t.Context(), "multi:v1", &a); !errors.As(err, &none) || !none.Absent {
		t.Errorf("%v", err)
	}
}

func TestChainIDs(t *testing.T) {
	a, b, c := digest.FromString("a"), digest.FromString("b"), digest.FromString("c")
	got := ChainIDs([]digest.Digest{a, b, c})
	second := digest.FromString(a.String() + " " + b.String())
	want := []digest.Digest{a, second, digest.FromString(second.String() + " " + c.String())}
	if !equal(got, want) {
		t.Errorf("%v", got)
	}
	if got := ChainIDs(nil); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
