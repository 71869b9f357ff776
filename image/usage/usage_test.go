package usage

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func write(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Repeat("x", int(size))), 0o644); err != nil {
		t.Fatal(err)
	}
}

// du is what the program of that name says.
func du(t *testing.T, dir string) int64 {
	t.Helper()
	out, err := exec.Command("du", "-s", "--block-size=1", dir).Output()
	if err != nil {
		t.Skipf("du: %v", err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTreeIsWhatDuSays(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "small"), 1)
	write(t, filepath.Join(dir, "a/large"), 100_000)
	if err := os.Link(filepath.Join(dir, "a/large"), filepath.Join(dir, "a/b/same")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "small"), 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	var m Meter
	if err := m.Tree(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if want := du(t, dir); m.Bytes != want || m.Files != 6 {
		t.Errorf("%d bytes in %d files, du says %d", m.Bytes, m.Files, want)
	}
	var file Meter
	if err := file.Tree(t.Context(), filepath.Join(dir, "a/large")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "a/large"))
	if err != nil || file.Bytes != Of(info) || file.Bytes < 100_000 {
		t.Errorf("%d bytes, %v", file.Bytes, err)
	}
}

func TestTreeWithoutAPart(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "small"), 1)
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := Meter{Skip: func(path string) bool { return path == dir+"/a" }}
	if err := m.Tree(t.Context(), dir); err != nil || m.Files != 2 {
		t.Errorf("%d files, %v", m.Files, err)
	}
}

func TestTreeThatIsNotThereTakesNothing(t *testing.T) {
	var m Meter
	if err := m.Tree(t.Context(), filepath.Join(t.TempDir(), "gone")); err != nil || m.Bytes != 0 {
		t.Errorf("%d, %v", m.Bytes, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Tree(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
