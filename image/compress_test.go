package image

import (
	"compress/gzip"
	"io"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func testGzip() Compression {
	return Compression{"gzip", 6, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, 6) }}
}

// counted tells how often the compressor was asked for.
func counted(n *int) Compression {
	c := testGzip()
	inner := c.New
	c.New = func(w io.Writer) (io.WriteCloser, error) { *n++; return inner(w) }
	return c
}

func TestPortableCompressesOnce(t *testing.T) {
	s := newStore(t)
	desc := mustBuild(t, s, "app:v1", file{"a", "1"})
	n := 0
	first, err := s.Portable(t.Context(), desc, PortableOptions{counted(&n)})
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Image(t.Context(), first, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := img.Layers[0].Descriptor.MediaType; got != ocispec.MediaTypeImageLayerGzip {
		t.Errorf("layer's media type %s", got)
	}
	if got := mustHave(t, s, "app:v1"); got.ID() != img.ID() || got.Descriptor.Digest == first.Digest {
		t.Error("the image id must stay and the manifest change")
	}
	second, err := s.Portable(t.Context(), desc, PortableOptions{counted(&n)})
	if err != nil || second.Digest != first.Digest {
		t.Fatalf("second time: %v %v", second.Digest, err)
	}
	again, err := s.Portable(t.Context(), first, PortableOptions{counted(&n)})
	if err != nil || again.Digest != first.Digest {
		t.Fatalf("of a portable image: %v %v", again.Digest, err)
	}
	if n != 1 {
		t.Errorf("compressed %d times", n)
	}
	// A prune keeps what a layer was compressed to for as long as the layer.
	age(t, s)
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Portable(t.Context(), desc, PortableOptions{counted(&n)}); err != nil || n != 1 {
		t.Errorf("after a prune: compressed %d times, %v", n, err)
	}
	mustBeClean(t, s)
}

func TestPortableIndex(t *testing.T) {
	s := newStore(t)
	a, b := mustBuild(t, s, "a:v1", file{"a", "1"}), mustBuild(t, s, "b:v1", file{"b", "1"})
	a.Platform, b.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}, &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	gone := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: "sha256:" + zeros, Size: 7, Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}}
	attestation := mustBuild(t, s, "att:v1", file{"att", "1"})
	attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": a.Digest.String()}
	tests := []struct {
		name     string
		children []ocispec.Descriptor
		want     int // images in the new index
	}{
		{"all there", []ocispec.Descriptor{a, b}, 2},
		{"one missing", []ocispec.Descriptor{a, b, gone}, 3},
		{"one left", []ocispec.Descriptor{gone, b}, 2},
		{"attestation follows", []ocispec.Descriptor{a, attestation}, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			index := newIndex()
			index.Manifests = test.children
			desc, err := s.putDocument(t.Context(), index.MediaType, index)
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.Portable(t.Context(), desc, PortableOptions{testGzip()})
			if err != nil {
				t.Fatal(err)
			}
			doc, err := readDocument(t.Context(), s, out)
			if err != nil {
				t.Fatal(err)
			}
			if len(doc.index.Manifests) != test.want {
				t.Fatalf("%d images", len(doc.index.Manifests))
			}
			for i, m := range doc.index.Manifests {
				if (m.Digest == test.children[i].Digest) != (m.Digest == gone.Digest) || m.Platform == nil {
					t.Errorf("image %d: %+v", i, m)
				}
				if to := m.Annotations["vnd.docker.reference.digest"]; to != "" && to != doc.index.Manifests[0].Digest.String() {
					t.Errorf("attestation of %s", to)
				}
			}
		})
	}
}

func TestCompressRefusesUnknownAlgorithm(t *testing.T) {
	s := newStore(t)
	l, err := addLayer(s, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Compress(t.Context(), l.Descriptor, Compression{Algorithm: "lzma"}); err == nil {
		t.Error("no error")
	}
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// An artifact whose layers look like those of images leaves as it is.
func TestPortableLeavesArtifacts(t *testing.T) {
	s := newStore(t)
	l, err := addLayer(s, tarOf(t, file{"a", "1"}))
	if err != nil {
		t.Fatal(err)
	}
	desc := putManifest(t, s, ocispec.Manifest{
		ArtifactType: "application/vnd.test.tar", Config: putText(t, s, ocispec.MediaTypeEmptyJSON, "{}"), Layers: []ocispec.Descriptor{l.Descriptor},
	})
	if out, err := s.Portable(t.Context(), desc, PortableOptions{testGzip()}); err != nil || out.Digest != desc.Digest {
		t.Errorf("%v, %v", out, err)
	}
}
