package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ocibuild/ocibuild/image/rootfs"
)

// randomLayer makes members over few names, so that they meet: files, directories,
// links in parents, hard links, deletions, several of one name, missing parents.
func randomLayer(rnd *rand.Rand, label string) []member {
	name := func() string {
		depth := 1 + rnd.IntN(3)
		parts := make([]string, depth)
		for i := range parts {
			parts[i] = string(rune('a' + rnd.IntN(4)))
		}
		return strings.Join(parts, "/")
	}
	var members []member
	for i := range 1 + rnd.IntN(10) {
		n := name()
		up, base := splitName(n)
		if rnd.IntN(3) > 0 { // most tars have the directories above
			for at := 0; ; at++ {
				next := strings.IndexByte(n[at:], '/')
				if next < 0 {
					break
				}
				at += next
				members = append(members, dir(n[:at]))
			}
		}
		switch rnd.IntN(10) {
		case 0, 1, 2:
			members = append(members, member{name: n, body: fmt.Sprint(label, i), mode: 0o600 + int64(rnd.IntN(8)), uid: someone(rnd)})
		case 3, 4:
			members = append(members, member{name: n, kind: tar.TypeDir, mode: 0o700 + int64(rnd.IntN(8)), uid: someone(rnd), pax: map[string]string{paxXattr + "user." + label: "1"}})
		case 5:
			members = append(members, symlink(n, []string{"a", "b/c", "/a", "../b", "/", "c"}[rnd.IntN(6)]))
		case 6:
			members = append(members, hard(n, name()))
		case 7:
			members = append(members, file(joinName(up, opaqueMarker), ""))
		default:
			members = append(members, file(joinName(up, whiteoutPrefix+base), ""))
		}
	}
	return members
}

// someone is a user that the tests can give files to.
func someone(rnd *rand.Rand) int {
	if os.Geteuid() != 0 {
		return 0
	}
	return rnd.IntN(3)
}

// stack is layers with what Apply found out about them, and the tree that Merge made.
type stack struct {
	tars [][]byte
	tocs []*TOC
	tree string
}

// randomStack makes layers that apply on top of each other; what cannot is left out.
func randomStack(t *testing.T, seed uint64) stack {
	rnd := rand.New(rand.NewPCG(seed, 5))
	s := stack{tree: t.TempDir()}
	for i := 0; len(s.tars) < 4; i++ {
		data := rawTar(t, sensible(t, s.tree, randomLayer(rnd, fmt.Sprint("l", i)))...)
		trial := t.TempDir()
		for _, below := range s.tars {
			apply(t, below, trial, ApplyOptions{Format: Merge})
		}
		if _, _, err := Apply(context.Background(), bytes.NewReader(data), trial, allowed(ApplyOptions{Format: Merge})); err != nil {
			continue
		}
		_, toc := apply(t, data, s.tree, ApplyOptions{Format: Merge})
		s.tars, s.tocs = append(s.tars, data), append(s.tocs, toc)
	}
	return s
}

// sensible leaves out the whiteouts of what is not there: overlayfs lists them in
// directories that only one layer has.
func sensible(t *testing.T, below string, members []member) []member {
	r, err := rootfs.Open(below)
	check(t, err)
	defer r.Close()
	return slices.DeleteFunc(members, func(m member) bool {
		target, ok := (&Entry{Name: m.name}).Whiteout()
		if !ok {
			return false
		}
		fd, err := r.OpenPlain(target, unix.O_PATH|unix.O_NOFOLLOW)
		if err != nil {
			return true
		}
		unix.Close(fd)
		return false
	})
}

// Tree shows what Merge makes, and Flatten writes it.
func TestTreeAndFlattenMatchMerge(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, of a user namespace at least: directories that no layer mentions are root's")
	}
	for seed := range seeds(40) {
		s := randomStack(t, seed)
		want := describe(t, s.tree, what{})
		tree := NewTree(s.tocs...)
		if d := cmp.Diff(want, describeTree(t, tree)); d != "" {
			t.Errorf("seed %d: tree: %s", seed, d)
		}
		flat := t.TempDir()
		apply(t, flatten(t, s), flat, ApplyOptions{})
		if d := cmp.Diff(want, describe(t, flat, what{})); d != "" {
			t.Errorf("seed %d: flat: %s", seed, d)
		}
		if t.Failed() {
			for _, data := range s.tars {
				t.Log(listTar(t, data))
			}
			return
		}
	}
}

func flatten(t testing.TB, s stack) []byte {
	t.Helper()
	layers := make([]FlattenLayer, len(s.tars))
	for i := range s.tars {
		layers[i] = FlattenLayer{
			Tar: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(s.tars[i])), nil },
			TOC: s.tocs[i],
		}
	}
	var buf bytes.Buffer
	w := NewWriter(&buf)
	check(t, Flatten(context.Background(), layers, w))
	_, _, err := w.Close()
	check(t, err)
	return buf.Bytes()
}

func listTar(t *testing.T, data []byte) string {
	var b strings.Builder
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return b.String()
		}
		check(t, err)
		fmt.Fprintf(&b, "%c %s %s\n", h.Typeflag, h.Name, h.Linkname)
	}
}

// describeTree lists a Tree as describe lists a directory.
func describeTree(t *testing.T, tree *Tree) string {
	kinds := map[byte]int64{tar.TypeReg: unix.S_IFREG, tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK}
	names := make(map[place][]string)
	check(t, tree.Walk("", func(path string, n *Node) error {
		at := place{n.Layer, n.Index}
		names[at] = append(names[at], path)
		return nil
	}))
	var b strings.Builder
	check(t, tree.Walk("", func(path string, n *Node) error {
		e := &n.Entry
		if path == "" {
			return nil
		}
		mode := kinds[e.Type] | e.Mode
		if e.Type == tar.TypeSymlink {
			mode = unix.S_IFLNK | 0o777
		}
		fmt.Fprintf(&b, "%q %06o %d:%d", path, mode, e.UID, e.GID)
		if same := names[place{n.Layer, n.Index}]; !n.IsDir() && same[0] != path {
			fmt.Fprintf(&b, " = %q", same[0])
		}
		switch e.Type {
		case tar.TypeReg:
			fmt.Fprintf(&b, " %d %s", e.Size, e.Digest.Encoded()[:12])
		case tar.TypeSymlink:
			fmt.Fprintf(&b, " -> %q", e.Linkname)
		}
		for name, value := range e.Xattrs {
			fmt.Fprintf(&b, " %s=%q", name, value)
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

// Layers that are unpacked one by one and mounted on top of each other look like the
// tree that Merge makes of them. Those that need the ones below are applied to a
// mount of these, as a caller does.
func TestOverlayMatchesMerge(t *testing.T) {
	needRoot(t)
	depend := 0
	for seed := range seeds(25) {
		s := randomStack(t, seed)
		lowers := []string{t.TempDir()} // an empty one: a mount needs two
		for i, data := range s.tars {
			dir := t.TempDir()
			_, _, err := Apply(context.Background(), bytes.NewReader(data), dir, allowed(ApplyOptions{}))
			if errors.Is(err, ErrNeedsLower) {
				depend++
				dir = applyMounted(t, data, lowers)
				checkOnto(t, dir, s.tocs[:i+1])
			} else {
				check(t, err)
			}
			lowers = append(lowers, dir)
		}
		merged := mount(t, lowers, "")
		// overlayfs breaks hard links across layers.
		got, want := withoutLinks(describe(t, merged, what{})), withoutLinks(describe(t, s.tree, what{}))
		check(t, unix.Unmount(merged, 0))
		if d := cmp.Diff(want, got); d != "" {
			for _, data := range s.tars {
				t.Log(listTar(t, data))
			}
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
	if depend == 0 {
		t.Error("no layer depended on those below")
	}
}

// checkOnto checks what a layer changed in a mount, as it is and damaged.
func checkOnto(t *testing.T, dir string, tocs []*TOC) {
	t.Helper()
	if err := CheckOnto(t.Context(), dir, tocs, CheckOptions{}); err != nil {
		t.Errorf("undamaged: %v", err)
	}
	added := filepath.Join(dir, "nobody put this here")
	check(t, os.WriteFile(added, nil, 0o644))
	if err := CheckOnto(t.Context(), dir, tocs, CheckOptions{}); err == nil {
		t.Error("a file too many is not found")
	}
	check(t, os.Remove(added))
}

// applyMounted applies a layer in Merge format to a mount, and returns what changed.
func applyMounted(t *testing.T, data []byte, lowers []string) string {
	upper := t.TempDir()
	merged := mount(t, lowers, upper)
	_, _, err := Apply(context.Background(), bytes.NewReader(data), merged, allowed(ApplyOptions{Format: Merge}))
	check(t, unix.Unmount(merged, 0))
	check(t, err)
	return upper
}

// mount mounts an overlay, the bottom directory first.
func mount(t *testing.T, lowers []string, upper string) string {
	lowers = slices.Clone(lowers)
	slices.Reverse(lowers)
	merged := t.TempDir()
	t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) }) // where a test gave up
	options := "lowerdir=" + strings.Join(lowers, ":")
	if upper != "" {
		work := filepath.Join(filepath.Dir(upper), "work"+filepath.Base(upper))
		check(t, os.Mkdir(work, 0o755))
		options += ",upperdir=" + upper + ",workdir=" + work + ",redirect_dir=off,metacopy=off,index=off"
	}
	err := unix.Mount("overlay", merged, "overlay", 0, options)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		t.Skipf("overlays cannot be mounted here: %v", err)
	}
	check(t, err)
	return merged
}

func withoutLinks(s string) string {
	out := strings.Split(s, "\n")
	for i, line := range out {
		if before, after, ok := strings.Cut(line, " = "); ok {
			_, rest, _ := strings.Cut(after, " ")
			out[i] = before + " " + rest
		}
	}
	return strings.Join(out, "\n")
}

// A step's changes, made on a real mount, archived and unpacked again, give the same
// view.
func TestDiffOfRealUpper(t *testing.T) {
	needRoot(t)
	lower := t.TempDir()
	apply(t, rawTar(t, dir("d"), file("d/a", "1"), file("d/b", "2"), dir("e"), file("e/x", "3"), file("f", "4"), hard("g", "f"), symlink("l", "d")), lower, ApplyOptions{})
	upper := t.TempDir()
	lowers := []string{t.TempDir(), lower}
	merged := mount(t, lowers, upper)
	err := errors.Join(
		os.Remove(filepath.Join(merged, "d/a")),
		os.RemoveAll(filepath.Join(merged, "e")),
		os.Mkdir(filepath.Join(merged, "e"), 0o700),
		os.WriteFile(filepath.Join(merged, "e/new"), []byte("5"), 0o644),
		os.Chmod(filepath.Join(merged, "f"), 0o4755),
		os.Rename(filepath.Join(merged, "d/b"), filepath.Join(merged, "c")),
		os.Link(filepath.Join(merged, "c"), filepath.Join(merged, "c2")),
		os.Remove(filepath.Join(merged, "l")),
		os.Mkdir(filepath.Join(merged, "l"), 0o755),
	)
	want := describe(t, merged, what{times: true})
	check(t, unix.Unmount(merged, 0))
	check(t, err)

	data, _, _ := diff(t, upper)
	again := t.TempDir()
	apply(t, data, again, ApplyOptions{})
	merged = mount(t, append(lowers, again), "")
	got := describe(t, merged, what{times: true})
	check(t, unix.Unmount(merged, 0))
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s\n%s", d, listTar(t, data))
	}
}

// A layer that needs those below can be applied to a mount that is attached nowhere.
func TestApplyToDetachedMount(t *testing.T) {
	needRoot(t)
	lower, upper, work := t.TempDir(), t.TempDir(), t.TempDir()
	apply(t, rawTar(t, dir("d"), file("d/a", "1"), file("f", "2")), lower, ApplyOptions{})
	mnt := detached(t, map[string]string{"lowerdir": lower, "upperdir": upper, "workdir": work})
	defer mnt.Close()
	apply(t, rawTar(t, file("d/b", "3"), hard("g", "f"), file("d/.wh.a", "")), fmt.Sprintf("/proc/self/fd/%d", mnt.Fd()), ApplyOptions{Format: Merge})
	if got, want := plain(t, upper), lines("d/", "d/a gone", "d/b 3", "f 2", "g 2"); got != want {
		t.Errorf("upper directory: %s", got)
	}
}

func detached(t *testing.T, options map[string]string) *os.File {
	ctx, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Skipf("overlays cannot be mounted here: %v", err)
	}
	defer unix.Close(ctx)
	for key, value := range options {
		check(t, unix.FsconfigSetString(ctx, key, value))
	}
	check(t, unix.FsconfigCreate(ctx))
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, 0)
	check(t, err)
	return os.NewFile(uintptr(fd), "overlay")
}
