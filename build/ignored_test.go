package build

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/parser"
)

// TestIgnoringIsAsInDirectories compares what patterns leave of a tree with what
// they leave of a directory.
func TestIgnoringIsAsInDirectories(t *testing.T) {
	files := fakeTree{"a": "", "b.go": "", "dir/a": "", "dir/b.go": "", "dir/sub/a": "", "dir/sub/b.go": "", "other/x/y/z": ""}
	dir := t.TempDir()
	for name := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	store, err := cache.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, patterns := range []string{
		"", "a", "dir", "*", "*\n!dir/sub", "**/a", "dir\n!dir/sub/a", "*.go\n!b.go", "dir/*\n!dir/sub", "**/*.go", "other\n!other/x/y/z", "other/**", "nothing",
	} {
		ignore, err := parser.ParseIgnore(strings.NewReader(patterns))
		if err != nil {
			t.Fatal(err)
		}
		memo, err := store.Files(dir)
		if err != nil {
			t.Fatal(err)
		}
		real, err := openContext(dir, ignore, memo)
		if err != nil {
			t.Fatal(err)
		}
		got, want := walked(t, withoutIgnored(files, ignore), ""), walked(t, real, "")
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", patterns, got, want)
		}
		if err := real.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// walked lists the paths below a directory of a tree.
func walked(t *testing.T, tr tree, dir string) []string {
	t.Helper()
	names, err := tr.names(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, name := range names {
		p := join(dir, name)
		e, err := tr.lookup(p)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
		if e.Type == typeDir {
			out = append(out, walked(t, tr, p)...)
		}
	}
	return out
}
