package image

import (
	"bytes"
	"errors"
	"testing"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"app", "app:v1", "localhost:5000/a/b@sha256:" + zeros, "A:b", "[::1]:1/x", "https://x", "a//b", zeros, "app:v1@", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s)
		if err != nil {
			var bad *RefError
			if !errors.As(err, &bad) {
				t.Fatalf("%q: %T", s, err)
			}
			return
		}
		for _, form := range []string{r.String(), r.Familiar()} {
			if again, err := ParseRef(form); err != nil || again != r {
				t.Fatalf("%q: %q reads back as %v, %v", s, form, again, err)
			}
		}
	})
}

func FuzzDocuments(f *testing.F) {
	d := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + zeros + `","size":1}`
	f.Add("", []byte(`{"schemaVersion":2,"config":`+d+`,"layers":[`+d+`]}`))
	f.Add(ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[`+d+`]}`))
	f.Add(dockerManifest, []byte(`{"schemaVersion":1,"fsLayers":[]}`))
	f.Add("", []byte(`{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":["sha256:`+zeros+`"]}}`))
	f.Fuzz(func(t *testing.T, mediaType string, text []byte) {
		if doc, err := decodeDocument(mediaType, text); err == nil {
			if (doc.index == nil) == (doc.manifest == nil) {
				t.Fatal("neither one nor the other")
			}
			for _, c := range doc.children() {
				if c.Digest.Validate() != nil || c.Size < 0 {
					t.Fatalf("descriptor %+v", c)
				}
			}
		}
		if index, err := decodeTable(text); err == nil {
			list := tableEntries(index)
			for i, r := range list {
				if !r.Ref.IsZero() && i > 0 && list[i-1].Ref.IsZero() {
					t.Fatal("a name after entries without one")
				}
			}
			if _, err := decodeTable(encodeIndex(index)); err != nil {
				t.Fatal(err)
			}
		}
		if cfg, err := decodeConfig(text); err == nil {
			out, err := cfg.encode()
			if err != nil {
				return // times beyond what JSON can hold
			}
			if _, err := decodeConfig(out); err != nil {
				t.Fatalf("%s: %v", out, err)
			}
		}
	})
}

func FuzzLoad(f *testing.F) {
	s := newStore(f)
	for _, format := range []ArchiveFormat{DockerArchive, OCIArchive} {
		desc, err := build(f.Context(), s, "app:v1", tarOf(f, file{"a", "1"}))
		if err != nil {
			f.Fatal(err)
		}
		var out bytes.Buffer
		if err := s.SaveReferences(f.Context(), &out, []Reference{{mustRef(f, "app:v1"), desc}}, SaveOptions{Format: format}); err != nil {
			f.Fatal(err)
		}
		f.Add(out.Bytes())
	}
	a := string(tarOf(f, file{"a", "1"}))
	f.Add(archiveOf(f, member{name: "a/layer.tar", body: a}, member{name: "c.json", body: legacyConfig(a)},
		member{name: "manifest.json", body: `[{"Config":"c.json","RepoTags":["a:b"],"Layers":["a/layer.tar"]}]`}))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := newStore(t)
		before := tree(t, s.Root())
		loaded, err := s.Load(t.Context(), bytes.NewReader(text), LoadOptions{})
		mustBeClean(t, s)
		if left := tree(t, s.path("ingest")); len(left) > 0 {
			t.Fatalf("left behind: %v", left)
		}
		if err != nil && len(tree(t, s.Root())) != len(before) && len(blobs(t, s)) > 0 {
			if refs, _ := s.References(t.Context()); len(refs) == 0 {
				t.Fatalf("trace after %v: %v", err, blobs(t, s))
			}
		}
		for _, l := range loaded {
			if l.Ref.IsZero() {
				continue
			}
			if _, err := s.Lookup(t.Context(), l.Ref); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzRef holds our reader of references to Docker's.
func FuzzRef(f *testing.F) {
	for _, seed := range []string{
		"ghcr.io/a/b:v1", "localhost:5000/a", "localhost/a", "a.b/c_d/e-f.g:V_1", "docker.io/library/a", "docker.io/a", "docker.io/a/b/c:v1", "index.docker.io/a/b",
		"docker.io:1/a/b", "a..b/c", "1.2.3.4:80/x", "a-.b/c", "x.y/a__b", "x.y/a___b", "x.y/a-_b", "x.y/a--b", "a:b:c", "a@b", "Foo/bar", "Foo", "[::1]:5000/a", "[::1]/a", "a_b.c/d",
		"a/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "a:v@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "/a", "a/", "a//b", ":", "@", "", "\u00e9/a", "a:é", "x.y:/a", "a:5000/b:5000/c", "a+b", "index.docker.io/a",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRef(text)
		named, wrong := reference.ParseNormalizedNamed(text)
		if wrong == nil && reference.Domain(named) == "" {
			wrong = errNotRef // a host with an underscore, which it takes for a part of a repository without any
		}
		if (err == nil) != (wrong == nil) {
			t.Fatalf("%q: %v, and %v", text, err, wrong)
		}
		if err != nil {
			return
		}
		want := Ref{host: reference.Domain(named), repo: reference.Path(named)}
		if tagged, ok := named.(reference.Tagged); ok {
			want.tag = tagged.Tag()
		}
		if digested, ok := named.(reference.Digested); ok {
			want.digest = digested.Digest()
		}
		if r != want {
			t.Fatalf("%q is read as %+v and is %+v", text, r, want)
		}
	})
}
