package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tocOf is the table of contents of a tar of members.
func tocOf(t *testing.T, members ...member) (*TOC, []byte) {
	t.Helper()
	data := rawTar(t, members...)
	_, toc := apply(t, data, t.TempDir(), ApplyOptions{Format: Merge})
	return toc, data
}

func TestTreeResolve(t *testing.T) {
	toc, _ := tocOf(t, dir("usr"), dir("usr/lib"), file("usr/lib/so", "1"), symlink("lib", "usr/lib"), symlink("abs", "/usr"), symlink("up", "../../usr/./lib"),
		symlink("loop", "loop"), symlink("dangling", "no/where"), symlink("usr/lib/back", "../.."), symlink("self", "/"))
	tree := NewTree(toc)
	tests := []struct {
		path, all, parent string
		missing           bool
		err               error
	}{
		{path: "", all: "", parent: ""},
		{path: "/", all: "", parent: ""},
		{path: "lib/so", all: "usr/lib/so", parent: "usr/lib/so"},
		{path: "/lib/", all: "usr/lib", parent: "lib"},
		{path: "abs/lib/so", all: "usr/lib/so", parent: "usr/lib/so"},
		{path: "up", all: "usr/lib", parent: "up"},
		{path: "lib/back/lib/back/abs", all: "usr", parent: "abs"},
		{path: "self/self/usr", all: "usr", parent: "usr"},
		{path: "lib/../lib", all: "usr/lib", parent: "usr/lib"},
		{path: "../../lib/..", all: "usr", parent: "usr"},
		{path: "lib/new/file", all: "usr/lib/new/file", parent: "usr/lib/new/file", missing: true},
		{path: "dangling", all: "no/where", parent: "dangling", missing: true},
		{path: "dangling/x", all: "no/where/x", parent: "no/where/x", missing: true},
		{path: "nothing/../usr", all: "usr", parent: "usr"},
		{path: "loop", err: syscall.ELOOP},
		{path: "usr/lib/so/x", err: syscall.ENOTDIR},
	}
	for _, tt := range tests {
		real, n, err := tree.Resolve(tt.path)
		if !errors.Is(err, tt.err) || real != tt.all || (n == nil) != (tt.missing || tt.err != nil) {
			t.Errorf("Resolve(%q) = %q, %v, %v", tt.path, real, n, err)
		}
		if tt.path == "loop" {
			continue
		}
		if real, _, err = tree.ResolveParent(tt.path); !errors.Is(err, tt.err) || real != tt.parent {
			t.Errorf("ResolveParent(%q) = %q, %v", tt.path, real, err)
		}
	}
	if n, ok := tree.Lookup("lib"); !ok || n.Entry.Type != tar.TypeSymlink {
		t.Errorf("Lookup: %+v, %v", n, ok)
	}
	if _, ok := tree.Lookup("lib/so"); ok {
		t.Error("Lookup follows links")
	}
	if n, _ := tree.Lookup("/usr/lib"); !slices.Equal(n.Children(), []string{"back", "so"}) {
		t.Errorf("children %q", n.Children())
	}
	if err := tree.Walk("none", nil); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Walk of nothing: %v", err)
	}
}

// A hard link outlives the name that it was made of, and says where the bytes are.
func TestTreeHardLinks(t *testing.T) {
	bottom, _ := tocOf(t, file("a", "bytes"), hard("b", "a"))
	top := &TOC{Entries: []Entry{{Name: ".wh.a", Type: tar.TypeReg}, {Name: "c", Type: tar.TypeLink, Linkname: "b"}}}
	tree := NewTree(bottom, top)
	for _, path := range []string{"b", "c"} {
		layer, e, ok := tree.File(path)
		if !ok || layer != 0 || e.Name != "a" || e.Size != 5 {
			t.Errorf("File(%q) = %d, %+v, %v", path, layer, e, ok)
		}
	}
	if _, _, ok := tree.File("a"); ok {
		t.Error("a is still there")
	}
}

// Flatten writes a file once, under a name that is left, whatever became of the one
// that its layer has.
func TestFlattenPromotesLinks(t *testing.T) {
	bottom, data0 := tocOf(t, file("a", "one"), hard("b", "a"), file("gone", "2"), dir("d"), file("d/x", "3"))
	top, data1 := tocOf(t, file("a", "other"), file(".wh.gone", ""), dir("d"), file("d/.wh..wh..opq", ""), symlink("l", "b"))
	s := stack{tars: [][]byte{data0, data1}, tocs: []*TOC{bottom, top}}
	out := t.TempDir()
	flat := flatten(t, s)
	apply(t, flat, out, ApplyOptions{})
	if got, want := plain(t, out), lines("a other", "b one", "d/", "l -> b"); got != want {
		t.Errorf("got %s", got)
	}
	if bytes.Contains(flat, []byte(".wh.")) {
		t.Error("a whiteout is left")
	}
	if !bytes.Equal(flat, flatten(t, s)) {
		t.Error("the second time it gives other bytes")
	}
}

func TestFlattenErrors(t *testing.T) {
	toc, data := tocOf(t, file("a", "one"), file("b", "two"))
	_, other := tocOf(t, file("b", "two"), file("a", "one"))
	failure := errors.New("no such blob")
	tests := []struct {
		name string
		open func() (io.ReadCloser, error)
		want string
	}{
		{"a tar that is not there", func() (io.ReadCloser, error) { return nil, failure }, failure.Error()},
		{"a tar that is cut", func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data[:512+10])), nil }, "unexpected EOF"},
		{"an empty tar", func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }, "2 files of the table of contents are missing"},
		{"another tar", func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(other)), nil }, "table of contents has"},
	}
	for _, tt := range tests {
		err := Flatten(context.Background(), []FlattenLayer{{Tar: tt.open, TOC: toc}}, NewWriter(io.Discard))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	if err := Flatten(ctx, []FlattenLayer{{Tar: open, TOC: toc}}, NewWriter(io.Discard)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	unopened := func() (io.ReadCloser, error) { return nil, unix.EIO }
	check(t, Flatten(context.Background(), []FlattenLayer{{Tar: unopened, TOC: &TOC{}}}, NewWriter(io.Discard)))
}
