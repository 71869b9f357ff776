package image

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var update = flag.Bool("update", false, "rewrite golden files")

// golden compares text with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}

func TestAssembleWrites(t *testing.T) {
	s := newStore(t)
	cfg := testConfig("app")
	cfg.Platform = ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	cfg.Author = "A <a@b>"
	cfg.History = []ocispec.History{{Created: cfg.Created, CreatedBy: "RUN a && b", Comment: "buildkit.dockerfile.v0"}, {CreatedBy: "LABEL x", EmptyLayer: true}}
	l, err := addLayer(s, tarOf(t, file{"a", "1"}))
	if err != nil {
		t.Fatal(err)
	}
	l.Descriptor.Annotations = map[string]string{"containerd.io/uncompressed": "x", "containerd.io/distribution.source.docker.io": "y"}
	l.Descriptor.Platform = &ocispec.Platform{OS: "linux"}
	desc, err := s.Assemble(t.Context(), cfg, []Layer{l})
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Image(t.Context(), desc, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]ocispec.Descriptor{"manifest.golden": desc, "config.golden": img.Manifest.Config} {
		text, err := s.ReadBlob(t.Context(), d, maxConfig)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, text)
	}
	again, err := img.Config.encode()
	if err != nil || digest.FromBytes(again) != img.ID() {
		t.Errorf("the config changes when it is read and written: %s, %v", again, err)
	}
	for _, d := range []digest.Digest{desc.Digest, img.ID(), l.DiffID} {
		if info, err := os.Stat(s.blobPath(d)); err != nil || !durable(info.Mode()) {
			t.Errorf("%s is not durable", d)
		}
	}
}

func TestAssembleRefuses(t *testing.T) {
	s := newStore(t)
	good, err := addLayer(s, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	noDiff, odd := good, good
	noDiff.DiffID = ""
	odd.Descriptor.MediaType = "application/wasm"
	long := good
	long.Descriptor.Size++
	tests := []struct {
		name   string
		cfg    Config
		layers []Layer
		want   string
	}{
		{"no platform", Config{}, nil, "platform"},
		{"no diff id", testConfig("x"), []Layer{noDiff}, "diff id"},
		{"no layer", testConfig("x"), []Layer{odd}, "application/wasm"},
		{"size", testConfig("x"), []Layer{long}, "bytes instead of"},
		{"history", Config{Platform: HostPlatform(), History: []ocispec.History{{}, {}}}, []Layer{good}, "history"},
	}
	for _, test := range tests {
		if _, err := s.Assemble(t.Context(), test.cfg, test.layers); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestConfigCreatedFollowsHistory(t *testing.T) {
	early, late := time.Unix(1, 0).UTC(), time.Unix(2, 0).UTC()
	cfg := Config{History: []ocispec.History{{Created: &early}, {Created: &late}, {}}}
	text, err := cfg.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeConfig(text)
	if err != nil || !got.Created.Equal(late) {
		t.Errorf("%s, %v", text, err)
	}
}

func TestDecodeDocument(t *testing.T) {
	child := `{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:` + zeros + `","size":1}`
	manifest := `"config":` + child + `,"layers":[` + child + `]`
	tests := []struct {
		name, mediaType, text, want string
	}{
		{"manifest", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,` + manifest + `}`, ""},
		{"docker manifest", dockerManifest, `{"schemaVersion":2,"mediaType":"` + dockerManifest + `",` + manifest + `}`, ""},
		{"manifest of unknown type", "", `{"schemaVersion":2,` + manifest + `}`, ""},
		{"index of unknown type", "", `{"schemaVersion":2,"manifests":[` + child + `]}`, ""},
		{"empty index", ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[]}`, ""},
		{"docker list", dockerIndex, `{"schemaVersion":2,"mediaType":"` + dockerIndex + `","manifests":[` + child + `]}`, ""},
		{"schema 1", "", `{"schemaVersion":1,"fsLayers":[]}`, "schema version 1"},
		{"schema 1 by type", dockerManifest1Sig, `{"schemaVersion":2}`, "schema version 1"},
		{"schema 3", "", `{"schemaVersion":3}`, "schema version 3"},
		{"both", "", `{"schemaVersion":2,"manifests":[],` + manifest + `}`, "at once"},
		{"type differs", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `",` + manifest + `}`, "media type"},
		{"index for manifest", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"manifests":[]}`, "an index"},
		{"no document", "", `[]`, "json"},
		{"config", "application/vnd.oci.image.config.v1+json", `{"schemaVersion":2}`, "neither"},
		{"bad digest", "", `{"schemaVersion":2,"manifests":[{"digest":"sha256:1","size":1}]}`, "digest"},
		{"negative size", "", `{"schemaVersion":2,"manifests":[{"digest":"sha256:` + zeros + `","size":-1}]}`, "size"},
		{"config missing", ocispec.MediaTypeImageManifest, `{"schemaVersion":2}`, "digest"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := decodeDocument(test.mediaType, []byte(test.text))
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestPlatformDistance(t *testing.T) {
	p := func(text string) ocispec.Platform {
		parts := append(strings.Split(text, "/"), "", "")
		return ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
	}
	tests := []struct {
		want, have string
		distance   int // -1: does not run
	}{
		{"linux/amd64", "linux/amd64", 0},
		{"linux/amd64", "linux/x86_64", 0},
		{"linux/amd64", "Linux/amd64/v1", 0},
		{"linux/amd64", "linux/amd64/v2", -1},
		{"linux/amd64/v3", "linux/amd64", 2},
		{"linux/amd64", "windows/amd64", -1},
		{"linux/amd64", "linux/arm64", -1},
		{"linux/arm64", "linux/arm64/v8", 0},
		{"linux/arm64/v9", "linux/arm64", 1},
		{"linux/arm", "linux/arm/v7", 0},
		{"linux/arm", "linux/arm/v5", 2},
		{"linux/arm/v6", "linux/arm/v7", -1},
		{"linux/arm/v6", "linux/armhf", -1},
		{"linux/riscv64", "linux/riscv64", 0},
		{"linux/mips/x", "linux/mips/y", -1},
	}
	for _, test := range tests {
		d, ok := platformDistance(p(test.want), p(test.have))
		if !ok {
			d = -1
		}
		if d != test.distance {
			t.Errorf("%s on %s: %d, want %d", test.have, test.want, d, test.distance)
		}
	}
}

// indexOf stores an index of images for these platforms, each of its own.
func indexOf(t *testing.T, s *Store, platforms ...ocispec.Platform) (ocispec.Descriptor, []ocispec.Descriptor) {
	t.Helper()
	index := newIndex()
	for _, p := range platforms {
		cfg := testConfig(FormatPlatform(p))
		cfg.Platform = p
		l, err := addLayer(s, tarOf(t, file{"p", FormatPlatform(p)}))
		if err != nil {
			t.Fatal(err)
		}
		desc, err := s.Assemble(t.Context(), cfg, []Layer{l})
		if err != nil {
			t.Fatal(err)
		}
		desc.Platform = &p
		index.Manifests = append(index.Manifests, desc)
	}
	desc, err := s.putDocument(t.Context(), index.MediaType, index)
	if err != nil {
		t.Fatal(err)
	}
	return desc, index.Manifests
}

func TestImageOfAnIndex(t *testing.T) {
	s := newStore(t)
	desc, children := indexOf(t, s,
		ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"},
		ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"},
		ocispec.Platform{OS: "linux", Architecture: "amd64"},
		ocispec.Platform{OS: "linux", Architecture: "s390x"})
	unlabelled := newIndex()
	unlabelled.Manifests = append(unlabelled.Manifests, children[3])
	unlabelled.Manifests[0].Platform = nil
	bare, err := s.putDocument(t.Context(), unlabelled.MediaType, unlabelled)
	if err != nil {
		t.Fatal(err)
	}
	nested := newIndex()
	nested.Manifests = append(nested.Manifests, bare, desc)
	outer, err := s.putDocument(t.Context(), nested.MediaType, nested)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		desc ocispec.Descriptor
		arch string
		vari string
		want int // child; -1: none
	}{
		{"best variant", desc, "arm", "v7", 1},
		{"older variant", desc, "arm", "v6", 0},
		{"newer machine", desc, "arm", "v8", 1},
		{"other", desc, "s390x", "", 3},
		{"none", desc, "riscv64", "", -1},
		{"platform from the config", bare, "s390x", "", 3},
		{"not it", bare, "amd64", "", -1},
		{"nested", outer, "amd64", "", 2},
		{"a manifest as it is", children[2], "s390x", "", 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			img, err := s.Image(t.Context(), test.desc, &ocispec.Platform{OS: "linux", Architecture: test.arch, Variant: test.vari})
			if test.want < 0 {
				var none *PlatformError
				if !errors.As(err, &none) || !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "linux/"+test.arch) {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if img.Descriptor.Digest != children[test.want].Digest {
				t.Errorf("got the image for %s", FormatPlatform(img.Config.Platform))
			}
		})
	}
	// Of an index, one image suffices.
	for _, c := range children[1:] {
		if err := os.Remove(s.blobPath(c.Digest)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Tag(t.Context(), mustRef(t, "multi:v1"), desc); err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, s)
	if err := os.Remove(s.blobPath(children[0].Digest)); err != nil {
		t.Fatal(err)
	}
	if faults, err := s.Fsck(t.Context(), FsckOptions{}); err != nil || len(faults) != 1 {
		t.Errorf("%v, %v", faults, err)
	}
}

// TestTagAll gives several names in one change of index.json, or none.
func TestTagAll(t *testing.T) {
	changes := 0
	s := openTest(t, filepath.Join(t.TempDir(), "store"), disk{flush: noFlush, before: func(op operation, paths ...string) error {
		if op == opRename && filepath.Base(paths[len(paths)-1]) == ocispec.ImageIndexFile {
			changes++
		}
		return nil
	}})
	desc := mustBuild(t, s, "", file{"a", "1"})
	names := []Ref{mustRef(t, "app"), mustRef(t, "app:v1"), mustRef(t, "reg.io/app:v1")}
	changes = 0
	if err := s.TagAll(t.Context(), append(slices.Clone(names), Ref{}), desc); err == nil {
		t.Error("a name that is none was taken")
	}
	if refs, err := s.References(t.Context()); err != nil || len(refs) > 0 || changes > 0 {
		t.Errorf("after a refusal there are %v, %v", refs, err)
	}
	if err := s.TagAll(t.Context(), names, desc); err != nil {
		t.Fatal(err)
	}
	if changes != 1 {
		t.Errorf("the table was written %d times", changes)
	}
	for _, name := range []string{"app:latest", "app:v1", "reg.io/app:v1"} {
		mustHave(t, s, name)
	}
}

func TestIndexesWithinEachOtherEnd(t *testing.T) {
	s := newStore(t)
	desc := mustBuild(t, s, "", file{"a", "1"})
	for range 8 {
		index := newIndex()
		index.Manifests = []ocispec.Descriptor{desc}
		var err error
		if desc, err = s.putDocument(t.Context(), index.MediaType, index); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Image(t.Context(), desc, nil); err == nil || !strings.Contains(err.Error(), "within each other") {
		t.Errorf("image: %v", err)
	}
	if err := s.Tag(t.Context(), mustRef(t, "deep:v1"), desc); err == nil || !strings.Contains(err.Error(), "within each other") {
		t.Errorf("tag: %v", err)
	}
}

func TestImageRefuses(t *testing.T) {
	s := newStore(t)
	base := mustBuild(t, s, "", file{"a", "1"})
	img, err := s.Image(t.Context(), base, nil)
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(*ocispec.Manifest)) ocispec.Descriptor {
		m := img.Manifest
		m.Layers = append([]ocispec.Descriptor(nil), m.Layers...)
		f(&m)
		desc, err := s.putDocument(t.Context(), m.MediaType, m)
		if err != nil {
			t.Fatal(err)
		}
		return desc
	}
	big, err := s.Put(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest}, strings.NewReader(strings.Repeat(" ", maxManifest+1)))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		desc ocispec.Descriptor
		want string
	}{
		{"artifact", change(func(m *ocispec.Manifest) { m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" }), "helm"},
		{"layer count", change(func(m *ocispec.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) }), "2 layers"},
		{"odd layer", change(func(m *ocispec.Manifest) { m.Layers[0].MediaType += "+encrypted" }), "+encrypted"},
		{"config is a layer", change(func(m *ocispec.Manifest) { m.Config.Digest, m.Config.Size = m.Layers[0].Digest, m.Layers[0].Size }), "config"},
		{"size of config", change(func(m *ocispec.Manifest) { m.Config.Size++ }), "bytes instead of"},
		{"large", big, "more than the"},
	}
	for _, test := range tests {
		if _, err := s.Image(t.Context(), test.desc, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestForeignTables(t *testing.T) {
	s := newStore(t)
	desc := mustBuild(t, s, "", file{"a", "1"})
	entry := func(annotations map[string]string) ocispec.Descriptor {
		d := desc
		d.Annotations = annotations
		return d
	}
	index := newIndex()
	index.Annotations = map[string]string{"keep": "me"}
	index.Manifests = []ocispec.Descriptor{
		entry(map[string]string{ocispec.AnnotationRefName: "app:v1", "more": "x"}),
		entry(map[string]string{ocispec.AnnotationRefName: "v1", annotationName: "docker.io/library/full:v1"}),
		entry(map[string]string{ocispec.AnnotationRefName: "latest"}),
		entry(map[string]string{ocispec.AnnotationRefName: "NOT A NAME"}),
		entry(nil),
		entry(map[string]string{ocispec.AnnotationRefName: "docker.io/library/app:v1"}),
		// umoci copies annotations that it does not know to the new name.
		entry(map[string]string{ocispec.AnnotationRefName: "team/copy:v2", annotationName: "docker.io/library/app:v1"}),
		entry(map[string]string{ocispec.AnnotationRefName: "word", annotationName: "docker.io/library/app:v1"}),
		entry(map[string]string{ocispec.AnnotationRefName: "NOT A NAME", annotationName: "docker.io/library/other:v1"}),
	}
	text := append([]byte("\xef\xbb\xbf"), encodeIndex(index)...)
	if err := os.WriteFile(s.path("index.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	refs, err := s.References(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range refs {
		names = append(names, r.Ref.Familiar())
	}
	if diff := cmp.Diff([]string{"app:v1", "full:v1", "latest:latest", "other:v1", "word:latest", "team/copy:v2"}, names); diff != "" {
		t.Error(diff)
	}
	if refs[0].Descriptor.Annotations["more"] != "x" {
		t.Errorf("%+v", refs[0].Descriptor)
	}
	if err := s.Tag(t.Context(), mustRef(t, "app:v1"), desc); err != nil {
		t.Fatal(err)
	}
	after, err := s.readIndex()
	if err != nil {
		t.Fatal(err)
	}
	if len(after.Manifests) != 8 || after.Annotations["keep"] != "me" {
		t.Errorf("%+v", after)
	}
	for i, bad := range []string{"", "{", `{"schemaVersion":1}`, `{"schemaVersion":2,"manifests":[{"digest":"x"}]}`} {
		if err := os.WriteFile(s.path("index.json"), []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := s.References(t.Context()); err == nil || !strings.Contains(err.Error(), "index.json") {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestDecodeConfigKeepsDockersFields(t *testing.T) {
	text := `{"architecture":"amd64","os":"linux","config":{"Hostname":"x","OnBuild":["RUN a"],"Shell":["bash"],
		"Healthcheck":{"Test":["CMD","x"],"StartInterval":5},"Labels":null,"Unknown":1},
		"container_config":{},"docker_version":"1","rootfs":{"type":"layers","diff_ids":[]},"history":null}`
	cfg, err := decodeConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Config.OnBuild[0] != "RUN a" || cfg.Config.Shell[0] != "bash" || cfg.Config.Healthcheck.StartInterval != 5 {
		t.Errorf("%+v", cfg.Config)
	}
	out, err := cfg.encode()
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(out, &fields); err != nil || len(fields) != 4 {
		t.Errorf("%s, %v", out, err)
	}
	for _, bad := range []string{"null", "[]", "", `{"rootfs":{"diff_ids":["x"]}}`, `{"created":"yesterday"}`} {
		if _, err := decodeConfig([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
