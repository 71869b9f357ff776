package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// eachMode runs a test with openat2 and without it, on a root that holds files,
// directories and links, and a directory beside it that nothing may reach.
func eachMode(t *testing.T, test func(t *testing.T, r *Root, dir string)) {
	for _, stepwise := range []bool{false, true} {
		name := "openat2"
		if stepwise {
			name = "stepwise"
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			root := filepath.Join(dir, "root")
			for _, d := range []string{"outside", "root/usr/lib", "root/etc", "root/dir/sub"} {
				check(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
			}
			for name, text := range map[string]string{
				"outside/secret": "outside", "root/etc/passwd": "root:x:0:0", "root/usr/lib/so": "so", "root/outside": "inside",
			} {
				check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
			}
			for name, text := range map[string]string{
				"lib": "usr/lib", "abs": "/etc", "up": "../../../etc", "escape": "../outside/secret", "escapeabs": dir + "/outside",
				"loop1": "loop2", "loop2": "loop1", "dangling": "missing/below", "self": "/", "dir/sub/far": "../../lib/so", "tofile": "etc/passwd",
			} {
				check(t, os.Symlink(text, filepath.Join(root, name)))
			}
			r, err := Open(root)
			check(t, err)
			defer r.Close()
			if r.stepwise {
				t.Skip("openat2 is not available")
			}
			r.stepwise = stepwise
			test(t, r, dir)
		})
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReadFile(t *testing.T) {
	tests := []struct {
		path, want string
		err        error
	}{
		{path: "etc/passwd", want: "root:x:0:0"},
		{path: "/etc/passwd", want: "root:x:0:0"},
		{path: "lib/so", want: "so"},
		{path: "//lib/./so", want: "so"},
		{path: "abs/passwd", want: "root:x:0:0"},
		{path: "up/passwd", want: "root:x:0:0"},
		{path: "tofile", want: "root:x:0:0"},
		{path: "dir/sub/far", want: "so"},
		{path: "../../etc/passwd", want: "root:x:0:0"},
		{path: "dir/../etc/passwd", want: "root:x:0:0"},
		{path: "lib/../../etc/passwd", want: "root:x:0:0"},
		{path: "self/self/etc/passwd", want: "root:x:0:0"},
		{path: "../outside", want: "inside"},
		{path: "escape", err: syscall.ENOTDIR},
		{path: "escapeabs/secret", err: fs.ErrNotExist},
		{path: "loop1", err: syscall.ELOOP},
		{path: "loop1/x", err: syscall.ELOOP},
		{path: "dangling", err: fs.ErrNotExist},
		{path: "etc/passwd/x", err: syscall.ENOTDIR},
		{path: "missing", err: fs.ErrNotExist},
	}
	eachMode(t, func(t *testing.T, r *Root, _ string) {
		for _, tt := range tests {
			got, err := r.ReadFile(tt.path, 100)
			if tt.err != nil && !errors.Is(err, tt.err) || tt.err == nil && err != nil || string(got) != tt.want {
				t.Errorf("ReadFile(%q) = %q, %v; want %q, %v", tt.path, got, err, tt.want, tt.err)
			}
		}
	})
}

func TestReadFileRefuses(t *testing.T) {
	eachMode(t, func(t *testing.T, r *Root, dir string) {
		check(t, unix.Mkfifo(filepath.Join(dir, "root/fifo"), 0o644))
		for path, want := range map[string]string{"etc": "regular", "fifo": "regular", "etc/passwd": "longer than 9"} {
			if _, err := r.ReadFile(path, 9); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("ReadFile(%q) = %v, want %q", path, err, want)
			}
		}
		if got, err := r.ReadFile("etc/passwd", 10); err != nil || len(got) != 10 {
			t.Errorf("a file of exactly the limit: %q, %v", got, err)
		}
	})
}

func TestStatAndReadlink(t *testing.T) {
	eachMode(t, func(t *testing.T, r *Root, _ string) {
		st, err := r.Stat("tofile")
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			t.Errorf("Stat of a link to a file: %o, %v", st.Mode, err)
		}
		for _, path := range []string{"lib", "lib/", "/self/lib"} {
			st, err = r.Lstat(path)
			if err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
				t.Errorf("Lstat(%q): %o, %v", path, st.Mode, err)
			}
			if text, err := r.Readlink(path); err != nil || text != "usr/lib" {
				t.Errorf("Readlink(%q): %q, %v", path, text, err)
			}
		}
		if _, err := r.Readlink("etc"); !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			t.Errorf("Readlink of a directory: %v", err)
		}
	})
}

func TestParent(t *testing.T) {
	tests := []struct{ path, dir, base string }{
		{"etc/passwd", "etc", "passwd"},
		{"lib/new", "usr/lib", "new"},
		{"lib", ".", "lib"},
		{"lib/", ".", "lib"},
		{"lib/.", ".", "lib"},
		{"", ".", "."},
		{"/", ".", "."},
		{"..", ".", "."},
		{"dir/sub/..", ".", "dir"},
		{"lib/..", ".", "usr"},
		{"dir/sub/../../..", ".", "."},
	}
	eachMode(t, func(t *testing.T, r *Root, dir string) {
		for _, tt := range tests {
			f, base, err := r.Parent(tt.path)
			if err != nil || base != tt.base {
				t.Errorf("Parent(%q) = %q, %v; want %q", tt.path, base, err, tt.base)
				continue
			}
			got, _ := f.Stat()
			want, err := os.Stat(filepath.Join(dir, "root", tt.dir))
			check(t, err)
			if !os.SameFile(got, want) {
				t.Errorf("Parent(%q) is not %s", tt.path, tt.dir)
			}
			f.Close()
		}
	})
}

func TestResolve(t *testing.T) {
	tests := []struct{ path, want string }{
		{"", ""},
		{"/", ""},
		{"lib/so", "usr/lib/so"},
		{"lib/none/x", "usr/lib/none/x"},
		{"dangling/y", "missing/below/y"},
		{"abs/../lib", "usr/lib"},
		{"dir/sub/far", "usr/lib/so"},
		{"nothing/../etc", "etc"},
		{"../..", ""},
		{"up", "etc"},
	}
	eachMode(t, func(t *testing.T, r *Root, _ string) {
		for _, tt := range tests {
			if got, err := r.Resolve(tt.path); err != nil || got != tt.want {
				t.Errorf("Resolve(%q) = %q, %v; want %q", tt.path, got, err, tt.want)
			}
		}
		if _, err := r.Resolve("loop1"); !errors.Is(err, unix.ELOOP) {
			t.Errorf("Resolve of a loop: %v", err)
		}
	})
}

func TestMkdirAll(t *testing.T) {
	eachMode(t, func(t *testing.T, r *Root, dir string) {
		uid, gid := os.Getuid(), os.Getgid()
		for path, want := range map[string]string{
			"a/b/c": "a/b/c", "lib/x": "usr/lib/x", "dangling/z": "missing/below/z", "../../q": "q", "": "", "etc": "etc", "escapeabs": dir + "/outside",
		} {
			check(t, r.MkdirAll(path, 0o2751, uid, gid))
			info, err := os.Lstat(filepath.Join(dir, "root", want))
			check(t, err)
			if !info.IsDir() {
				t.Errorf("MkdirAll(%q): %s is no directory", path, want)
			}
			if (path == "a/b/c" || path == "q") && info.Mode() != fs.ModeDir|fs.ModeSetgid|0o751 {
				t.Errorf("MkdirAll(%q): mode %v", path, info.Mode())
			}
		}
		if info, err := os.Stat(filepath.Join(dir, "root/etc")); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("a directory that was there has changed: %v, %v", info.Mode(), err)
		}
		for _, path := range []string{"etc/passwd", "etc/passwd/x"} {
			if err := r.MkdirAll(path, 0o755, uid, gid); !errors.Is(err, unix.ENOTDIR) {
				t.Errorf("MkdirAll(%q) = %v", path, err)
			}
		}
		names, err := os.ReadDir(filepath.Join(dir, "outside"))
		check(t, err)
		if len(names) != 1 {
			t.Errorf("something was made outside: %v", names)
		}
	})
}

func TestRemoveAll(t *testing.T) {
	eachMode(t, func(t *testing.T, r *Root, dir string) {
		check(t, r.RemoveAll("escapeabs")) // the link, not what it names
		check(t, r.RemoveAll("escape"))
		check(t, r.RemoveAll("dir"))
		check(t, r.RemoveAll("none/at/all"))
		check(t, r.RemoveAll("lib/so"))
		for _, gone := range []string{"root/escapeabs", "root/dir", "root/usr/lib/so"} {
			if _, err := os.Lstat(filepath.Join(dir, gone)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is still there: %v", gone, err)
			}
		}
		if _, err := os.Lstat(filepath.Join(dir, "outside/secret")); err != nil {
			t.Errorf("outside: %v", err)
		}
		if err := r.RemoveAll("/"); !errors.Is(err, unix.EBUSY) {
			t.Errorf("RemoveAll of the root: %v", err)
		}
	})
}

func TestWalk(t *testing.T) {
	eachMode(t, func(t *testing.T, r *Root, _ string) {
		var got []string
		check(t, r.Walk("", func(e WalkEntry) error {
			got = append(got, e.Path)
			if e.Path == "etc" {
				return fs.SkipDir
			}
			return nil
		}))
		want := []string{"", "abs", "dangling", "dir", "dir/sub", "dir/sub/far", "escape", "escapeabs", "etc", "lib", "loop1", "loop2", "outside", "self", "tofile", "up", "usr", "usr/lib", "usr/lib/so"}
		if !slices.Equal(got, want) {
			t.Errorf("walked %q, want %q", got, want)
		}
		got = nil
		check(t, r.Walk("/self/usr/lib", func(e WalkEntry) error { got = append(got, e.Path); return nil }))
		if !slices.Equal(got, []string{"self/usr/lib", "self/usr/lib/so"}) {
			t.Errorf("walked %q", got)
		}
	})
}

func TestReadDirOfMany(t *testing.T) {
	eachMode(t, func(t *testing.T, r *Root, dir string) {
		var want []string
		for i := range 1000 {
			name := strings.Repeat(string(rune('a'+i%26)), i%200+1) + string(rune('A'+i/26))
			want = append(want, name)
			check(t, os.WriteFile(filepath.Join(dir, "root/dir/sub", name), nil, 0o600))
		}
		want = append(want, "far")
		slices.Sort(want)
		got, err := r.ReadDir("dir/sub")
		if err != nil || !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("%d names, %v; want %d", len(got), err, len(want))
		}
	})
}

func TestOpenPlain(t *testing.T) {
	eachMode(t, func(t *testing.T, r *Root, _ string) {
		for path, want := range map[string]error{
			"": nil, "usr/lib": nil, "lib": unix.ELOOP, "self/usr": unix.ELOOP, "none": unix.ENOENT, "none/x": unix.ENOENT, "etc/passwd": unix.ENOTDIR, "etc/passwd/x": unix.ENOTDIR,
		} {
			fd, err := r.OpenPlain(path, unix.O_RDONLY|unix.O_DIRECTORY)
			if err == nil {
				unix.Close(fd)
			}
			if !errors.Is(err, want) {
				t.Errorf("OpenPlain(%q) = %v, want %v", path, err, want)
			}
		}
	})
}

func TestOpenFileCreates(t *testing.T) {
	eachMode(t, func(t *testing.T, r *Root, dir string) {
		f, err := r.OpenFile("lib/new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
		check(t, err)
		f.Close()
		if _, err := os.Lstat(filepath.Join(dir, "root/usr/lib/new")); err != nil {
			t.Error(err)
		}
		if _, err := r.OpenFile("escape", os.O_WRONLY|os.O_CREATE, 0o640); err == nil {
			t.Error("a file was made through a link that leads out")
		}
		if _, err := r.OpenFile("tofile", os.O_RDONLY|unix.O_NOFOLLOW, 0); !errors.Is(err, unix.ELOOP) {
			t.Errorf("O_NOFOLLOW: %v", err)
		}
	})
}
