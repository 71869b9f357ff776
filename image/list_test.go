package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// makeAt makes and names an image of some moment.
func makeAt(t *testing.T, s *Store, name string, at int64, labels map[string]string, files ...file) ocispec.Descriptor {
	t.Helper()
	created := time.Unix(at, 0).UTC()
	cfg := Config{Created: &created, Platform: HostPlatform()}
	cfg.Config.Labels = labels
	var layers []Layer
	for _, f := range files {
		l, err := addLayer(s, tarOf(t, f))
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	desc, err := s.Assemble(t.Context(), cfg, layers)
	if err != nil {
		t.Fatal(err)
	}
	if name != "" {
		if err := s.Tag(t.Context(), mustRef(t, name), desc); err != nil {
			t.Fatal(err)
		}
	}
	return desc
}

// listed writes a list down in one line.
func listed(list []Summary) string {
	var words []string
	for i := range list {
		word := "?"
		if len(list[i].Refs) > 0 {
			var names []string
			for _, r := range list[i].Refs {
				names = append(names, r.Familiar())
			}
			word = strings.Join(names, "+")
		}
		if list[i].Err != nil {
			word += "!"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestList(t *testing.T) {
	s := newStore(t)
	makeAt(t, s, "a:v1", 1000, map[string]string{"kind": "x", "empty": ""}, file{"f", "shared"}, file{"g", "own"})
	b := makeAt(t, s, "team/b:v1", 2000, map[string]string{"kind": "y"}, file{"f", "shared"})
	makeAt(t, s, "", 3000, nil, file{"h", "loose"})
	if err := s.Tag(t.Context(), mustRef(t, "other.io/team/b:v2"), b); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), mustRef(t, "digest@"+b.Digest.String()), b); err != nil {
		t.Fatal(err)
	}
	// What a push left is no image of its own.
	if _, err := s.Portable(t.Context(), b, testGzip()); err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	byDigest := "digest@" + b.Digest.String()
	allOfB := byDigest + "+team/b:v1+other.io/team/b:v2"
	tests := []struct {
		name string
		o    ListOptions
		want string
	}{
		{"named", ListOptions{}, allOfB + " a:v1"},
		{"all", ListOptions{Unnamed: true}, "? " + allOfB + " a:v1"},
		{"dangling", ListOptions{Dangling: &yes}, "?"},
		{"not dangling", ListOptions{Unnamed: true, Dangling: &no}, allOfB + " a:v1"},
		{"reference", ListOptions{References: []string{"*/b"}}, "team/b:v1"},
		{"references", ListOptions{References: []string{"a", "other.io/*/*:v2"}}, "other.io/team/b:v2 a:v1"},
		{"name and reference", ListOptions{Name: "team/b", References: []string{"*/*:v1"}}, "team/b:v1"},
		{"name against reference", ListOptions{Name: "a", References: []string{"b"}}, ""},
		{"label", ListOptions{Labels: []string{"kind"}}, allOfB + " a:v1"},
		{"label with value", ListOptions{Labels: []string{"kind=x"}}, "a:v1"},
		{"two labels", ListOptions{Labels: []string{"kind=x", "absent"}}, ""},
		{"empty label", ListOptions{Labels: []string{"empty="}}, "a:v1"},
		{"before", ListOptions{Before: "team/b:v1"}, "a:v1"},
		{"since", ListOptions{Since: "a:v1"}, allOfB},
		{"until", ListOptions{Until: time.Unix(2000, 0)}, "a:v1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, again := range []string{"read", "remembered"} {
				list, err := s.List(t.Context(), test.o)
				if got := listed(list); err != nil || got != test.want {
					t.Errorf("%s: got %q, want %q, %v", again, got, test.want, err)
				}
			}
		})
	}
	if _, err := s.List(t.Context(), ListOptions{Before: "nowhere"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	list, err := s.List(t.Context(), ListOptions{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	img := mustHave(t, s, "team/b:v1")
	want := b.Size + img.Manifest.Config.Size + img.Layers[0].Descriptor.Size
	if got := list[0]; got.Size() != want || got.Shared != img.Layers[0].Descriptor.Size || got.ID() != img.ID() {
		t.Errorf("size %d of %d, shared %d", got.Size(), want, got.Shared)
	}
}

func TestListLeavesNoMark(t *testing.T) {
	s := newStore(t)
	mustBuild(t, s, "app:v1", file{"a", "1"})
	age(t, s)
	if _, err := s.List(t.Context(), ListOptions{Unnamed: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Inspect(t.Context(), "app:v1", nil); err != nil {
		t.Fatal(err)
	}
	err := s.eachBlob(func(b blobFile) error {
		if time.Since(b.info.ModTime()) < time.Minute {
			t.Errorf("%s was marked as used", b.digest)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestListOfSparseIndex(t *testing.T) {
	s := newStore(t)
	index, images := bundle(t, s, "multi:v1")
	whole, err := s.List(t.Context(), ListOptions{Unnamed: true})
	if err != nil || listed(whole) != "multi:v1" {
		t.Fatalf("%q, %v", listed(whole), err)
	}
	lose(t, s, images[0], images[1])
	list, err := s.List(t.Context(), ListOptions{Unnamed: true})
	if err != nil || listed(list) != "multi:v1" || list[0].ID() != index.Digest {
		t.Fatalf("%q, %v", listed(list), err)
	}
	main, ok := list[0].Main()
	if !ok || main.Descriptor.Digest != images[2].Digest || len(list[0].Images()) != 3 {
		t.Errorf("%+v", main)
	}
	if list[0].Size() >= whole[0].Size() {
		t.Errorf("%d bytes, of the whole %d", list[0].Size(), whole[0].Size())
	}
	// Without its name it is one image still.
	if err := s.Untag(t.Context(), mustRef(t, "multi:v1")); err != nil {
		t.Fatal(err)
	}
	if list, err = s.List(t.Context(), ListOptions{Unnamed: true}); err != nil || listed(list) != "?" || list[0].ID() != index.Digest {
		t.Errorf("%q, %v", listed(list), err)
	}
}

func TestListTellsOfDamage(t *testing.T) {
	s := newStore(t)
	gone, cut := mustBuild(t, s, "gone:v1", file{"a", "1"}), mustBuild(t, s, "cut:v1", file{"a", "2"})
	mustBuild(t, s, "good:v1", file{"a", "3"})
	lose(t, s, gone)
	if err := os.WriteFile(s.blobPath(cut.Digest), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := s.List(t.Context(), ListOptions{})
	if err != nil || len(list) != 3 || !strings.Contains(listed(list), "good:v1") || strings.Count(listed(list), "!") != 2 {
		t.Errorf("%q, %v", listed(list), err)
	}
}

// Whatever is wrong with what is remembered, the list is the same.
func TestSummariesMayBeDamaged(t *testing.T) {
	s := newStore(t)
	for i := range 5 {
		mustBuild(t, s, fmt.Sprintf("app:v%d", i), file{"a", fmt.Sprint(i)})
	}
	want := ""
	damage := []struct {
		name string
		do   func([]byte) []byte
	}{
		{"none", func(b []byte) []byte { return b }},
		{"removed", func([]byte) []byte { return nil }},
		{"cut", func(b []byte) []byte { return b[:len(b)*2/3] }},
		{"flipped bits", func(b []byte) []byte {
			for i := 50; i < len(b); i += 300 {
				b[i] ^= 4
			}
			return b
		}},
		{"another line in place", func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("sha256:"), []byte("sha256: "))
		}},
		{"zeros at the end", func(b []byte) []byte { return append(b, make([]byte, 500)...) }},
	}
	for _, d := range damage {
		text, _ := os.ReadFile(s.path(summariesFile))
		if err := os.WriteFile(s.path(summariesFile), d.do(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			list, err := s.List(t.Context(), ListOptions{})
			if err != nil {
				t.Fatalf("%s: %v", d.name, err)
			}
			got := fmt.Sprintf("%+v", list)
			if want == "" {
				want = listed(list)
			}
			if listed(list) != want || strings.Contains(got, "!") {
				t.Errorf("%s: %s", d.name, got)
			}
		}
		// A second look has nothing to add.
		before, _ := os.ReadFile(s.path(summariesFile))
		if _, err := s.List(t.Context(), ListOptions{}); err != nil {
			t.Fatal(err)
		}
		if after, _ := os.ReadFile(s.path(summariesFile)); !bytes.Equal(before, after) {
			t.Errorf("%s: the file still grows", d.name)
		}
	}
}

func TestResolveArtifactsByID(t *testing.T) {
	s := newStore(t)
	image := mustBuild(t, s, "app:v1", file{"a", "1"})
	other := mustBuild(t, s, "app:v2", file{"a", "2"})
	for i, d := range []ocispec.Descriptor{putArtifact(t, s, image), putArtifact(t, s, other)} {
		if err := s.Tag(t.Context(), mustRef(t, fmt.Sprintf("note:v%d", i)), d); err != nil {
			t.Fatal(err)
		}
		// All artifacts share a config, which is nobody's id.
		if got, err := s.Resolve(t.Context(), d.Digest.Encoded()[:20]); err != nil || got.Digest != d.Digest {
			t.Errorf("%v, %v", got, err)
		}
	}
	if got, err := s.Resolve(t.Context(), digest.FromString("{}").String()); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v, %v", got, err)
	}
}
