package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Diff and Apply are inverses: any tree comes back, and gives the same tar again.
func TestDiffApplyInverse(t *testing.T) {
	for seed := range seeds(25) {
		in, out := t.TempDir(), t.TempDir()
		randomTree(t, in, rand.New(rand.NewPCG(seed, 1)))
		data, digests, toc := diff(t, in)
		applied, appliedTOC := apply(t, data, out, ApplyOptions{})
		again, digests2, toc2 := diff(t, out)

		if got, want := describe(t, out, what{true, true}), describe(t, in, what{true, true}); got != want {
			t.Fatalf("seed %d: another tree:\n%s", seed, cmp.Diff(want, got))
		}
		if !bytes.Equal(data, again) {
			t.Fatalf("seed %d: another tar", seed)
		}
		if d := digest.FromBytes(data); applied.DiffID != d {
			t.Errorf("seed %d: DiffID %s, want %s", seed, applied.DiffID, d)
		}
		digests.DiffID, digests2.DiffID = applied.DiffID, applied.DiffID
		if digests != applied || digests != digests2 {
			t.Errorf("seed %d: digests %v, %v, %v", seed, digests, applied, digests2)
		}
		if d := cmp.Diff(toc, appliedTOC); d != "" {
			t.Errorf("seed %d: Apply's table: %s", seed, d)
		}
		if d := cmp.Diff(toc, toc2); d != "" {
			t.Errorf("seed %d: the second Diff's table: %s", seed, d)
		}
		checkOffsets(t, data, toc)
		scanned, scannedTOC, err := Scan(context.Background(), bytes.NewReader(data))
		check(t, err)
		if d := cmp.Diff(appliedTOC, scannedTOC); d != "" || scanned != applied {
			t.Errorf("seed %d: Scan finds out something else: %v %s", seed, scanned, d)
		}
	}
}

// checkOffsets reads every file's bytes where the table says that they are.
func checkOffsets(t *testing.T, data []byte, toc *TOC) {
	t.Helper()
	for i := range toc.Entries {
		e := &toc.Entries[i]
		if e.Type != tar.TypeReg || e.marker() {
			continue
		}
		if d := digest.FromBytes(data[e.Offset : e.Offset+e.Size]); d != e.Digest {
			t.Errorf("%q: the bytes at %d have digest %s, want %s", e.Name, e.Offset, d, e.Digest)
		}
	}
}

func TestDiffOrderAndMarkers(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for _, d := range []string{"b", "a", "a/z", "c"} {
		check(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	check(t, unix.Setxattr(filepath.Join(dir, "a"), "trusted.overlay.opaque", []byte("y"), 0))
	check(t, unix.Setxattr(filepath.Join(dir, "b"), "user.overlay.opaque", []byte("y"), 0))
	check(t, unix.Setxattr(filepath.Join(dir, "a/z"), "trusted.overlay.impure", []byte("y"), 0))
	check(t, unix.Mknod(filepath.Join(dir, "a/z/hides nothing"), unix.S_IFCHR, 0))
	check(t, unix.Mknod(filepath.Join(dir, "c/gone"), unix.S_IFCHR, 0))
	check(t, os.WriteFile(filepath.Join(dir, "a/one"), []byte("1"), 0o644))
	check(t, os.Link(filepath.Join(dir, "a/one"), filepath.Join(dir, "a.two")))
	check(t, os.Symlink("x", filepath.Join(dir, "b/l")))
	check(t, os.Link(filepath.Join(dir, "b/l"), filepath.Join(dir, "b/m")))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	check(t, err)
	defer unix.Close(fd)
	t.Chdir(dir) // socket addresses are short
	check(t, unix.Bind(fd, &unix.SockaddrUnix{Name: "sock"}))

	_, _, toc := diff(t, dir)
	var got []string
	for _, e := range toc.Entries {
		line := string(e.Type) + " " + e.Name
		if e.Linkname != "" {
			line += " " + e.Linkname
		}
		got = append(got, line)
		if len(e.Xattrs) > 0 {
			t.Errorf("%s: attributes %q", e.Name, e.Xattrs)
		}
	}
	want := []string{
		"5 a", "0 a/.wh..wh..opq", "0 a/one", "5 a/z", "1 a.two a/one",
		"5 b", "0 b/.wh..wh..opq", "2 b/l x", "1 b/m b/l",
		"5 c", "0 c/.wh.gone",
	}
	if !slices.Equal(got, want) {
		t.Errorf("entries\n%q\nwant\n%q", got, want)
	}
	if target, ok := toc.Entries[10].Whiteout(); !ok || target != "c/gone" {
		t.Errorf("Whiteout() = %q, %v", target, ok)
	}
	if dir, ok := toc.Entries[1].Opaque(); !ok || dir != "a" {
		t.Errorf("Opaque() = %q, %v", dir, ok)
	}
	if toc.Entries[2].Offset == 0 || toc.Entries[2].Digest != digest.FromString("1") {
		t.Errorf("a/one: %+v", toc.Entries[2])
	}
}

func TestDiffRefuses(t *testing.T) {
	tests := []struct {
		name, want string
		root       bool
		make       func(dir string) error
	}{
		{"a directory with a reserved name", "reserved for whiteouts", false, func(dir string) error {
			return os.MkdirAll(filepath.Join(dir, "a/.wh..wh..opq"), 0o755)
		}},
		{"redirect_dir", "redirect_dir", true, func(dir string) error {
			sub := filepath.Join(dir, "d")
			return errors.Join(os.Mkdir(sub, 0o755), unix.Setxattr(sub, "trusted.overlay.redirect", []byte("/x"), 0))
		}},
		{"metacopy", "metacopy", true, func(dir string) error {
			sub := filepath.Join(dir, "f")
			return errors.Join(os.WriteFile(sub, nil, 0o644), unix.Setxattr(sub, "trusted.overlay.metacopy", nil, 0))
		}},
		{"an attribute that PAX cannot say", "SCHILY.xattr.user.a=b", false, func(dir string) error {
			sub := filepath.Join(dir, "f")
			err := errors.Join(os.WriteFile(sub, nil, 0o644), unix.Setxattr(sub, "user.a=b", nil, 0))
			if errors.Is(err, unix.ENOTSUP) {
				t.Skip("the file system has no user attributes")
			}
			return err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root {
				needRoot(t)
			}
			dir := t.TempDir()
			check(t, tt.make(dir))
			err := Diff(context.Background(), dir, NewWriter(&bytes.Buffer{}))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Diff = %v, want %q", err, tt.want)
			}
		})
	}
	if err := Diff(context.Background(), filepath.Join(t.TempDir(), "none"), NewWriter(&bytes.Buffer{})); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Diff of nothing = %v", err)
	}
}

func TestDiffCancelled(t *testing.T) {
	dir := t.TempDir()
	randomTree(t, dir, rand.New(rand.NewPCG(7, 7)))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	before := openFiles(t)
	if err := Diff(ctx, dir, NewWriter(&bytes.Buffer{})); !errors.Is(err, context.Canceled) {
		t.Errorf("Diff = %v", err)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

// failAfter fails when more than n bytes have been written.
type failAfter struct{ n int }

func (w *failAfter) Write(p []byte) (int, error) {
	if w.n -= len(p); w.n < 0 {
		return 0, unix.ENOSPC
	}
	return len(p), nil
}

// When writing fails, Diff says so and leaves no goroutine or descriptor behind.
func TestDiffWriteError(t *testing.T) {
	dir := t.TempDir()
	for seed := range uint64(10) {
		sub := filepath.Join(dir, string(rune('a'+seed)))
		check(t, os.Mkdir(sub, 0o755))
		randomTree(t, sub, rand.New(rand.NewPCG(seed, 2)))
	}
	data, _, _ := diff(t, dir)
	before := openFiles(t)
	for n := 0; n < len(data)-writeBuffer; n += len(data)/7 + 1 {
		if err := Diff(context.Background(), dir, NewWriter(&failAfter{n})); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("a writer that takes %d bytes: Diff = %v", n, err)
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

func openFiles(t *testing.T) int {
	names, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(names)
}

// Content says nothing about times, and everything about the rest.
func TestContent(t *testing.T) {
	base := Entry{Name: "a/b", Type: tar.TypeReg, Mode: 0o644, UID: 1, GID: 2, ModTime: time.Unix(5, 0), Xattrs: map[string]string{"user.a": "1"}}
	content := func(e Entry, body string) digest.Digest {
		w := NewWriter(&bytes.Buffer{})
		e.Size = int64(len(body))
		check(t, w.Write(e, strings.NewReader(body)))
		d, _, err := w.Close()
		check(t, err)
		return d.Content
	}
	want := content(base, "x")
	later := base
	later.ModTime = time.Unix(99, 7)
	if got := content(later, "x"); got != want {
		t.Errorf("another time gives another content")
	}
	for name, change := range map[string]func(e *Entry){
		"name":            func(e *Entry) { e.Name = "a/c" },
		"mode":            func(e *Entry) { e.Mode = 0o4644 },
		"uid":             func(e *Entry) { e.UID = 3 },
		"gid":             func(e *Entry) { e.GID = 3 },
		"type":            func(e *Entry) { e.Type, e.Linkname = tar.TypeSymlink, "x" },
		"attribute":       func(e *Entry) { e.Xattrs = map[string]string{"user.a": "2"} },
		"attribute name":  func(e *Entry) { e.Xattrs = map[string]string{"user.b": "1"} },
		"no attribute":    func(e *Entry) { e.Xattrs = nil },
		"more attributes": func(e *Entry) { e.Xattrs = map[string]string{"user.a": "1", "user.b": ""} },
	} {
		e := base
		change(&e)
		body := "x"
		if e.Type != tar.TypeReg {
			body = ""
		}
		if content(e, body) == want {
			t.Errorf("another %s gives the same content", name)
		}
	}
	if content(base, "y") == want {
		t.Errorf("other bytes give the same content")
	}
}

// A layer without a change is two zero blocks, as every builder has it.
func TestEmptyLayer(t *testing.T) {
	data, digests, toc := diff(t, t.TempDir())
	const want = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
	if got := digest.FromBytes(data); got != want || digests.Size != 1024 || len(toc.Entries) != 0 {
		t.Errorf("digest %s, size %d, %d entries", got, digests.Size, len(toc.Entries))
	}
}
