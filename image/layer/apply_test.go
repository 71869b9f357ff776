package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// plain lists a tree without owners and modes: names, types and the short contents
// that tests give to files.
func plain(t testing.TB, dir string) string {
	t.Helper()
	var out []string
	check(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		var st unix.Stat_t
		check(t, unix.Lstat(path, &st))
		switch {
		case isWhiteout(&st):
			rel += " gone"
		case d.IsDir():
			rel += "/"
			for _, attr := range []string{trustedOverlay, userOverlay} {
				if n, err := unix.Getxattr(path, attr+"opaque", make([]byte, 8)); err == nil && n == 1 {
					rel += " opaque"
				}
			}
		case d.Type() == os.ModeSymlink:
			text, _ := os.Readlink(path)
			rel += " -> " + text
		case d.Type().IsRegular():
			data, _ := os.ReadFile(path)
			rel += " " + string(data)
		default:
			rel += " " + d.Type().String()
		}
		out = append(out, rel)
		return nil
	}))
	return strings.Join(out, "\n")
}

func lines(s ...string) string { return strings.Join(s, "\n") }

// What one tar makes, in both formats.
func TestApplyEntries(t *testing.T) {
	tests := []struct {
		name string
		tar  []member
		want string
	}{
		{
			"names of every shape",
			[]member{dir("./"), dir("./a/"), file("./a/b", "1"), dir("/c"), file("//c//d", "2"), file("c/./e", "3")},
			lines("a/", "a/b 1", "c/", "c/d 2", "c/e 3"),
		},
		{"the last of several wins", []member{file("a", "1"), file("a", "2"), symlink("a", "x"), file("a", "3")}, "a 3"},
		{"a file in the place of a directory", []member{dir("a"), dir("a/b"), file("a/b/c", "1"), file("a", "2")}, "a 2"},
		{"a link in the place of a file", []member{file("a", "1"), symlink("a", "b")}, "a -> b"},
		{"a file in the place of a link", []member{file("b", "old"), symlink("a", "b"), file("a", "new")}, lines("a new", "b old")},
		{"a directory twice", []member{dir("a"), file("a/b", "1"), dir("a")}, lines("a/", "a/b 1")},
		{"a FIFO", []member{{name: "p", kind: tar.TypeFifo}}, "p p---------"},
		{"a hard link", []member{file("a", "1"), hard("b", "a"), dir("d"), hard("d/c", "./b")}, lines("a 1", "b 1", "d/", "d/c 1")},
		{"an absolute hard link", []member{dir("d"), file("d/a", "1"), hard("b", "/d/a")}, lines("b 1", "d/", "d/a 1")},
		{"a hard link to a link", []member{symlink("a", "/etc/passwd"), hard("b", "a")}, lines("a -> /etc/passwd", "b -> /etc/passwd")},
		{"a hard link in the place of a file", []member{file("a", "1"), file("b", "2"), hard("b", "a")}, lines("a 1", "b 1")},
		{"a hard link to itself", []member{file("a", "1"), hard("a", "a")}, "a 1"},
		{"a hard link that is there", []member{file("a", "1"), hard("b", "a"), hard("b", "a"), hard("a", "b")}, lines("a 1", "b 1")},
		{"a hard link through a linked directory", []member{dir("d"), file("d/a", "1"), symlink("l", "/d"), hard("b", "l/a")}, lines("b 1", "d/", "d/a 1", "l -> /d")},
		{
			"through a linked directory",
			[]member{dir("usr"), dir("usr/lib"), symlink("lib", "usr/lib"), file("lib/a", "1"), dir("lib/d"), file("lib/d/b", "2")},
			lines("lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/a 1", "usr/lib/d/", "usr/lib/d/b 2"),
		},
		{"through an absolute link", []member{dir("r"), symlink("l", "/r"), file("l/a", "1")}, lines("l -> /r", "r/", "r/a 1")},
		{
			"a directory that changes under way",
			[]member{dir("x"), dir("y"), symlink("l", "x"), file("l/1", "1"), symlink("l", "y"), file("l/2", "2")},
			lines("l -> y", "x/", "x/1 1", "y/", "y/2 2"),
		},
		{"global headers and aufs' notes", []member{
			{kind: tar.TypeXGlobalHeader, pax: map[string]string{"comment": "x"}},
			file(".wh..wh.aufs", ""), dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "x"), file("a", "1"),
		}, "a 1"},
		{"a large file", []member{file("big", strings.Repeat("0123456789abcdef", 100_000))}, "big " + strings.Repeat("0123456789abcdef", 100_000)},
	}
	for _, tt := range tests {
		for format, name := range map[Format]string{Overlay: "overlay", Merge: "merge"} {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				dir := t.TempDir()
				apply(t, rawTar(t, tt.tar...), dir, ApplyOptions{Format: format})
				if d := cmp.Diff(tt.want, plain(t, dir)); d != "" {
					t.Error(d)
				}
			})
		}
	}
}

// Deletions, with what the overlay directory looks like and what is left of a tree
// that is there.
func TestApplyWhiteouts(t *testing.T) {
	lower := []member{dir("d"), file("d/a", "old"), file("d/b", "old"), dir("d/s"), file("d/s/x", "old"), file("f", "old"), symlink("l", "d")}
	tests := []struct {
		name           string
		tar            []member
		overlay, merge string
	}{
		{"a file", []member{file(".wh.f", "")}, "f gone", lines("d/", "d/a old", "d/b old", "d/s/", "d/s/x old", "l -> d")},
		{"a directory", []member{file(".wh.d", "")}, "d gone", lines("f old", "l -> d")},
		{"in a directory", []member{dir("d"), file("d/.wh.a", ""), file("d/.wh.s", "")}, lines("d/", "d/a gone", "d/s gone"), lines("d/", "d/b old", "f old", "l -> d")},
		{"a file that the layer has before", []member{file("f", "new"), file(".wh.f", "")}, "f new", ""},
		{"a file that the layer has after", []member{file(".wh.f", ""), file("f", "new")}, "f new", ""},
		{"a directory that the layer has before", []member{dir("d"), file("d/n", "new"), file(".wh.d", "")}, lines("d/ opaque", "d/n new"), lines("d/", "d/n new", "f old", "l -> d")},
		{"a directory that the layer has after", []member{file(".wh.d", ""), dir("d"), file("d/n", "new")}, lines("d/ opaque", "d/n new"), lines("d/", "d/n new", "f old", "l -> d")},
		{"an opaque directory", []member{dir("d"), file("d/.wh..wh..opq", ""), file("d/a", "new")}, lines("d/ opaque", "d/a new"), lines("d/", "d/a new", "f old", "l -> d")},
		{
			"an opaque directory, marked late",
			[]member{dir("d"), file("d/a", "new"), dir("d/s"), file("d/.wh..wh..opq", "")},
			lines("d/ opaque", "d/a new", "d/s/"), lines("d/", "d/a new", "d/s/", "f old", "l -> d"),
		},
		{"of nothing", []member{file(".wh.none", "")}, "none gone", lines("d/", "d/a old", "d/b old", "d/s/", "d/s/x old", "f old", "l -> d")},
		{"twice", []member{file(".wh.f", ""), file(".wh.f", "")}, "f gone", ""},
		{"a marker with a body, mode and owner", []member{{name: ".wh.f", body: "whatever", mode: 0o777, uid: 0}}, "f gone", ""},
		{"a marker that is a directory", []member{dir(".wh.f")}, "f gone", ""},
		{"a marker that is a link", []member{symlink(".wh.f", "/etc/passwd")}, "f gone", ""},
		{"a file and a directory again", []member{file("d", "new"), dir("d"), file("d/n", "new")}, lines("d/ opaque", "d/n new"), lines("d/", "d/n new", "f old", "l -> d")},
		{"a file for a directory", []member{file("d", "new")}, "d new", lines("d new", "f old", "l -> d")},
		{"a directory for a file", []member{dir("f"), file("f/x", "new")}, lines("f/", "f/x new"), ""},
		{"a directory for a link", []member{dir("l"), file("l/x", "new")}, lines("l/", "l/x new"), lines("d/", "d/a old", "d/b old", "d/s/", "d/s/x old", "f old", "l/", "l/x new")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data := rawTar(t, tt.tar...)
			t.Run("overlay", func(t *testing.T) {
				dir := t.TempDir()
				apply(t, data, dir, ApplyOptions{})
				if d := cmp.Diff(tt.overlay, plain(t, dir)); d != "" {
					t.Error(d)
				}
			})
			dir := t.TempDir()
			apply(t, rawTar(t, lower...), dir, ApplyOptions{Format: Merge})
			apply(t, data, dir, ApplyOptions{Format: Merge})
			if d := cmp.Diff(tt.merge, plain(t, dir)); d != "" && tt.merge != "" {
				t.Error(d)
			}
		})
	}
}

func TestApplyOpaqueForUserNamespaces(t *testing.T) {
	out := t.TempDir()
	if err := unix.Setxattr(out, "user.x", nil, 0); err == unix.ENOTSUP {
		t.Skip("the file system has no user attributes")
	}
	apply(t, rawTar(t, dir("d"), file("d/.wh..wh..opq", "")), out, ApplyOptions{UserXattr: true})
	if got := plain(t, out); got != "d/ opaque" {
		t.Error(got)
	}
}

// Tars that depend on layers below say so in Overlay format, and work in Merge.
func TestApplyNeedsLower(t *testing.T) {
	tests := []struct {
		name  string
		tar   []member
		merge string // "" if that fails too
	}{
		{"a missing parent", []member{file("a/b/c", "1")}, lines("a/", "a/b/", "a/b/c 1")},
		{"a whiteout in a missing parent", []member{file("a/.wh.c", "")}, "a/"},
		{"a hard link to nowhere", []member{hard("a", "b")}, ""},
		{"a hard link into nowhere", []member{hard("a", "b/c")}, ""},
		{"a hard link to a whiteout", []member{file(".wh.b", ""), hard("a", "b")}, ""},
		{"through a link to nowhere", []member{symlink("l", "usr/lib"), file("l/x", "1")}, lines("l -> usr/lib", "usr/", "usr/lib/", "usr/lib/x 1")},
		{"below a whiteout", []member{file(".wh.a", ""), file("a/b", "1")}, lines("a/", "a/b 1")},
		{"an opaque root", []member{file(".wh..wh..opq", ""), file("a", "1")}, "a 1"},
		{"below a file", []member{file("a", "1"), file("a/b", "1")}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data := rawTar(t, tt.tar...)
			_, _, err := Apply(context.Background(), bytes.NewReader(data), t.TempDir(), allowed(ApplyOptions{}))
			if !errors.Is(err, ErrNeedsLower) {
				t.Errorf("overlay: %v", err)
			}
			dir := t.TempDir()
			_, _, err = Apply(context.Background(), bytes.NewReader(data), dir, allowed(ApplyOptions{Format: Merge}))
			if (err != nil) != (tt.merge == "") || errors.Is(err, ErrNeedsLower) {
				t.Fatalf("merge: %v", err)
			}
			if d := cmp.Diff(tt.merge, plain(t, dir)); err == nil && d != "" {
				t.Error(d)
			}
		})
	}
}

// Whatever a tar says, nothing outside the root changes.
func TestApplyHostile(t *testing.T) {
	tests := []struct {
		name string
		tar  []member
		fine bool // it is not refused, only harmless
	}{
		{"a name that leads up", []member{file("../outside/new", "x")}, false},
		{"a name that leads up in the middle", []member{dir("a"), file("a/../../outside/new", "x")}, false},
		{"a directory that leads up", []member{dir("..")}, false},
		{"a directory that leads up and is reserved", []member{file(".wh...", "")}, false},
		{"a whiteout of itself", []member{file(".wh..", "")}, false},
		{"a whiteout of nothing", []member{file(".wh.", "")}, false},
		{"a whiteout in a place that leads up", []member{file("../outside/.wh.secret", "")}, false},
		{"a link and a file through it", []member{symlink("l", "OUTSIDE"), file("l/new", "x")}, true},
		{"a relative link and a file through it", []member{symlink("l", "../outside"), file("l/new", "x")}, true},
		{"a long chain of links", []member{symlink("a", "../outside"), symlink("b", "a"), symlink("c", "b"), file("c/new", "x")}, true},
		{"a link in the place of a directory", []member{dir("d"), file("d/x", "1"), symlink("d", "OUTSIDE"), file("d/new", "x")}, true},
		{"a file over a link", []member{symlink("l", "OUTSIDE/secret"), file("l", "x")}, true},
		{"a directory over a link", []member{symlink("l", "OUTSIDE"), {name: "l", kind: tar.TypeDir, mode: 0o777}, file("l/new", "x")}, true},
		{"modes and attributes of a link", []member{{name: "l", kind: tar.TypeSymlink, link: "OUTSIDE/secret", mode: 0o4777, pax: map[string]string{paxXattr + "user.x": "1"}}}, true},
		{"a hard link to a link to a file", []member{symlink("l", "OUTSIDE/secret"), hard("h", "l"), {name: "h", body: "x", mode: 0o777}}, true},
		{"a hard link that leads up", []member{hard("h", "../outside/secret")}, false},
		{"an absolute hard link", []member{hard("h", "OUTSIDE/secret")}, false},
		{"a hard link through a link", []member{symlink("l", "OUTSIDE"), hard("h", "l/secret")}, false},
		{"a hard link with other metadata", []member{symlink("l", "OUTSIDE"), {name: "h", kind: tar.TypeLink, link: "l/secret", mode: 0o777}}, false},
		{"a whiteout through a link", []member{symlink("l", "OUTSIDE"), file("l/.wh.secret", "")}, true},
		{"an opaque marker through a link", []member{symlink("l", "OUTSIDE"), file("l/.wh..wh..opq", "")}, true},
		{"a device through a link", []member{symlink("l", "OUTSIDE"), {name: "l/p", kind: tar.TypeFifo}}, true},
		{"a root that is a link", []member{symlink(".", "OUTSIDE"), file("new", "x")}, false},
		{"a root that is a file", []member{file(".", "x")}, false},
		{"overlayfs' own attributes", []member{{name: "d", kind: tar.TypeDir, pax: map[string]string{
			paxXattr + "trusted.overlay.redirect": "/../outside", paxXattr + "user.overlay.redirect": "/../outside", paxXattr + "trusted.overlay.opaque": "y",
		}}}, true},
		{"security labels", []member{{name: "f", pax: map[string]string{paxXattr + "security.selinux": "x", paxXattr + "trusted.x": "y"}}}, true},
		{"an owner that means none", []member{{name: "f", uid: maxID}}, false},
		{"an owner below zero", []member{{name: "f", uid: -2}}, false},
		{"a name that is too long", []member{file(strings.Repeat("a/", 3000)+"b", "x")}, false},
		{"a component that is too long", []member{file(strings.Repeat("a", 300), "x")}, false},
		{"an unknown type", []member{{name: "f", kind: 'V'}}, false},
	}
	for _, tt := range tests {
		for format, name := range map[Format]string{Overlay: "overlay", Merge: "merge"} {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				guard := newGuard(t)
				members := append([]member{}, tt.tar...)
				for i := range members {
					members[i].link = strings.ReplaceAll(members[i].link, "OUTSIDE", guard.outside)
				}
				_, _, err := Apply(context.Background(), bytes.NewReader(rawTar(t, members...)), guard.root, allowed(ApplyOptions{Format: format}))
				if err == nil && !tt.fine {
					t.Error("it was not refused")
				}
				if err != nil && tt.fine && !errors.Is(err, ErrNeedsLower) {
					t.Error(err)
				}
				guard.check(t)
				if _, err := unix.Lgetxattr(filepath.Join(guard.root, "d"), "trusted.overlay.opaque", nil); err == nil {
					t.Error("an attribute of overlayfs was set")
				}
			})
		}
	}
}

// guard is a root beside things that must not change.
type guard struct{ root, outside, before string }

func newGuard(t testing.TB) *guard {
	base := t.TempDir()
	g := &guard{root: filepath.Join(base, "root"), outside: filepath.Join(base, "outside")}
	check(t, os.Mkdir(g.root, 0o755))
	check(t, os.Mkdir(g.outside, 0o700))
	check(t, os.WriteFile(filepath.Join(g.outside, "secret"), []byte("secret"), 0o600))
	past := time.Unix(12345, 0)
	check(t, os.Chtimes(filepath.Join(g.outside, "secret"), past, past))
	check(t, os.Chtimes(g.outside, past, past))
	g.before = g.state(t)
	return g
}

func (g *guard) state(t testing.TB) string {
	var base, secret unix.Stat_t
	check(t, unix.Stat(filepath.Dir(g.root), &base))
	check(t, unix.Stat(filepath.Join(g.outside, "secret"), &secret))
	names, err := os.ReadDir(filepath.Dir(g.root))
	check(t, err)
	if len(names) != 2 || secret.Nlink != 1 {
		return "something is there that was not"
	}
	return describe(t, g.outside, what{times: true}) + time.Unix(base.Mtim.Unix()).String()
}

func (g *guard) check(t testing.TB) {
	t.Helper()
	if d := cmp.Diff(g.before, g.state(t)); d != "" {
		t.Errorf("something outside has changed: %s", d)
	}
}

// Everything that metadata can be comes through.
func TestApplyMetadata(t *testing.T) {
	needRoot(t)
	acl := "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x04\x00\x05\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff"
	out := t.TempDir()
	apply(t, rawTar(t,
		member{name: "./", kind: tar.TypeDir, mode: 0o1555, time: time.Unix(77, 0)},
		member{name: "d", kind: tar.TypeDir, mode: 0o2050, uid: 5, time: time.Unix(88, 0), pax: map[string]string{paxXattr + defaultACL: acl, paxXattr + "user.d": "v"}},
		member{name: "d/suid", body: "x", mode: 0o6755, uid: 1 << 30, time: time.Unix(-5, 0), pax: map[string]string{paxXattr + capability: capNetRaw}},
		member{name: "d/far", body: "x", uid: 4, time: time.Unix(1<<33, 500), pax: map[string]string{paxXattr + "user.y": ""}},
		member{name: "d/l", kind: tar.TypeSymlink, link: "x", uid: 6, time: time.Unix(99, 0)},
		member{name: "d/c", kind: tar.TypeChar, dev: [2]int64{1, 5}, uid: 7, mode: 0o620},
		member{name: "d/b", kind: tar.TypeBlock, dev: [2]int64{259, 70000}, uid: 7},
		member{name: "d/h", kind: tar.TypeLink, link: "d/suid", mode: 0o777},
	), out, ApplyOptions{})
	want := lines(
		`"d" 042050 5:5 @88 system.posix_acl_default="`+`\x02\x00\x00\x00\x01\x00\a\x00\xff\xff\xff\xff\x04\x00\x05\x00\xff\xff\xff\xff \x00\x05\x00\xff\xff\xff\xff" user.d="v"`,
		`"d/b" 060644 7:7 @1000 259,70000`,
		`"d/c" 020620 7:7 @1000 1,5`,
		`"d/far" 100644 4:4 @8589934592 1 2d711642b726 user.y=""`,
		`"d/h" 106755 1073741824:1073741824 @-5 1 2d711642b726 security.capability="\x01\x00\x00\x02\x00 \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"`,
		`"d/l" 120777 6:6 @99 -> "x"`,
		`"d/suid" 106755 1073741824:1073741824 = "d/h" @-5 1 2d711642b726 security.capability="\x01\x00\x00\x02\x00 \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"`,
		"")
	if d := cmp.Diff(want, describe(t, out, what{times: true})); d != "" {
		t.Error(d)
	}
	info, err := os.Stat(out)
	check(t, err)
	if info.ModTime().Unix() != 77 || info.Mode() != os.ModeDir|os.ModeSticky|0o555 {
		t.Errorf("root: %v %v", info.Mode(), info.ModTime())
	}
}

// In a tree that is there, directories that the tar does not mention keep their
// time, and what a directory had before is replaced.
func TestApplyMergeKeeps(t *testing.T) {
	out := t.TempDir()
	apply(t, rawTar(t,
		member{name: ".", kind: tar.TypeDir, time: time.Unix(5, 0)},
		member{name: "a", kind: tar.TypeDir, time: time.Unix(6, 0), pax: map[string]string{paxXattr + "user.old": "1"}},
		member{name: "b", kind: tar.TypeDir, time: time.Unix(7, 0)}), out, ApplyOptions{Format: Merge})
	apply(t, rawTar(t,
		member{name: "b/new", time: time.Unix(8, 0)},
		member{name: "a", kind: tar.TypeDir, mode: 0o700, time: time.Unix(9, 0)},
		member{name: "x/y/new", time: time.Unix(10, 0)}), out, ApplyOptions{Format: Merge})
	for path, want := range map[string]int64{"": 5, "a": 9, "b": 7, "b/new": 8, "x": 10, "x/y": 10} {
		info, err := os.Stat(filepath.Join(out, path))
		check(t, err)
		if got := info.ModTime().Unix(); got != want {
			t.Errorf("%q has time %d, want %d", path, got, want)
		}
	}
	if n, err := unix.Getxattr(filepath.Join(out, "a"), "user.old", nil); err == nil {
		t.Errorf("an attribute of %d bytes is left", n)
	}
}

func TestApplyOptions(t *testing.T) {
	out := t.TempDir()
	o := ApplyOptions{
		SkipDevices: true,
		Owner:       func(int, int) (int, int) { return os.Getuid(), os.Getgid() },
	}
	_, toc := apply(t, rawTar(t, member{name: "f", uid: 1234}, member{name: "null", kind: tar.TypeChar, dev: [2]int64{1, 3}}), out, o)
	if got := plain(t, out); got != "f " {
		t.Errorf("tree %q", got)
	}
	if len(toc.Entries) != 2 || toc.Entries[0].UID != 1234 || toc.Entries[1].Devminor != 3 {
		t.Errorf("table %+v", toc.Entries)
	}
	_, _, err := Apply(context.Background(), bytes.NewReader(rawTar(t, member{name: "c", kind: tar.TypeChar})), t.TempDir(), allowed(ApplyOptions{}))
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("a device that would be a whiteout: %v", err)
	}
}

// GNU tar's sparse files come out with their holes.
func TestApplySparse(t *testing.T) {
	for _, version := range []string{"--format=gnu", "--sparse-version=0.1", "--sparse-version=1.0"} {
		t.Run(version, func(t *testing.T) {
			src, out := t.TempDir(), t.TempDir()
			f, err := os.Create(filepath.Join(src, "hole"))
			check(t, err)
			for _, at := range []int64{0, 5 << 20, 20<<20 - 5} {
				_, err = f.WriteAt([]byte("bytes"), at)
				check(t, err)
			}
			check(t, f.Close())
			args := []string{"-C", src, "-S", "-cf", "-", "hole"}
			if version == "--format=gnu" {
				args = append(args, version)
			} else {
				args = append(args, "--format=posix", version)
			}
			data := run(t, nil, "tar", args...)
			_, toc := apply(t, data, out, ApplyOptions{})
			want, err := os.ReadFile(filepath.Join(src, "hole"))
			check(t, err)
			got, err := os.ReadFile(filepath.Join(out, "hole"))
			check(t, err)
			if !bytes.Equal(got, want) {
				t.Error("other bytes")
			}
			if e := toc.Entries[0]; e.Offset != -1 || e.Size != 20<<20 {
				t.Errorf("entry %+v", e)
			}
			var st unix.Stat_t
			check(t, unix.Stat(filepath.Join(out, "hole"), &st))
			if st.Blocks*512 > 1<<20 {
				t.Errorf("it takes %d bytes", st.Blocks*512)
			}
		})
	}
}

// Damaged tars and failing readers are errors, and nothing is left running or open.
func TestApplyDamaged(t *testing.T) {
	good := rawTar(t, dir("a"), file("a/b", strings.Repeat("x", 5000)), file("a/c", strings.Repeat("y", 600_000)))
	failure := errors.New("the disk is on fire")
	before := openFiles(t)
	tests := map[string]struct {
		r    io.Reader
		want error
	}{
		"cut in a header":      {bytes.NewReader(good[:700]), io.ErrUnexpectedEOF},
		"cut in a small file":  {bytes.NewReader(good[:3000]), io.ErrUnexpectedEOF},
		"cut in a large file":  {bytes.NewReader(good[:200_000]), io.ErrUnexpectedEOF},
		"a reader that fails":  {io.MultiReader(bytes.NewReader(good[:100_000]), iotest.ErrReader(failure)), failure},
		"a failure at the end": {io.MultiReader(bytes.NewReader(good), iotest.ErrReader(failure)), failure},
		"no tar":               {strings.NewReader(strings.Repeat("no tar at all ", 100)), tar.ErrHeader},
	}
	for name, tt := range tests {
		if _, _, err := Apply(context.Background(), tt.r, t.TempDir(), allowed(ApplyOptions{})); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Apply(ctx, bytes.NewReader(good), t.TempDir(), allowed(ApplyOptions{})); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
	d, _, err := Apply(context.Background(), bytes.NewReader(nil), t.TempDir(), allowed(ApplyOptions{}))
	if err != nil || d.DiffID != emptyDigest {
		t.Errorf("nothing at all: %v, %v", d, err)
	}
}

// What follows the end of the tar belongs to its DiffID.
func TestApplyTrailingBytes(t *testing.T) {
	data := append(rawTar(t, file("a", "1")), make([]byte, 10240)...)
	d, _ := apply(t, data, t.TempDir(), ApplyOptions{})
	if d.Size != int64(len(data)) || d.DiffID != sumOf(data) {
		t.Errorf("%+v of %d bytes", d, len(data))
	}
}
