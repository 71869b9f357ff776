package image

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestParseRef(t *testing.T) {
	sum := "sha256:" + zeros
	tests := []struct {
		in, full, familiar string
	}{
		{"app", "docker.io/library/app", "app"},
		{"app:v1", "docker.io/library/app:v1", "app:v1"},
		{"library/app", "docker.io/library/app", "app"},
		{"team/app", "docker.io/team/app", "team/app"},
		{"index.docker.io/app", "docker.io/library/app", "app"},
		{"docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"},
		{"localhost/app", "localhost/app", "localhost/app"},
		{"localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"},
		{"[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"},
		{"ghcr.io/a/b/c:V1", "ghcr.io/a/b/c:V1", "ghcr.io/a/b/c:V1"},
		{"app@" + sum, "docker.io/library/app@" + sum, "app@" + sum},
		{"app:v1@" + sum, "docker.io/library/app:v1@" + sum, "app:v1@" + sum},
	}
	for _, test := range tests {
		r, err := ParseRef(test.in)
		if err != nil {
			t.Errorf("%s: %v", test.in, err)
			continue
		}
		if r.String() != test.full || r.Familiar() != test.familiar {
			t.Errorf("%s: %s, %s", test.in, r, r.Familiar())
		}
		again, err := ParseRef(r.String())
		if err != nil || again != r {
			t.Errorf("%s: reads back as %v, %v", r, again, err)
		}
	}
	r := mustRef(t, "localhost:5000/a/b:v1")
	if r.Host() != "localhost:5000" || r.Repository() != "a/b" || r.Tag() != "v1" || r.Digest() != "" {
		t.Errorf("%+v", r)
	}
	if got := mustRef(t, "app").WithDefaultTag().String(); got != "docker.io/library/app:latest" {
		t.Error(got)
	}
	if got := mustRef(t, "app@"+sum).WithDefaultTag().Tag(); got != "" {
		t.Error(got)
	}
	if (Ref{}).String() != "" || (Ref{}).Familiar() != "" || !(Ref{}).WithDefaultTag().IsZero() {
		t.Error("the zero reference names something")
	}
}

func TestParseRefErrors(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", "it is empty"},
		{" ", "it is empty"},
		{"App:V1", "did you mean app:V1?"},
		{"ghcr.io/Team/app", "did you mean ghcr.io/team/app?"},
		{"https://ghcr.io/a/b", "leave the https:// out"},
		{zeros, "image id"},
		{"app:v1:f", "more than one tag"},
		{"app:", "the tag after the colon is empty"},
		{"app:v 1", "has a blank in it"},
		{"-app", `"-app" begins or ends with "-"`},
		{"a/b_", `"b_" begins or ends with "_"`},
		{"a.._b", "signs between its words"},
		{"app@sha256:123", "the digest has 3 digits, and sha256 has 64"},
		{"app@sha256:" + strings.Repeat("g", 64), "the digits 0-9 and a-f"},
		{"app@md5:123", `the digest's algorithm "md5" is not known`},
		{"app@", "the digest after the @ is empty"},
		{"app@latest", "has no algorithm"},
		{"a//b", "two are side by side"},
		{"/a", "a slash begins"},
		{"a/", "a slash begins or ends"},
		{"a/b$c:v1", `"b$c" has '$' in it`},
		{"naïve", `has 'ï' in it`},
		{"app:" + strings.Repeat("t", 129), "the tag has 129 characters"},
		{"app:.v", `begins with "."`},
		{"app:v+1", "more in it than letters"},
		{"localhost:port/app", `"localhost:port" is no registry`},
		{strings.Repeat("a/", 130) + "b", "the repository has 261 characters"},
		{"App@sha256:" + zeros, "did you mean app@sha256:"},
	}
	for _, test := range tests {
		_, err := ParseRef(test.in)
		var bad *RefError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v", test.in, err)
		}
	}
}

func TestResolve(t *testing.T) {
	s := newStore(t)
	named := mustBuild(t, s, "app:v1", file{"a", "1"})
	untagged := mustBuild(t, s, "", file{"a", "2"})
	index, children := indexOf(t, s, ocispec.Platform{OS: "linux", Architecture: "amd64"}, ocispec.Platform{OS: "linux", Architecture: "arm64"})
	if err := s.Tag(t.Context(), mustRef(t, "multi"), index); err != nil {
		t.Fatal(err)
	}
	id := func(d ocispec.Descriptor) digest.Digest {
		img, err := s.Image(t.Context(), d, nil)
		if err != nil {
			t.Fatal(err)
		}
		return img.ID()
	}
	tests := []struct {
		name, in string
		want     ocispec.Descriptor
	}{
		{"tag", "app:v1", named},
		{"full name", "docker.io/library/app:v1", named},
		{"default tag", "multi", index},
		{"digest of the repository", "app@" + named.Digest.String(), named},
		{"digest of another repository", "other.io/x@" + named.Digest.String(), named},
		{"manifest's digest", named.Digest.String(), named},
		{"manifest's hex", named.Digest.Encoded(), named},
		{"image id", id(named).String(), named},
		{"image id's hex", id(named).Encoded(), named},
		{"short id", id(named).Encoded()[:12], named},
		{"short id with algorithm", id(named).String()[:20], named},
		{"untagged by digest", untagged.Digest.String(), untagged},
		{"untagged by short id", id(untagged).Encoded()[:12], untagged},
		{"index", index.Digest.Encoded()[:16], index},
		{"image of an index", children[1].Digest.String(), children[1]},
		{"image of an index by id", id(children[1]).Encoded()[:12], children[1]},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := s.Resolve(t.Context(), test.in)
			if err != nil {
				t.Fatal(err)
			}
			if got.Digest != test.want.Digest || got.Size != test.want.Size || got.MediaType != test.want.MediaType {
				t.Errorf("%+v", got)
			}
		})
	}
	for _, absent := range []string{"app", "nothing:v1", "sha256:" + zeros, strings.Repeat("f", 64), "ffffffffffff", "other/app:v1"} {
		if _, err := s.Resolve(t.Context(), absent); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", absent, err)
		}
	}
	var bad *RefError
	if _, err := s.Resolve(t.Context(), "App"); !errors.As(err, &bad) {
		t.Errorf("%v", err)
	}
	// A layer's digest is no image.
	img := mustHave(t, s, "app:v1")
	if _, err := s.Resolve(t.Context(), img.Layers[0].DiffID.String()); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestResolveAmbiguousPrefix(t *testing.T) {
	s := newStore(t)
	// With 17 images two ids begin alike.
	seen := make(map[byte]int)
	for i := range 17 {
		mustBuild(t, s, "app:v"+string(rune('a'+i)), file{"a", string(rune('a' + i))})
		seen[mustHave(t, s, "app:v"+string(rune('a'+i))).ID().Encoded()[0]]++
	}
	for first, n := range seen {
		if n < 2 {
			continue
		}
		_, err := s.Resolve(t.Context(), string(first))
		var many *AmbiguousError
		if !errors.Is(err, ErrAmbiguous) || !errors.As(err, &many) || len(many.Matches) < n {
			t.Errorf("%c: %v", first, err)
		}
		return
	}
	t.Error("no two ids begin alike")
}

func TestNameGoesBeforeID(t *testing.T) {
	s := newStore(t)
	mustBuild(t, s, "app:v1", file{"a", "1"})
	other := mustBuild(t, s, "other:v1", file{"a", "2"})
	prefix := mustHave(t, s, "app:v1").ID().Encoded()[:8]
	if err := s.Tag(t.Context(), mustRef(t, prefix), other); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Resolve(t.Context(), prefix); err != nil || got.Digest != other.Digest {
		t.Errorf("%v, %v", got.Digest, err)
	}
}

// An image id that two manifests share, as after a push, is one image.
func TestPortableTwinIsNotAmbiguous(t *testing.T) {
	s := newStore(t)
	desc := mustBuild(t, s, "", file{"a", "1"})
	if _, err := s.Portable(t.Context(), desc, testGzip()); err != nil {
		t.Fatal(err)
	}
	img, err := s.Image(t.Context(), desc, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Resolve(t.Context(), img.ID().Encoded()[:12])
	if err != nil {
		t.Fatal(err)
	}
	if other, err := s.Image(t.Context(), got, nil); err != nil || other.ID() != img.ID() {
		t.Errorf("%+v, %v", other, err)
	}
}
