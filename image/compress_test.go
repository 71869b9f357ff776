package image

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/ocibuild/ocibuild/image/layer"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func testGzip() Compression { return Compression{Algorithm: layer.Gzip} }

// isRemembered reports whether all layers of an image are known in the form that c gives them.
func isRemembered(t *testing.T, s *Store, desc ocispec.Descriptor, c Compression) bool {
	t.Helper()
	img, err := s.Image(t.Context(), desc, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := s.Press(t.Context(), c)
	defer p.Close()
	for _, l := range img.Layers {
		if _, ok := s.compressed(p.memo(l)); !ok && p.Changes(l) {
			return false
		}
	}
	return true
}

func TestPortableCompressesOnce(t *testing.T) {
	s := newStore(t)
	desc := mustBuild(t, s, "app:v1", file{"a", "1"})
	if isRemembered(t, s, desc, testGzip()) {
		t.Error("remembered before it is made")
	}
	first, err := s.Portable(t.Context(), desc, testGzip())
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
	second, err := s.Portable(t.Context(), desc, testGzip())
	if err != nil || second.Digest != first.Digest {
		t.Fatalf("second time: %v %v", second.Digest, err)
	}
	again, err := s.Portable(t.Context(), first, testGzip())
	if err != nil || again.Digest != first.Digest {
		t.Fatalf("of a portable image: %v %v", again.Digest, err)
	}
	if !isRemembered(t, s, desc, testGzip()) {
		t.Error("not remembered")
	}
	// A prune keeps what a layer was compressed to for as long as the layer.
	age(t, s)
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if !isRemembered(t, s, desc, testGzip()) {
		t.Error("not remembered after a prune")
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
			out, err := s.Portable(t.Context(), desc, testGzip())
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
	if out, err := s.Portable(t.Context(), desc, testGzip()); err != nil || out.Digest != desc.Digest {
		t.Errorf("%v, %v", out, err)
	}
}

// Every form of a layer holds the same files, whatever it was before, and verify finds nothing wrong with it.
func TestPortableForms(t *testing.T) {
	s := newStore(t)
	plain := mustBuild(t, s, "app:v1", file{"a", strings.Repeat("a", 100000)}, file{"b", "2"})
	forms := map[string]Compression{
		"none": {Force: true}, "gzip": {Algorithm: layer.Gzip, Force: true}, "gzip 9": {Algorithm: layer.Gzip, Level: 9, Force: true},
		"zstd": {Algorithm: layer.Zstd, Force: true}, "estargz": {Algorithm: layer.EStargz, Force: true},
	}
	made := map[string]*Image{}
	portable := func(from ocispec.Descriptor, name string) *Image {
		t.Helper()
		desc, err := s.Portable(t.Context(), from, forms[name])
		if err != nil {
			t.Fatal(err)
		}
		img, err := s.Image(t.Context(), desc, nil)
		if err != nil {
			t.Fatal(err)
		}
		if report, err := s.Verify(t.Context(), desc, nil); err != nil || len(report.Faults) > 0 {
			t.Errorf("%s: %+v %v", name, report, err)
		}
		return img
	}
	for name := range forms {
		made[name] = portable(plain, name)
	}
	for from, img := range made {
		if (img.ID() != made["none"].ID()) != (from == "estargz") {
			t.Errorf("%s has the image id %s", from, img.ID())
		}
		for to := range forms {
			if got := portable(img.Descriptor, to); from != "estargz" && to[:3] != "gzi" && from != to && got.Descriptor.Digest != made[to].Descriptor.Digest {
				t.Errorf("%s made of %s differs from that made of the plain one", to, from)
			}
		}
		kept, err := s.Portable(t.Context(), img.Descriptor, Compression{Algorithm: layer.Zstd})
		if err != nil || (kept.Digest == img.Descriptor.Digest) != (from != "none") {
			t.Errorf("%s without force: %v %v", from, kept.Digest, err)
		}
	}
	if a := made["estargz"].Layers[0].Descriptor.Annotations; a[stargzAnnotation] == "" || a[stargzSize] == "" {
		t.Errorf("annotations %v", a)
	}
	if made["gzip"].Descriptor.Digest == made["gzip 9"].Descriptor.Digest {
		t.Error("the level makes no difference")
	}
	mustBeClean(t, s)
}

// A layer is read while it is made, by several at once.
func TestPressFollowed(t *testing.T) {
	s := newStore(t)
	body := make([]byte, 5<<20)
	for i := range body {
		body[i] = byte(i * i >> 8)
	}
	l, err := addLayer(s, tarOf(t, file{"big", string(body)}))
	if err != nil {
		t.Fatal(err)
	}
	p := s.Press(t.Context(), Compression{Algorithm: layer.Zstd})
	defer p.Close()
	made := p.Layer(l)
	if p.Layer(l) != made {
		t.Error("made twice")
	}
	follow := func() ([]byte, error) {
		var got []byte
		for {
			have, all, err := made.Available(t.Context(), int64(len(got))+1)
			if err != nil || all && have == int64(len(got)) {
				return got, err
			}
			r, err := made.Open(t.Context(), int64(len(got)))
			if err != nil {
				return got, err
			}
			part, err := io.ReadAll(r)
			r.Close()
			if err != nil {
				return got, err
			}
			got = append(got, part...)
		}
	}
	results := make(chan []byte, 3)
	for range cap(results) {
		go func() {
			got, err := follow()
			if err != nil {
				t.Error(err)
			}
			results <- got
		}()
	}
	if n := made.Estimate(); n < 0 {
		t.Errorf("estimated %d bytes", n)
	}
	out, err := made.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := made.Estimate(); n != out.Descriptor.Size {
		t.Errorf("estimated %d bytes of %d", n, out.Descriptor.Size)
	}
	want, err := s.ReadBlob(t.Context(), out.Descriptor, 10<<20)
	if err != nil {
		t.Fatal(err)
	}
	for range cap(results) {
		if got := <-results; !bytes.Equal(got, want) {
			t.Errorf("a follower has %d bytes of %d", len(got), len(want))
		}
	}
}

// A layer that cannot be read fails for all who follow it, and leaves nothing.
func TestPressFails(t *testing.T) {
	s := newStore(t)
	l, err := addLayer(s, tarOf(t, file{"a", "1"}))
	if err != nil {
		t.Fatal(err)
	}
	l.Descriptor.Digest = "sha256:" + zeros
	p := s.Press(t.Context(), testGzip())
	defer p.Close()
	made := p.Layer(l)
	if _, err := made.Wait(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("wait: %v", err)
	}
	if _, _, err := made.Available(t.Context(), 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("available: %v", err)
	}
	if _, err := made.Open(t.Context(), 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("open: %v", err)
	}
	mustBeClean(t, s)
}

// A compressed layer that is not what its image says is not passed on in another form.
func TestPressChecksDiffID(t *testing.T) {
	s := newStore(t)
	l, err := addLayer(s, tarOf(t, file{"a", "1"}))
	if err != nil {
		t.Fatal(err)
	}
	p := s.Press(t.Context(), testGzip())
	defer p.Close()
	gz, err := p.Layer(l).Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	gz.DiffID = "sha256:" + zeros
	q := s.Press(t.Context(), Compression{Algorithm: layer.Zstd, Force: true})
	defer q.Close()
	if _, err := q.Layer(gz).Wait(t.Context()); err == nil {
		t.Error("no error")
	}
}

// An attestation has layers that are none, and a config that says nothing of them: it is passed over.
func TestImageLayersOfIndex(t *testing.T) {
	s := newStore(t)
	a := mustBuild(t, s, "a:v1", file{"a", "1"})
	attestation := putManifest(t, s, ocispec.Manifest{
		Config: putText(t, s, ocispec.MediaTypeImageConfig, `{"architecture":"unknown","os":"unknown","config":{}}`),
		Layers: []ocispec.Descriptor{putText(t, s, "application/vnd.in-toto+json", "{}")},
	})
	artifact := putManifest(t, s, ocispec.Manifest{
		ArtifactType: "application/vnd.test", Config: putText(t, s, ocispec.MediaTypeEmptyJSON, "{}"), Layers: []ocispec.Descriptor{putText(t, s, "text/plain", "note")},
	})
	inner := newIndex()
	inner.Manifests = []ocispec.Descriptor{a, artifact}
	nested, err := s.putDocument(t.Context(), inner.MediaType, inner)
	if err != nil {
		t.Fatal(err)
	}
	index := newIndex()
	index.Manifests = []ocispec.Descriptor{attestation, nested}
	desc, err := s.putDocument(t.Context(), index.MediaType, index)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := s.ImageLayers(t.Context(), desc)
	if err != nil || len(layers) != 2 {
		t.Fatalf("%v %v", layers, err)
	}
	p := s.Press(t.Context(), Compression{Algorithm: layer.EStargz, Force: true})
	defer p.Close()
	changing := 0
	for _, l := range layers {
		if p.Changes(l) {
			changing++
		}
	}
	if changing != 1 {
		t.Errorf("%d layers change", changing)
	}
	out, err := p.Portable(t.Context(), desc)
	if err != nil || out.Digest == desc.Digest {
		t.Errorf("%v %v", out, err)
	}
}
