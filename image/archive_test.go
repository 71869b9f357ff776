package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// member is one entry of an archive a test writes by hand.
type member struct {
	name string
	kind byte // 0: a file
	body string
	link string
}

func archiveOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		if m.kind == 0 {
			m.kind = tar.TypeReg
		}
		h := &tar.Header{Typeflag: m.kind, Name: m.name, Linkname: m.link, Mode: 0o644, Size: int64(len(m.body))}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func hexOf(text string) string { return digest.FromString(text).Encoded() }

// legacyConfig is a config with fields that only Docker knows.
func legacyConfig(layers ...string) string {
	var ids []string
	for _, l := range layers {
		ids = append(ids, `"`+digest.FromString(l).String()+`"`)
	}
	return `{"architecture":"amd64","os":"linux","docker_version":"1.12","config":{"Hostname":"x"},"rootfs":{"type":"layers","diff_ids":[` +
		strings.Join(ids, ",") + `]}}`
}

func gzipped(t testing.TB, text string) string {
	t.Helper()
	var out strings.Builder
	z := gzip.NewWriter(&out)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestLoadOlderArchives(t *testing.T) {
	a, b := string(tarOf(t, file{"a", "1"})), string(tarOf(t, file{"b", "2"}))
	cfg := legacyConfig(a, b)
	list := func(config string, tags string, layers ...string) member {
		text, _ := json.Marshal(layers)
		return member{name: "manifest.json", body: `[{"Config":"` + config + `","RepoTags":` + tags + `,"Layers":` + string(text) + `}]`}
	}
	tests := []struct {
		name    string
		members []member
		refs    []string
		layers  string // media types
	}{
		{"docker 1.10 to 24", []member{
			{name: "aaa/", kind: tar.TypeDir},
			{name: "aaa/VERSION", body: "1.0"},
			{name: "aaa/json", body: "{}"},
			{name: "aaa/layer.tar", body: a},
			{name: "bbb/layer.tar", body: b},
			{name: hexOf(cfg) + ".json", body: cfg},
			list(hexOf(cfg)+".json", `["app:v1","team/app:v2"]`, "aaa/layer.tar", "bbb/layer.tar"),
			{name: "repositories", body: "{}"},
		}, []string{"app:v1", "team/app:v2"}, "tar tar"},
		{"manifest.json first, dots before names", []member{
			list("c.json", `["app:v1"]`, "a.tar", "b.tar"),
			{name: "./a.tar", body: a},
			{name: "./b.tar", body: b},
			{name: "./c.json", body: cfg},
		}, []string{"app:v1"}, "tar tar"},
		{"links for layers that were there before", []member{
			{name: "aaa/layer.tar", body: a},
			{name: "bbb/layer.tar", body: b},
			{name: "c.json", body: cfg},
			{name: "ccc/layer.tar", kind: tar.TypeSymlink, link: "../aaa/layer.tar"},
			{name: "ddd/layer.tar", kind: tar.TypeLink, link: "bbb/layer.tar"},
			list("c.json", `["app:v1"]`, "ccc/layer.tar", "ddd/layer.tar"),
		}, []string{"app:v1"}, "tar tar"},
		{"compressed layers and a config without suffix", []member{
			{name: "sha256:" + hexOf(cfg), body: cfg},
			{name: "a.tar.gz", body: gzipped(t, a)},
			{name: "b.tar.gz", body: gzipped(t, b)},
			list("sha256:"+hexOf(cfg), `["localhost:5000/app"]`, "a.tar.gz", "b.tar.gz"),
		}, []string{"localhost:5000/app:latest"}, "tar+gzip tar+gzip"},
		{"no name", []member{
			{name: "a.tar", body: a},
			{name: "b.tar", body: b},
			{name: "c.json", body: cfg},
			list("c.json", "null", "a.tar", "b.tar"),
		}, []string{""}, "tar tar"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(t)
			loaded, err := s.Load(t.Context(), bytes.NewReader(archiveOf(t, test.members...)), LoadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var refs []string
			for _, l := range loaded {
				refs = append(refs, l.Ref.Familiar())
			}
			if diff := cmp.Diff(test.refs, refs); diff != "" {
				t.Error(diff)
			}
			img, err := s.Image(t.Context(), loaded[0].Descriptor, nil)
			if err != nil {
				t.Fatal(err)
			}
			if img.ID() != digest.FromString(cfg) {
				t.Errorf("the image id changed to %s", img.ID())
			}
			var types []string
			for _, l := range img.Layers {
				types = append(types, strings.TrimPrefix(l.Descriptor.MediaType, "application/vnd.oci.image.layer.v1."))
			}
			if got := strings.Join(types, " "); got != test.layers {
				t.Errorf("layers %s", got)
			}
			mustBeClean(t, s)
			if left := tree(t, s.path("ingest")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestLoadRefusesAndLeavesNoTrace(t *testing.T) {
	a := string(tarOf(t, file{"a", "1"}))
	cfg := legacyConfig(a)
	ours := newStore(t)
	mustBuild(t, ours, "app:v1", file{"a", "1"})
	var saved bytes.Buffer
	if err := ours.Save(t.Context(), &saved, []string{"app:v1"}, SaveOptions{Format: OCIArchive}); err != nil {
		t.Fatal(err)
	}
	without := func(part string) []byte {
		var members []member
		r := tar.NewReader(bytes.NewReader(saved.Bytes()))
		for {
			h, err := r.Next()
			if err != nil {
				return archiveOf(t, members...)
			}
			body, _ := io.ReadAll(r)
			if h.Typeflag == tar.TypeReg && !strings.Contains(h.Name, part) {
				members = append(members, member{name: h.Name, body: string(body)})
			}
		}
	}
	layer := mustHave(t, ours, "app:v1").Layers[0].DiffID.Encoded()
	damaged := bytes.Replace(saved.Bytes(), []byte("\x001"), []byte("\x002"), 1)
	for i := range saved.Len() {
		if bytes.HasPrefix(saved.Bytes()[i:], []byte(a[:512])) {
			damaged = bytes.Clone(saved.Bytes())
			damaged[i+512] ^= 1
		}
	}
	tests := []struct {
		name, want string
		text       []byte
	}{
		{"nothing", "it is empty", nil},
		{"empty tar", "it is empty", archiveOf(t)},
		{"no tar", "not a tar", bytes.Repeat([]byte("text"), 1000)},
		{"a root file system", "imported, not loaded", archiveOf(t, member{name: "etc/passwd", body: "x"}, member{name: "init", body: "x"})},
		{"cut", "unexpected EOF", saved.Bytes()[:saved.Len()/2]},
		{"damaged blob", "has digest", damaged},
		{"missing layer", layer, without(layer)},
		{"no table", "neither index.json", without("index.json")},
		{"docker before 1.10", "before 1.10", archiveOf(t, member{name: "x/layer.tar", body: a}, member{name: "repositories", body: "{}"})},
		{"wrong layer", "has digest", archiveOf(t, member{name: "a.tar", body: a + "x"}, member{name: "c.json", body: cfg},
			member{name: "manifest.json", body: `[{"Config":"c.json","Layers":["a.tar"]}]`})},
		{"layer count", "0 layers", archiveOf(t, member{name: "c.json", body: cfg}, member{name: "manifest.json", body: `[{"Config":"c.json","Layers":[]}]`})},
		{"no config", `"../c.json"`, archiveOf(t, member{name: "manifest.json", body: `[{"Config":"../c.json","Layers":[]}]`})},
		{"links in a ring", `"a.tar"`, archiveOf(t, member{name: "a.tar", kind: tar.TypeSymlink, link: "b.tar"}, member{name: "b.tar", kind: tar.TypeSymlink, link: "a.tar"},
			member{name: "c.json", body: cfg}, member{name: "manifest.json", body: `[{"Config":"c.json","Layers":["a.tar"]}]`})},
		{"name", "invalid image reference", archiveOf(t, member{name: "c.json", body: legacyConfig()}, member{name: "manifest.json", body: `[{"Config":"c.json","RepoTags":["A B"],"Layers":[]}]`})},
		{"no image", "names no image", archiveOf(t, member{name: "manifest.json", body: `[]`})},
		{"no image in the table", "names no image", archiveOf(t, member{name: "oci-layout", body: "{}"}, member{name: "index.json", body: `{"schemaVersion":2}`})},
		{"blob's name", "digest", archiveOf(t, member{name: "blobs/sha256/xyz", body: "x"})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(t)
			before := tree(t, s.Root())
			_, err := s.Load(t.Context(), bytes.NewReader(test.text), LoadOptions{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
			if diff := cmp.Diff(before, tree(t, s.Root())); diff != "" {
				t.Errorf("trace: %s", diff)
			}
		})
	}
}

func TestSaveWrites(t *testing.T) {
	s := newStore(t)
	desc := mustBuild(t, s, "app:v1", file{"a", "1"})
	if err := s.Tag(t.Context(), mustRef(t, "reg.io/app:v2"), desc); err != nil {
		t.Fatal(err)
	}
	img := mustHave(t, s, "app:v1")
	read := func(f ArchiveFormat, names ...string) map[string]string {
		var out bytes.Buffer
		if err := s.Save(t.Context(), &out, names, SaveOptions{Format: f}); err != nil {
			t.Fatal(err)
		}
		files := make(map[string]string)
		r := tar.NewReader(&out)
		last := ""
		for {
			h, err := r.Next()
			if err == io.EOF {
				return files
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.Name <= last || h.Uid != 0 || h.ModTime.Unix() != 0 {
				t.Errorf("header %+v after %s", h, last)
			}
			last = h.Name
			body, _ := io.ReadAll(r)
			files[h.Name] = string(body)
		}
	}
	docker := read(DockerArchive, "app:v1", "reg.io/app:v2", "app:v1")
	wantList := `[{"Config":"blobs/sha256/` + img.ID().Encoded() + `","RepoTags":["app:v1","reg.io/app:v2"],"Layers":["blobs/sha256/` + img.Layers[0].DiffID.Encoded() + `"]}]`
	if docker["manifest.json"] != wantList {
		t.Errorf("manifest.json: %s", docker["manifest.json"])
	}
	wantRepos := `{"app":{"v1":"` + img.Layers[0].DiffID.Encoded() + `"},"reg.io/app":{"v2":"` + img.Layers[0].DiffID.Encoded() + `"}}`
	if docker["repositories"] != wantRepos {
		t.Errorf("repositories: %s", docker["repositories"])
	}
	var index ocispec.Index
	if err := json.Unmarshal([]byte(docker["index.json"]), &index); err != nil || len(index.Manifests) != 2 {
		t.Fatalf("%s, %v", docker["index.json"], err)
	}
	if a := index.Manifests[0].Annotations; a[ocispec.AnnotationRefName] != "v1" || a[annotationName] != "docker.io/library/app:v1" {
		t.Errorf("%v", a)
	}
	oci := read(OCIArchive, img.ID().Encoded()[:12])
	if _, ok := oci["manifest.json"]; ok || len(oci) != 7 {
		t.Errorf("%v", oci)
	}
	index = ocispec.Index{}
	if err := json.Unmarshal([]byte(oci["index.json"]), &index); err != nil || index.Manifests[0].Annotations != nil {
		t.Errorf("%s, %v", oci["index.json"], err)
	}
	if err := s.Save(t.Context(), io.Discard, []string{"absent:v1"}, SaveOptions{Format: OCIArchive}); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	if err := s.Save(t.Context(), io.Discard, []string{"app:v1"}, SaveOptions{Format: "zip"}); err == nil {
		t.Error("saved as zip")
	}
	if err := s.Save(t.Context(), io.Discard, nil, SaveOptions{Format: OCIArchive}); err == nil {
		t.Error("saved nothing")
	}
}

func TestSaveAndLoadAnIndex(t *testing.T) {
	s := newStore(t)
	here := HostPlatform()
	index, _ := indexOf(t, s, ocispec.Platform{OS: "linux", Architecture: "s390x"}, here)
	if err := s.Tag(t.Context(), mustRef(t, "multi:v1"), index); err != nil {
		t.Fatal(err)
	}
	for _, f := range []ArchiveFormat{DockerArchive, OCIArchive} {
		var out bytes.Buffer
		if err := s.Save(t.Context(), &out, []string{"multi:v1"}, SaveOptions{Format: f}); err != nil {
			t.Fatal(err)
		}
		y := newStore(t)
		loaded, err := y.Load(t.Context(), &out, LoadOptions{})
		if err != nil || len(loaded) != 1 || loaded[0].Descriptor.Digest != index.Digest {
			t.Fatalf("%s: %+v, %v", f, loaded, err)
		}
		if img := mustHave(t, y, "multi:v1"); img.Config.Architecture != here.Architecture {
			t.Errorf("%s: image for %s", f, FormatPlatform(img.Config.Platform))
		}
		mustBeClean(t, y)
	}
}

func testSaveLoad(t *testing.T, x *suite) {
	x.build(t, "app:v1", "1", "2")
	x.try(t, "tag", func() error {
		desc, err := x.s.Resolve(t.Context(), "app:v1")
		if err != nil {
			return err
		}
		return x.s.Tag(t.Context(), mustRef(t, "app:v2"), desc)
	})
	for _, format := range []ArchiveFormat{DockerArchive, OCIArchive} {
		var out [2]bytes.Buffer
		for i := range out {
			x.try(t, "save", func() error {
				out[i].Reset()
				return x.s.Save(t.Context(), &out[i], []string{"app"}, SaveOptions{Format: format})
			})
		}
		if !bytes.Equal(out[0].Bytes(), out[1].Bytes()) {
			t.Errorf("%s: two archives differ", format)
		}
		y := &suite{root: filepath.Join(t.TempDir(), "store"), fail: x.fail, disk: x.disk}
		x.try(t, "open", func() (err error) { y.s, err = open(y.root, x.disk); return err })
		x.try(t, "load", func() error {
			loaded, err := y.s.Load(t.Context(), bytes.NewReader(out[0].Bytes()), LoadOptions{})
			if err == nil && len(loaded) != 2 {
				t.Errorf("%s: loaded %+v", format, loaded)
			}
			return err
		})
		for _, name := range []string{"app:v1", "app:v2"} {
			if a, b := mustHave(t, x.s, name), mustHave(t, y.s, name); a.Descriptor.Digest != b.Descriptor.Digest {
				t.Errorf("%s: %s changed its digest", format, name)
			}
		}
		mustBeClean(t, y.s)
	}
}

func testImport(t *testing.T, x *suite) {
	root := tarOf(t, file{"etc/os-release", "ID=test"})
	x.try(t, "import", func() error {
		desc, err := x.s.Import(t.Context(), bytes.NewReader(root), Config{})
		if err != nil {
			return err
		}
		return x.s.Tag(t.Context(), mustRef(t, "root"), desc)
	})
	img := mustHave(t, x.s, "root")
	if img.Layers[0].DiffID != digest.FromBytes(root) || len(img.Config.History) != 1 || img.Config.OS != "linux" {
		t.Errorf("%+v", img)
	}
	for name, text := range map[string]string{"empty": "", "no tar": strings.Repeat("text ", 500), "cut": string(root[:700])} {
		x.try(t, name, func() error {
			_, err := x.s.Import(t.Context(), strings.NewReader(text), Config{})
			if err == nil {
				return errors.New("no error")
			}
			if errors.Is(err, errFlaky) || errors.Is(err, unix.ENOSPC) {
				return err
			}
			return nil
		})
	}
}
