package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// manyLayers commits n layers, each with a file of its own and one of all.
func manyLayers(t testing.TB, s *Snapshots, n int) []string {
	t.Helper()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("layer-%03d", i)
		makeLayer(t, s, names[i], func(dir string) {
			tree{"all": names[i] + "\n", "d/" + names[i]: ""}.make(t, dir)
		})
	}
	return names
}

// change commits, on top of parents, what a script does to them.
func change(t *testing.T, s *Snapshots, name, text string, parents ...string) {
	t.Helper()
	sn := prepare(t, s, parents...)
	if out, err := run(t, s, sn, script(text)); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	if err := s.Commit(sn, name); err != nil {
		t.Fatal(err)
	}
}

// TestSnapshotChain commits a first change on the base and a second one on that,
// and looks at the result through a step on top and through a view.
func TestSnapshotChain(t *testing.T) {
	for _, tt := range []struct {
		name, first, second string
		want                string // of ls -1Rp /t in a view
		look, says          string // a script in a step on top, and its output
	}{
		{
			name: "files of both", first: "mkdir /t; echo 1 >/t/a", second: "echo 2 >/t/b",
			want: "a\nb\n", look: "cat /t/a /t/b", says: "1\n2\n",
		},
		{
			name: "changed file", first: "mkdir /t; echo 1 >/t/a", second: "echo 2 >/t/a",
			want: "a\n", look: "cat /t/a", says: "2\n",
		},
		{
			name: "deleted file", first: "mkdir /t; touch /t/a /t/b", second: "rm /t/a",
			want: "b\n", look: "test ! -e /t/a && echo gone", says: "gone\n",
		},
		{
			name: "deleted and made again", first: "mkdir /t; echo 1 >/t/a", second: "rm /t/a; mkdir /t/a",
			want: "a/\n", look: "test -d /t/a && echo directory", says: "directory\n",
		},
		{
			name: "opaque directory", first: "mkdir -p /t/d; touch /t/d/old", second: "rm -r /t/d; mkdir /t/d; touch /t/d/new",
			want: "d/\nd/new\n", look: "ls /t/d", says: "new\n",
		},
		{
			name: "renamed file", first: "mkdir /t; echo 1 >/t/a", second: "mv /t/a /t/b",
			want: "b\n", look: "cat /t/b", says: "1\n",
		},
		{
			name: "renamed directory", first: "mkdir -p /t/d/e; echo 1 >/t/d/e/f", second: "mv /t/d /t/g",
			want: "g/\ng/e/\ng/e/f\n", look: "cat /t/g/e/f; test -e /t/d || echo gone", says: "1\ngone\n",
		},
		{
			name: "moved into new directory", first: "mkdir -p /t; echo 1 >/t/a", second: "mkdir /t/n; mv /t/a /t/n/a",
			want: "n/\nn/a\n", look: "cat /t/n/a", says: "1\n",
		},
		{
			name: "mode", first: "mkdir /t; echo 1 >/t/a", second: "chmod 4750 /t/a",
			want: "a\n", look: "cat /t/a; stat -c %a /t/a", says: "1\n4750\n",
		},
		{
			name: "link", first: "mkdir /t; ln -s a /t/l", second: "echo 1 >/t/l",
			want: "a\nl\n", look: "cat /t/a; readlink /t/l", says: "1\na\n",
		},
		{
			name: "hard links", first: "mkdir /t; echo 1 >/t/a; ln /t/a /t/b", second: "ln /t/b /t/c; rm /t/a",
			want: "b\nc\n", look: "test /t/b -ef /t/c && cat /t/b", says: "1\n",
		},
		{
			name: "root directory", first: "mkdir /t; chmod 711 /", second: "touch /t/a",
			want: "a\n", look: "stat -c %a /", says: "711\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t)
			change(t, s, "first", tt.first, "base")
			change(t, s, "second", tt.second, "base", "first")
			layers := []string{"base", "first", "second"}
			if out, err := run(t, s, prepare(t, s, layers...), script(tt.look)); err != nil || out != tt.says {
				t.Errorf("a step sees %v, %q, want %q", err, out, tt.says)
			}
			if got := viewPaths(t, s, "t", layers...); got != tt.want {
				t.Errorf("a view has %q, want %q", got, tt.want)
			}
		})
	}
}

// viewPaths lists what is below dir in a view.
func viewPaths(t *testing.T, s *Snapshots, dir string, parents ...string) string {
	t.Helper()
	f, err := s.View(context.Background(), parents)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b strings.Builder
	top := filepath.Join(fdPath(f), dir)
	err = filepath.WalkDir(top+"/.", func(path string, e os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(top, path); rel != "." {
			b.WriteString(rel)
			if e.IsDir() {
				b.WriteByte('/')
			}
			b.WriteByte('\n')
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestSnapshotChown(t *testing.T) {
	needsIDs(t)
	s := newStore(t)
	change(t, s, "first", "mkdir /t; echo 1 >/t/a; chown 1000:29 /t/a /t", "base")
	change(t, s, "second", "chown 12:34 /t/a", "base", "first")
	out, err := run(t, s, prepare(t, s, "base", "first", "second"), script("stat -c '%u %g' /t /t/a; cat /t/a"))
	if err != nil || out != "1000 29\n12 34\n1\n" {
		t.Errorf("got %v, %q", err, out)
	}
}

func TestManyLayers(t *testing.T) {
	s := newStore(t)
	names := append([]string{"base"}, manyLayers(t, s, 127)...)
	for _, n := range []int{1, 2, 64, 128} {
		sn := prepare(t, s, names[:n]...)
		out, err := run(t, s, sn, script("cat /all 2>/dev/null; ls /d 2>/dev/null | wc -l"))
		want := "0\n"
		if n > 1 {
			want = fmt.Sprintf("layer-%03d\n%d\n", n-2, n-1)
		}
		if err != nil || out != want {
			t.Errorf("%d layers: got %v, %q, want %q", n, err, out, want)
		}
		if got := viewPaths(t, s, "bin", names[:n]...); !strings.Contains(got, "busybox\n") {
			t.Errorf("%d layers: view has %q", n, got)
		}
	}
}

func TestMountInPlace(t *testing.T) {
	needsMounts(t)
	// What kernels before 6.5 get.
	s := newStore(t)
	names := manyLayers(t, s, 128)
	sn := prepare(t, s, names...)
	work := filepath.Join(sn.dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	l := layers{lower: s.lowers(names, s.path(emptyDir)), upper: sn.Upper(), work: work, userxattr: s.level.UserXattr()}
	fd, err := mountOverlayInPlace(l, s.path(emptyDir))
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "overlay")
	defer f.Close()
	if got, err := os.ReadFile(fdPath(f) + "/all"); err != nil || string(got) != names[127]+"\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if strings.Contains(readString(t, "/proc/self/mountinfo"), s.dir) {
		t.Error("the overlay is in our mount namespace")
	}
	l.lower = slices.Repeat(l.lower, 3)
	if _, err := mountOverlayInPlace(l, s.path(emptyDir)); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("got %v, want too many layers", err)
	}
}

func TestSameLayerTwice(t *testing.T) {
	s := newStore(t)
	makeLayer(t, s, "x", func(dir string) { tree{"f": "x"}.make(t, dir) })
	makeLayer(t, s, "y", func(dir string) { tree{"f": "y"}.make(t, dir) })
	out, err := run(t, s, prepare(t, s, "base", "x", "y", "x"), script("cat /f"))
	if err != nil || out != "x" {
		t.Errorf("got %v, %q, want the topmost", err, out)
	}
}

func TestMountAndView(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	sn := prepare(t, s)
	f, err := s.Mount(ctx, sn)
	if err != nil {
		t.Fatal(err)
	}
	tree{"a/b": "text"}.make(t, fdPath(f))
	if names, err := readNames(fdPath(f)); err != nil || !slices.Equal(names, []string{"a"}) {
		t.Errorf("mount of nothing has %q, %v", names, err)
	}
	f.Close()
	if f, err = s.Mount(ctx, sn); err != nil { // a second time, after the first
		t.Fatal(err)
	}
	if got, err := os.ReadFile(fdPath(f) + "/a/b"); err != nil || string(got) != "text" {
		t.Errorf("got %q, %v", got, err)
	}
	f.Close()
	if err := s.Commit(sn, "a"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		parents []string
		want    string
	}{{nil, ""}, {[]string{"a"}, "a/\na/b\n"}, {[]string{"base", "a"}, ""}} {
		got := viewPaths(t, s, ".", tt.parents...)
		if tt.want != "" && got != tt.want || tt.parents == nil && got != "" {
			t.Errorf("view of %q has %q", tt.parents, got)
		}
		v, err := s.View(ctx, tt.parents)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fdPath(v)+"/new", nil, 0o600); testLevel.Mounts() && !errors.Is(err, unix.EROFS) {
			t.Errorf("write to view of %q: %v, want it read-only", tt.parents, err)
		}
		v.Close()
	}
	if _, err := s.View(ctx, []string{"none"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("view of a missing layer: %v", err)
	}
	if _, err := s.Mount(ctx, sn); err == nil {
		t.Error("mount of a committed snapshot: no error")
	}
}

func TestRootOwner(t *testing.T) {
	s := newStore(t)
	makeLayer(t, s, "explicit", func(dir string) {
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
	})
	for _, tt := range []struct {
		name    string
		parents []string
		mode    uint32
	}{
		{"no layer", nil, 0o755},
		{"says nothing", []string{"base"}, 0o755},
		{"says it", []string{"base", "explicit"}, 0o555},
		{"below one that says nothing", []string{"explicit", "base"}, 0o555},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var st unix.Stat_t
			if err := unix.Stat(prepare(t, s, tt.parents...).Upper(), &st); err != nil {
				t.Fatal(err)
			}
			if st.Mode&0o7777 != tt.mode || st.Uid != 0 || st.Gid != 0 {
				t.Errorf("got %o %d:%d, want %o 0:0", st.Mode&0o7777, st.Uid, st.Gid, tt.mode)
			}
		})
	}
}

func TestCommit(t *testing.T) {
	s := newStore(t)
	if s.Use("new") {
		t.Error("a layer is there before it is committed")
	}
	for i := range 2 { // the second one finds the name taken
		sn := prepare(t, s, "base")
		if out, err := run(t, s, sn, script(fmt.Sprintf("echo %d >/f", i))); err != nil {
			t.Fatal(err, out)
		}
		if err := s.Commit(sn, "new"); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(sn, "again"); err == nil {
			t.Error("no error for a second commit")
		}
		if err := sn.Discard(); err != nil {
			t.Error(err)
		}
	}
	if got := readString(t, s.tree("new")+"/f"); got != "0\n" {
		t.Errorf("got %q, want the first one's", got)
	}
	names, err := readNames(s.path(committedDir, "new"))
	if err != nil || !slices.Equal(names, []string{"fs"}) {
		t.Errorf("layer has %q, %v", names, err)
	}
	for _, dir := range []string{activeDir, trashDir} {
		if names, err := readNames(s.path(dir)); err != nil || len(names) > 0 {
			t.Errorf("%s has %q, %v", dir, names, err)
		}
	}
}

func TestCommitTogether(t *testing.T) {
	s := newStore(t)
	var wg sync.WaitGroup
	for range 8 {
		sn := prepare(t, s, "base")
		wg.Go(func() {
			tree{"f": "same"}.make(t, sn.Upper())
			if err := s.Commit(sn, "one"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := readString(t, s.tree("one")+"/f"); got != "same" {
		t.Errorf("got %q", got)
	}
}

func TestNames(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"", ".", "..", "a/b", "/", ".hidden", "a b", "a\n", "a\x00", strings.Repeat("x", 300)} {
		if s.Use(name) {
			t.Errorf("use %q: true", name)
		}
		if _, err := s.Prepare(context.Background(), []string{name}); err == nil {
			t.Errorf("prepare on %q: no error", name)
		}
		if err := s.Commit(prepare(t, s), name); err == nil {
			t.Errorf("commit as %q: no error", name)
		}
		if _, _, _, err := s.Create(name); err == nil {
			t.Errorf("create %q: no error", name)
		}
		if err := errors.Join(s.Rename("base", name)); err == nil {
			t.Errorf("rename to %q: no error", name)
		}
		if err := s.Remove(name); err == nil {
			t.Errorf("remove %q: no error", name)
		}
	}
	if !s.Use("base") {
		t.Error("base is gone")
	}
	if _, err := s.Prepare(context.Background(), []string{"base", "none"}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none") {
		t.Errorf("prepare on a missing layer: %v", err)
	}
}

func TestRenameAndRemove(t *testing.T) {
	s := newStore(t)
	fill := func(text string) func(string) {
		return func(dir string) { tree{"f": text}.make(t, dir) }
	}
	makeLayer(t, s, "a", fill("a"))
	makeLayer(t, s, "b", fill("b"))
	if err := s.Rename("a", "c"); err != nil || s.Use("a") || !s.Use("c") {
		t.Errorf("rename: %v", err)
	}
	if err := s.Rename("b", "c"); err != nil || s.Use("b") || readString(t, s.tree("c")+"/f") != "a" {
		t.Errorf("rename to a taken name: %v", err)
	}
	if err := s.Rename("none", "d"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("rename of nothing: %v", err)
	}
	for range 2 {
		if err := s.Remove("c"); err != nil || s.Use("c") {
			t.Errorf("remove: %v", err)
		}
	}
	dir, _, abort, err := s.Create("e")
	if err != nil {
		t.Fatal(err)
	}
	abort()
	abort()
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || s.Use("e") {
		t.Errorf("abort leaves %s: %v", dir, err)
	}
}

// TestCopiesWithoutOverlay works on copies where overlays are refused, as on an overlay.
func TestCopiesWithoutOverlay(t *testing.T) {
	s := newStore(t)
	s.probe.Do(func() { s.noOverlay = unix.EINVAL })
	if !s.copies() {
		t.Fatal("it does not copy")
	}
	sn := prepare(t, s, "base")
	if out, err := run(t, s, sn, script("echo one > /one; rm /bin/yes; mkdir /dir; chmod 700 /tmp; cat /etc/hosts | wc -l")); err != nil || out != "2\n" {
		t.Fatalf("got %q, %v", out, err)
	}
	if got, want := upperPaths(t, sn), []string{"bin", "bin/yes", "dir", "one", "tmp"}; !slices.Equal(got, want) {
		t.Errorf("upper has %q, want %q", got, want)
	}
	if err := s.Commit(sn, "one"); err != nil {
		t.Fatal(err)
	}
	// The next step goes on in the copy that is there.
	trees, err := readNames(s.path(treesDir))
	if err != nil || len(trees) != 1 {
		t.Errorf("trees has %q, %v", trees, err)
	}
	next := prepare(t, s, "base", "one")
	if out, err := run(t, s, next, script("cat /one; ls /bin/yes 2>/dev/null; echo two >> /one")); out != "one\n" {
		t.Fatalf("got %q, %v", out, err)
	}
	if got := upperPaths(t, next); !slices.Equal(got, []string{"one"}) {
		t.Errorf("upper has %q", got)
	}
	if trees, err := readNames(s.path(treesDir)); err != nil || len(trees) != 0 {
		t.Errorf("trees has %q, %v, want the one taken", trees, err)
	}
	// And another one begins from the layers, which have not changed.
	if out, err := run(t, s, prepare(t, s, "base", "one"), script("cat /one")); err != nil || out != "one\n" {
		t.Errorf("got %q, %v", out, err)
	}
	if got := readString(t, s.tree("one")+"/one"); got != "one\n" {
		t.Errorf("the layer has %q", got)
	}
}

// TestOverlayIsTriedOnce opens a store where an overlay was mounted before, and then where it was by another run of the
// kernel.
func TestOverlayIsTriedOnce(t *testing.T) {
	needsMounts(t)
	s := newStore(t)
	again := func() bool {
		t.Helper()
		watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(watch)
		if _, err := unix.InotifyAddWatch(watch, s.path(trashDir), unix.IN_CREATE); err != nil {
			t.Fatal(err)
		}
		if err := s.tryOverlay(); err != nil {
			t.Fatal(err)
		}
		made, _ := unix.Read(watch, make([]byte, 4096))
		return made > 0
	}
	if !again() {
		t.Error("it was not tried")
	}
	if again() {
		t.Error("it was tried again")
	}
	if err := os.WriteFile(s.path("overlays"), []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !again() {
		t.Error("it was not tried after a reboot")
	}
}

// TestOverlayIsTried finds out that no overlay can lie on an overlay.
func TestOverlayIsTried(t *testing.T) {
	needsMounts(t)
	s := newStore(t)
	f, err := s.Mount(context.Background(), prepare(t, s, "base"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := tryOverlayIn(s.path(trashDir), s.level.UserXattr()); err != nil {
		t.Errorf("on a directory: %v", err)
	}
	if err := tryOverlayIn(fdPath(f), s.level.UserXattr()); err == nil {
		t.Error("an overlay on an overlay is not refused here: nothing is tested")
	}
}
