package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestVerify(t *testing.T) {
	s := newStore(t)
	index, images := bundle(t, s, "multi:v1")
	v, err := s.Verify(t.Context(), index, nil)
	if err != nil || len(v.Faults) > 0 || v.Indexes != 2 || v.Manifests != 6 || v.Configs != 3 || v.Layers != 3 || v.Absent != 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	a, _ := foreign()
	one, err := s.Verify(t.Context(), index, []ocispec.Platform{a})
	if err != nil || one.Manifests != 2 || one.Layers != 1 || one.Bytes >= v.Bytes || one.Claims >= v.Claims {
		t.Errorf("%+v, %v", one, err)
	}
	lose(t, s, images[0])
	if v, err = s.Verify(t.Context(), index, nil); err != nil || len(v.Faults) > 0 || v.Absent != 1 || v.Layers != 2 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestVerifyFindsLies(t *testing.T) {
	s := newStore(t)
	base := mustBuild(t, s, "app:v1", file{"a", "1"}, file{"b", "2"})
	img := mustHave(t, s, "app:v1")
	portable, err := s.Portable(t.Context(), base, testGzip())
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := s.Image(t.Context(), portable, nil)
	if err != nil {
		t.Fatal(err)
	}
	manifest := func(of *Image, f func(*ocispec.Manifest)) ocispec.Descriptor {
		m := of.Manifest
		m.Layers = append([]ocispec.Descriptor(nil), m.Layers...)
		f(&m)
		return putManifest(t, s, m)
	}
	config := func(f func(map[string]any)) ocispec.Descriptor {
		text, err := s.ReadBlob(t.Context(), img.Manifest.Config, maxConfig)
		if err != nil {
			t.Fatal(err)
		}
		var c map[string]any
		if err := json.Unmarshal(text, &c); err != nil {
			t.Fatal(err)
		}
		f(c)
		if text, err = json.Marshal(c); err != nil {
			t.Fatal(err)
		}
		return manifest(img, func(m *ocispec.Manifest) { m.Config = putText(t, s, ocispec.MediaTypeImageConfig, string(text)) })
	}
	wrong := base
	wrong.Platform = &ocispec.Platform{OS: "linux", Architecture: "mips"}
	index, err := s.AssembleIndex(t.Context(), []ocispec.Descriptor{wrong}, nil)
	if err != nil {
		t.Fatal(err)
	}
	notTar := putText(t, s, ocispec.MediaTypeImageLayer, strings.Repeat("no tar ", 200))
	tests := []struct {
		name string
		desc ocispec.Descriptor
		want string
	}{
		{"layers in another order", manifest(img, func(m *ocispec.Manifest) { m.Layers[0], m.Layers[1] = m.Layers[1], m.Layers[0] }), "its config says"},
		{"a layer too many", manifest(img, func(m *ocispec.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) }), "the manifest has 3 layers and the config 2"},
		{"history", config(func(c map[string]any) { c["history"] = c["history"].([]any)[:1] }), "the history has 1 layers"},
		{"no platform", config(func(c map[string]any) { delete(c, "architecture") }), "names no platform"},
		{"compression", manifest(zipped, func(m *ocispec.Manifest) { m.Layers[0].MediaType = ocispec.MediaTypeImageLayerZstd }), `compressed with "gzip"`},
		{"none where gzip is said", manifest(img, func(m *ocispec.Manifest) { m.Layers[0].MediaType = ocispec.MediaTypeImageLayerGzip }), `compressed with ""`},
		{"size", manifest(img, func(m *ocispec.Manifest) { m.Layers[0].Size++ }), "bytes instead of"},
		{"no tar", manifest(img, func(m *ocispec.Manifest) { m.Layers[0] = notTar }), "tar"},
		{"absent layer", manifest(img, func(m *ocispec.Manifest) { m.Layers[0].Digest = "sha256:" + zeros }), "not found"},
		{"platform", index, "the index says it is for linux/mips"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v, err := s.Verify(t.Context(), test.desc, nil)
			if err != nil || len(v.Faults) == 0 || !strings.Contains(v.Faults[0].Err.Error(), test.want) {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
	if v, err := s.Verify(t.Context(), portable, nil); err != nil || len(v.Faults) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	s := newStore(t)
	desc := mustBuild(t, s, "app:v1", file{"a", strings.Repeat("1", 3000)})
	portable, err := s.Portable(t.Context(), desc, testGzip())
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Image(t.Context(), portable, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]digest.Digest{
		"manifest": portable.Digest, "config": img.ID(), "layer": img.Layers[0].Descriptor.Digest,
	} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(s.blobPath(d))
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range []int{0, len(text) / 2, len(text) - 1} {
				bent := bytes.Clone(text)
				bent[at] ^= 1
				if err := os.WriteFile(s.blobPath(d), bent, 0o644); err != nil {
					t.Fatal(err)
				}
				v, err := s.Verify(t.Context(), portable, nil)
				var bad *VerifyError
				if err != nil || len(v.Faults) == 0 || !errors.As(v.Faults[len(v.Faults)-1].Err, &bad) {
					t.Errorf("%+v, %v", v, err)
				}
			}
			if err := os.WriteFile(s.blobPath(d), text, 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}
