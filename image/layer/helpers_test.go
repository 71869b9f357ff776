package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocibuild/ocibuild/image/rootfs"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// isRoot reports whether the tests may do everything, inUserNamespace whether they
// are root in a user namespace only.
func isRoot() bool { return os.Geteuid() == 0 && !inUserNamespace() }

func inUserNamespace() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(ids)), " ") != "0 0 4294967295"
}

func needRoot(t testing.TB) {
	t.Helper()
	if !isRoot() {
		t.Skip("needs root: owners, devices and trusted attributes")
	}
}

// seeds is how many random trees to try.
func seeds(n uint64) uint64 {
	if testing.Short() {
		return (n + 4) / 5
	}
	return n
}

// allowed are the options with which the user of the tests can apply any tar.
func allowed(o ApplyOptions) ApplyOptions {
	o.UserXattr = o.UserXattr || !isRoot()
	if os.Geteuid() != 0 {
		o.Owner = func(int, int) (int, int) { return os.Getuid(), os.Getgid() }
	}
	return o
}

// member is one member of a tar that a test makes by hand, canonical or not.
type member struct {
	name string
	kind byte // TypeReg if 0
	link string
	body string
	mode int64 // 0644 or 0755 if 0
	uid  int
	pax  map[string]string
	dev  [2]int64
	time time.Time
}

// rawTar makes a tar of members.
func rawTar(t testing.TB, members ...member) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, m := range members {
		h := &tar.Header{
			Name: m.name, Typeflag: m.kind, Linkname: m.link, Mode: m.mode, Uid: m.uid, Gid: m.uid, Size: int64(len(m.body)),
			PAXRecords: m.pax, Devmajor: m.dev[0], Devminor: m.dev[1], ModTime: m.time,
		}
		if m.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if m.uid == 0 {
			h.Uid, h.Gid = os.Getuid(), os.Getgid()
		}
		if m.mode == 0 {
			h.Mode = 0o644
			if m.kind == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if m.time.IsZero() {
			h.ModTime = time.Unix(1000, 0)
		}
		if m.kind == tar.TypeXGlobalHeader {
			h = &tar.Header{Typeflag: m.kind, PAXRecords: m.pax}
		}
		check(t, w.WriteHeader(h))
		_, err := io.WriteString(w, m.body)
		check(t, err)
	}
	check(t, w.Close())
	return buf.Bytes()
}

// dir, file, symlink, hard and gone are members.
func dir(name string) member           { return member{name: name, kind: tar.TypeDir} }
func file(name, body string) member    { return member{name: name, body: body} }
func symlink(name, text string) member { return member{name: name, kind: tar.TypeSymlink, link: text} }

func hard(name, target string) member { return member{name: name, kind: tar.TypeLink, link: target} }

// apply applies a tar to a directory.
func apply(t testing.TB, data []byte, dir string, o ApplyOptions) (Digests, *TOC) {
	t.Helper()
	d, toc, err := Apply(context.Background(), bytes.NewReader(data), dir, allowed(o))
	check(t, err)
	return d, toc
}

// diff makes the tar of a directory.
func diff(t testing.TB, dir string) ([]byte, Digests, *TOC) {
	t.Helper()
	var buf bytes.Buffer
	w := NewWriter(&buf)
	check(t, Diff(context.Background(), dir, w))
	d, toc, err := w.Close()
	check(t, err)
	return buf.Bytes(), d, toc
}

// what says which parts of a file describe mentions.
type what struct{ times, overlay bool }

// describe lists a tree, a line for each file: type, mode, owner, size or text, a
// number for each set of hard links, attributes, content.
func describe(t testing.TB, dir string, show what) string {
	t.Helper()
	r, err := rootfs.Open(dir)
	check(t, err)
	defer r.Close()
	var b strings.Builder
	first := make(map[inode]string)
	check(t, r.Walk("", func(e rootfs.WalkEntry) error {
		if e.Path != "" {
			describeFile(t, &b, e, first, show)
		}
		return nil
	}))
	return b.String()
}

func describeFile(t testing.TB, b *strings.Builder, e rootfs.WalkEntry, first map[inode]string, show what) {
	st := &e.Stat
	kind := st.Mode & unix.S_IFMT
	if isWhiteout(st) {
		fmt.Fprintf(b, "%q whiteout\n", e.Path) // it has no metadata of its own
		return
	}
	fmt.Fprintf(b, "%q %06o %d:%d", e.Path, st.Mode, st.Uid, st.Gid)
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if name, ok := first[id]; ok {
			fmt.Fprintf(b, " = %q", name)
		} else {
			first[id] = e.Path
		}
	}
	if show.times {
		fmt.Fprintf(b, " @%d", st.Mtim.Sec)
	}
	switch kind {
	case unix.S_IFREG:
		fd, err := openRegular(e.Dir, e.Name)
		check(t, err)
		h := sha256.New()
		_, err = io.Copy(h, fdReader(fd))
		unix.Close(fd)
		check(t, err)
		fmt.Fprintf(b, " %d %x", st.Size, h.Sum(nil)[:6])
	case unix.S_IFLNK:
		text, err := rootfs.ReadlinkAt(e.Dir, e.Name)
		check(t, err)
		fmt.Fprintf(b, " -> %q", text)
	case unix.S_IFCHR, unix.S_IFBLK:
		fmt.Fprintf(b, " %d,%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	src := pathXattrs(e.Dir, e.Name)
	names, err := src.names()
	check(t, err)
	sort.Strings(names)
	for _, name := range names {
		if KeepXattr(name) || show.overlay && strings.Contains(name, "overlay.opaque") {
			value, err := src.value(name)
			check(t, err)
			fmt.Fprintf(b, " %s=%q", name, value)
		}
	}
	b.WriteByte('\n')
}

// capNetRaw is a security.capability attribute: cap_net_raw=ep.
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// randomTree makes a tree of everything that a file system can hold. As root it has
// owners, whiteouts and opaque directories too, and devices.
func randomTree(t testing.TB, dir string, rnd *rand.Rand) {
	g := &treeMaker{t: t, rnd: rnd, root: isRoot(), owner: os.Geteuid() == 0, ids: 1 << 22, opaque: "trusted.overlay.opaque"}
	if inUserNamespace() {
		g.ids, g.opaque = 60000, "user.overlay.opaque"
	}
	g.fill(dir, 0, false)
	sort.Sort(sort.Reverse(sort.StringSlice(g.all)))
	for _, path := range g.all { // children before parents
		ts := unix.NsecToTimespec(rnd.Int64N(4e18) - 1e18)
		if rnd.IntN(4) == 0 {
			ts = unix.Timespec{Sec: rnd.Int64N(1 << 33)}
		}
		check(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

type treeMaker struct {
	t   testing.TB
	rnd *rand.Rand
	// root allows devices, owner other owners with ids up to ids.
	root, owner bool
	ids         int
	opaque      string
	all, files  []string
}

func (g *treeMaker) name() string {
	switch g.rnd.IntN(12) {
	case 0:
		return strings.Repeat("long", 10+g.rnd.IntN(50)) + fmt.Sprint(g.rnd.IntN(100))
	case 1:
		return fmt.Sprintf("\xff\xfenot utf-8 %d", g.rnd.IntN(100))
	case 2:
		return fmt.Sprintf("späße \n=%d", g.rnd.IntN(100))
	case 3:
		return fmt.Sprintf(" %d ", g.rnd.IntN(100))
	}
	return fmt.Sprintf("f%d", g.rnd.IntN(1000))
}

// fill makes files in dir; hidden says that it or a directory above is opaque.
func (g *treeMaker) fill(dir string, depth int, hidden bool) {
	for range g.rnd.IntN(12) {
		path := filepath.Join(dir, g.name())
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		g.make(path, depth, hidden)
		g.all = append(g.all, path)
	}
}

func (g *treeMaker) make(path string, depth int, hidden bool) {
	t, rnd := g.t, g.rnd
	switch n := rnd.IntN(20); {
	case n < 5 && depth < 5:
		check(t, os.Mkdir(path, 0o755))
		opaque := g.owner && rnd.IntN(4) == 0
		g.fill(path, depth+1, hidden || opaque)
		g.own(path)
		check(t, unix.Chmod(path, uint32(0o700|rnd.IntN(0o10000))))
		if opaque {
			check(t, unix.Setxattr(path, g.opaque, []byte("y"), 0))
		}
		g.xattr(path)
		return
	case n < 7:
		check(t, os.Symlink(strings.Repeat("../x", rnd.IntN(60))+"/tar\xffget", path))
		g.own(path)
		return
	case n < 9 && len(g.files) > 0:
		check(t, os.Link(g.files[rnd.IntN(len(g.files))], path))
		return
	case n == 9:
		check(t, unix.Mkfifo(path, 0o600))
	case n == 10 && g.root:
		check(t, unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	case n == 11 && g.owner && !hidden:
		check(t, unix.Mknod(path, unix.S_IFCHR, 0))
		return
	default:
		data := make([]byte, []int{0, 1, 511, 512, 513, 5000, 40000, 300000}[rnd.IntN(8)])
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		check(t, os.WriteFile(path, data, 0o600))
		g.files = append(g.files, path)
	}
	g.own(path)
	check(t, unix.Chmod(path, uint32(0o400|rnd.IntN(0o10000))))
	g.xattr(path)
}

func (g *treeMaker) own(path string) {
	if g.owner && g.rnd.IntN(2) == 0 {
		check(g.t, os.Lchown(path, g.rnd.IntN(g.ids), g.rnd.IntN(g.ids)))
	}
}

func (g *treeMaker) xattr(path string) {
	info, err := os.Lstat(path)
	check(g.t, err)
	if g.rnd.IntN(5) == 0 && (info.IsDir() || info.Mode().IsRegular()) {
		err := unix.Setxattr(path, "user.né", []byte("v\x00\nalue"), 0)
		if err != unix.ENOTSUP && err != unix.EACCES {
			check(g.t, err)
		}
	}
	if g.rnd.IntN(5) == 0 && g.owner && info.Mode().IsRegular() {
		check(g.t, unix.Setxattr(path, "security.capability", []byte(capNetRaw), 0))
	}
}
