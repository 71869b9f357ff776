package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layerDir makes a directory with one file.
func layerDir(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
		t.Fatal(err)
	}
	then := time.Unix(1.7e9, 0)
	for _, path := range []string{filepath.Join(dir, name), dir} {
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mustCreateLayer(t *testing.T, s *Store, name string, o LayerOptions) *StoredLayer {
	t.Helper()
	l, err := s.CreateLayer(t.Context(), layerDir(t, name), o, memoryTOCs{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLayers(t *testing.T) {
	s := newStore(t)
	desc := mustBuild(t, s, "app:v1", file{"a", "1"}, file{"b", "2"})
	if err := s.Tag(t.Context(), mustRef(t, "app:v2"), desc); err != nil {
		t.Fatal(err)
	}
	low := mustHave(t, s, "app:v1").Layers[0]
	made := mustCreateLayer(t, s, "c", LayerOptions{Parent: low.DiffID.String(), Labels: map[string]string{"k": "v"}})
	list, err := s.Layers(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v, %v", list, err)
	}
	if list[0].ID != low.DiffID || list[0].Parent != "" || !equal(list[0].Images, []string{"app:v1"}) || list[0].Kept {
		t.Errorf("%+v", list[0])
	}
	if made.Parent != low.DiffID || !made.Kept || made.Labels["k"] != "v" || len(made.Chain) != 2 || len(made.Images) != 0 {
		t.Errorf("%+v", made)
	}
	// The store is as good as before to everybody else.
	age(t, s)
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, s)
	if list, err := s.List(t.Context(), ListOptions{Unnamed: true}); err != nil || listed(list) != "app:v1+app:v2" {
		t.Errorf("%q, %v", listed(list), err)
	}
	var used *InUseError
	if _, err := s.RemoveLayer(t.Context(), low.DiffID.String(), nil); !errors.As(err, &used) || used.What != "layer" {
		t.Errorf("%v", err)
	}
	// A record keeps what is below when the image goes.
	age(t, s)
	if _, errs := s.Remove(t.Context(), []string{"app:v1", "app:v2"}, RemoveOptions{}); len(errs) > 0 {
		t.Fatal(errs)
	}
	mustBeClean(t, s)
	if chain, err := s.LayerChain(t.Context(), made.ID.String()); err != nil || len(chain) != 2 || chain[0].ID != low.DiffID || chain[0].Kept {
		t.Errorf("%+v, %v", chain, err)
	}
	age(t, s)
	if _, err := s.RemoveLayer(t.Context(), made.ID.Encoded()[:10], nil); err != nil {
		t.Fatal(err)
	}
	if left := blobs(t, s); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestFindLayer(t *testing.T) {
	s := newStore(t)
	a, b := mustCreateLayer(t, s, "a", LayerOptions{}), mustCreateLayer(t, s, "b", LayerOptions{})
	onA := mustCreateLayer(t, s, "x", LayerOptions{Parent: a.ID.String()})
	onB := mustCreateLayer(t, s, "x", LayerOptions{Parent: b.ID.String()})
	if onA.DiffID != onB.DiffID || onA.ID == onB.ID {
		t.Fatalf("%+v, %+v", onA, onB)
	}
	var many *AmbiguousError
	if _, err := s.FindLayer(t.Context(), onA.DiffID.String()); !errors.As(err, &many) || len(many.Matches) != 2 {
		t.Errorf("%v", err)
	}
	for _, name := range []string{onA.ID.String(), onA.ID.Encoded(), onA.ID.Encoded()[:16]} {
		if got, err := s.FindLayer(t.Context(), name); err != nil || got.ID != onA.ID {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "app:v1", "ffffffffffff", "sha256:" + zeros} {
		if _, err := s.FindLayer(t.Context(), name); !errors.Is(err, ErrNotFound) && !errors.As(err, &many) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestKeepLayersTogether(t *testing.T) {
	s := newStore(t)
	const n = 6
	dirs := make([]string, n)
	for i := range dirs {
		dirs[i] = layerDir(t, fmt.Sprint(i))
	}
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i, dir := range dirs {
		wg.Go(func() {
			_, errs[i] = s.CreateLayer(context.Background(), dir, LayerOptions{Labels: map[string]string{"n": fmt.Sprint(i)}}, memoryTOCs{})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	list, err := s.Layers(t.Context())
	if err != nil || len(list) != n {
		t.Errorf("%d layers, %v", len(list), err)
	}
}

func TestLabelsOfALayerChange(t *testing.T) {
	s := newStore(t)
	l := mustCreateLayer(t, s, "a", LayerOptions{Labels: map[string]string{"k": "1"}})
	again, err := s.KeepLayer(t.Context(), l.ID.String(), map[string]string{"k": "2"})
	if err != nil || again.ID != l.ID || again.Labels["k"] != "2" {
		t.Errorf("%+v, %v", again, err)
	}
	index, err := s.readIndex()
	if err != nil || len(index.Manifests) != 1 {
		t.Errorf("%+v, %v", index, err)
	}
}

func TestImportLayerRefuses(t *testing.T) {
	from := newStore(t)
	low := mustCreateLayer(t, from, "a", LayerOptions{})
	l := mustCreateLayer(t, from, "b", LayerOptions{Parent: low.ID.String()})
	var text bytes.Buffer
	if err := from.ExportLayer(t.Context(), l, &text); err != nil {
		t.Fatal(err)
	}
	other := digest.FromString("other")
	change := func(f func(*LayerFile)) LayerFile {
		d := l.Describe()
		f(&d)
		return d
	}
	notTar := []byte("this is no tar at all, whatever its digest says")
	tests := []struct {
		name string
		want LayerFile
		text []byte
	}{
		{"bytes", l.Describe(), append(bytes.Clone(text.Bytes()), 'x')},
		{"cut", l.Describe(), text.Bytes()[:text.Len()-1]},
		{"digest", change(func(d *LayerFile) { d.Descriptor.Digest = other }), text.Bytes()},
		{"size", change(func(d *LayerFile) { d.Descriptor.Size++ }), text.Bytes()},
		{"diff id", change(func(d *LayerFile) { d.DiffID = other }), text.Bytes()},
		{"chain id", change(func(d *LayerFile) { d.ID = other }), text.Bytes()},
		{"another parent", change(func(d *LayerFile) { d.Parent = "" }), text.Bytes()},
		{"absent parent", change(func(d *LayerFile) { d.Parent = other }), text.Bytes()},
		{"no digest", change(func(d *LayerFile) { d.Descriptor.Digest = "" }), text.Bytes()},
		{"no tar", LayerFile{Descriptor: ocispec.Descriptor{Digest: digest.FromBytes(notTar)}}, notTar},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(t)
			if got := mustCreateLayer(t, s, "a", LayerOptions{}); got.ID != low.ID {
				t.Fatalf("the same file is layer %s and %s", got.ID, low.ID)
			}
			before := tree(t, s.Root())
			if got, err := s.ImportLayer(t.Context(), bytes.NewReader(test.text), test.want, LayerOptions{}, memoryTOCs{}); err == nil {
				t.Fatalf("taken: %+v", got)
			}
			if after := tree(t, s.Root()); !equal(before, after) {
				t.Errorf("it left %v", after)
			}
		})
	}
}
