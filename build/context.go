package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/image/rootfs"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// contextTree is the build context: a directory less what .dockerignore takes
// out of it. Directories are read when somebody asks for them, and once.
// Everything belongs to 0:0 and nothing has extended attributes, which BuildKit
// loses on the way: not even file capabilities.
type contextTree struct {
	root   *rootfs.Root
	ignore *parser.Ignore
	memo   *cache.Files
	top    *contextNode
	// sent, if set, tells whether a directory is part of the build.
	sent func(dir string) bool
}

// contextNode is one path of the context.
type contextNode struct {
	entry layer.Entry
	// ino, dev and ctimeNs are what stat needs beside the entry.
	ino, dev uint64
	ctimeNs  int64
	linked   bool // the file may have other names
	socket   bool // it arrives as an empty file
	// hidden says that the path is ignored; a directory that something below
	// is taken out of again is shown all the same.
	hidden bool

	// unmoved is what closing the file has shown: that it is as it was selected.
	unmoved atomic.Bool

	// hashed is set once the file has been read to be hashed.
	hashed atomic.Pointer[digest.Digest]
	// listing is what a directory holds; nil for anything else.
	listing *listing
}

// stat is what tells that a regular file has not changed.
func (n *contextNode) stat() cache.Stat {
	return cache.Stat{
		Ino: n.ino, Dev: n.dev, Size: n.entry.Size, Mode: unix.S_IFREG | uint32(n.entry.Mode),
		MTimeNs: n.entry.ModTime.UnixNano(), CTimeNs: n.ctimeNs,
	}
}

// listing is a directory of the context, read once.
type listing struct {
	match parser.Match // what .dockerignore says of the directory
	once  sync.Once
	// sorted are the names, and nodes what they stand for.
	sorted []string
	nodes  []*contextNode
	err    error
}

// child finds a name.
func (l *listing) child(name string) (*contextNode, bool) {
	i, ok := slices.BinarySearch(l.sorted, name)
	if !ok {
		return nil, false
	}
	return l.nodes[i], true
}

// openContext opens the context in dir. memo remembers digests of files that
// did not change.
func openContext(dir string, ignore *parser.Ignore, memo *cache.Files) (*contextTree, error) {
	root, err := rootfs.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open context: %w", err)
	}
	top := &contextNode{entry: layer.Entry{Type: typeDir, Mode: 0o755}, listing: &listing{}}
	if st, err := root.Stat(""); err == nil {
		top.entry.Mode = int64(st.Mode & 0o7777)
		top.entry.ModTime = time.Unix(st.Mtim.Unix())
	}
	return &contextTree{root: root, ignore: ignore, memo: memo, top: top}, nil
}

func (c *contextTree) close() error {
	return errors.Join(c.memo.Save(), c.root.Close())
}

func (c *contextTree) sends(dir string) bool { return c.sent == nil || c.sent(dir) }

// node finds a path that is not ignored.
func (c *contextTree) node(p string) (*contextNode, error) {
	n := c.top
	if p == "" {
		return n, nil
	}
	at := ""
	for name := range strings.SplitSeq(p, "/") {
		if n.entry.Type != typeDir {
			return nil, fs.ErrNotExist
		}
		if err := c.read(at, n); err != nil {
			return nil, err
		}
		child, ok := n.listing.child(name)
		if !ok {
			return nil, fs.ErrNotExist
		}
		n, at = child, join(at, name)
	}
	if shown, err := c.shown(p, n); err != nil || !shown {
		return nil, errors.Join(err, fs.ErrNotExist)
	}
	return n, nil
}

// shown reports whether a path is part of the context: it is not ignored, or
// something below it is not.
func (c *contextTree) shown(p string, n *contextNode) (bool, error) {
	if !n.hidden {
		return true, nil
	}
	if n.entry.Type != typeDir || c.ignore.CanSkip(p) {
		return false, nil
	}
	if err := c.read(p, n); err != nil {
		return false, err
	}
	for i, name := range n.listing.sorted {
		if ok, err := c.shown(join(p, name), n.listing.nodes[i]); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// ignored reports whether a path is there and .dockerignore hides it: the
// usual reason for a source that is not found.
func (c *contextTree) ignored(p string) bool {
	if c.ignore == nil || p == "" {
		return false
	}
	st, err := c.root.Lstat(p)
	_, hidden := c.node(p)
	return err == nil && st.Mode != 0 && isNotExist(hidden)
}

// read lists a directory and looks at each entry, once.
func (c *contextTree) read(dir string, n *contextNode) error {
	n.listing.once.Do(func() { n.listing.err = c.readDir(dir, n) })
	return n.listing.err
}

func (c *contextTree) readDir(dir string, n *contextNode) error {
	f, err := c.root.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("read context: %w", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("read context: %w", err)
	}
	slices.Sort(names)
	n.listing.sorted, n.listing.nodes = names[:0], make([]*contextNode, 0, len(names))
	for _, name := range names {
		child, err := c.lstat(int(f.Fd()), dir, name, n)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since the directory was listed
		}
		if err != nil {
			return fmt.Errorf("read context: %s: %w", join(dir, name), err)
		}
		n.listing.sorted, n.listing.nodes = append(n.listing.sorted, name), append(n.listing.nodes, child)
	}
	return nil
}

// readAhead reads the directories at and below a path, several at a time, for
// a walk that is about to visit them all. It finds no errors: the walk does.
func (c *contextTree) readAhead(p string) {
	n, err := c.node(p)
	if err != nil {
		return
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	var visit func(p string, n *contextNode)
	visit = func(p string, n *contextNode) {
		if n.listing == nil || n.hidden && c.ignore.CanSkip(p) || c.read(p, n) != nil {
			return
		}
		for i, name := range n.listing.sorted {
			child, at := n.listing.nodes[i], join(p, name)
			if child.listing != nil && !g.TryGo(func() error { visit(at, child); return nil }) {
				visit(at, child)
			}
		}
	}
	visit(p, n)
	_ = g.Wait() // visits give no errors
}

// lstat looks at one entry of the directory dirfd.
func (c *contextTree) lstat(dirfd int, dir, name string, parent *contextNode) (*contextNode, error) {
	n := &contextNode{}
	var match parser.Match
	if c.ignore != nil {
		m, err := c.ignore.Excluded(join(dir, name), parent.listing.match)
		if err != nil {
			return nil, err
		}
		match, n.hidden = m, m.Excluded
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	n.ino, n.dev, n.ctimeNs, n.linked = st.Ino, uint64(st.Dev), st.Ctim.Nano(), st.Nlink > 1
	n.entry = layer.Entry{Name: name, Mode: int64(st.Mode & 0o7777), ModTime: time.Unix(st.Mtim.Unix())}
	e := &n.entry
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = typeReg, st.Size
	case unix.S_IFSOCK:
		e.Type, n.socket, n.linked = typeReg, true, false
	case unix.S_IFDIR:
		e.Type, n.listing = typeDir, &listing{match: match}
	case unix.S_IFLNK:
		e.Type = typeSymlink
		link, err := readlinkat(dirfd, name, st.Size)
		if err != nil {
			return nil, err
		}
		e.Linkname = link
	case unix.S_IFIFO:
		e.Type = typeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Type = typeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			e.Type = typeBlock
		}
		e.Devmajor, e.Devminor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	}
	return n, nil
}

func readlinkat(dirfd int, name string, size int64) (string, error) {
	buf := make([]byte, max(size+1, 256))
	n, err := unix.Readlinkat(dirfd, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func (c *contextTree) lookup(p string) (*layer.Entry, error) {
	n, err := c.node(p)
	if err != nil {
		return nil, err
	}
	return &n.entry, nil
}

func (c *contextTree) names(dir string) ([]string, error) {
	n, err := c.node(dir)
	if err != nil {
		return nil, err
	}
	if n.listing == nil {
		return nil, fmt.Errorf("/%s: %w", dir, errNotDir)
	}
	if err := c.read(dir, n); err != nil {
		return nil, err
	}
	if c.ignore == nil {
		return n.listing.sorted, nil
	}
	var out []string
	for i, name := range n.listing.sorted {
		ok, err := c.shown(join(dir, name), n.listing.nodes[i])
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, name)
		}
	}
	return out, nil
}

func (c *contextTree) open(_ context.Context, p string, _ *layer.Entry) (io.ReadCloser, error) {
	n, err := c.node(p)
	if err != nil {
		return nil, err
	}
	if n.socket {
		return io.NopCloser(strings.NewReader("")), nil
	}
	f, err := c.openFile(p)
	if err != nil {
		return nil, err
	}
	return &contextFile{f, n}, nil
}

// contextFile is an open file of the context. Closing it looks whether it is
// still the file that was selected.
type contextFile struct {
	*os.File
	node *contextNode
}

// Close closes the file.
func (f *contextFile) Close() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err == nil {
		f.node.unmoved.Store(st.Ctim.Nano() == f.node.ctimeNs && st.Size == f.node.entry.Size)
	}
	return f.File.Close()
}

// learn remembers what a file held that was read to be copied, not to be hashed.
func (c *contextTree) learn(p string, d digest.Digest) {
	n, err := c.node(p)
	if err == nil && n.unmoved.Load() {
		c.memo.Remember(p, n.stat(), d)
	}
}

func (c *contextTree) openFile(p string) (*os.File, error) {
	f, err := c.root.OpenFile(p, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read context: %w", err)
	}
	return f, nil
}

func (c *contextTree) known(p string, _ *layer.Entry) (digest.Digest, bool) {
	n, err := c.node(p)
	if err != nil {
		return "", false
	}
	return c.memo.Digest(p, n.stat())
}

// digest reads a file for its digest.
func (c *contextTree) digest(ctx context.Context, p string, _ *layer.Entry) (digest.Digest, error) {
	n, err := c.node(p)
	if err != nil {
		return "", err
	}
	if d := n.hashed.Load(); d != nil {
		return *d, nil
	}
	if n.socket {
		return digest.FromBytes(nil), nil
	}
	d, err := c.hash(ctx, p, n)
	if err != nil {
		return "", err
	}
	n.hashed.Store(&d)
	c.memo.Remember(p, n.stat(), d)
	return d, nil
}

func (c *contextTree) hash(ctx context.Context, p string, n *contextNode) (digest.Digest, error) {
	f, err := c.openFile(p)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := digest.SHA256.Digester()
	size, err := copyBuffer(ctx, h.Hash(), f)
	if err != nil {
		return "", fmt.Errorf("read context: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", fmt.Errorf("read context: %w", err)
	}
	if size != n.entry.Size || st.Ctim.Nano() != n.ctimeNs {
		return "", changed(p)
	}
	return h.Digest(), nil
}

func (c *contextTree) linkID(p string, e *layer.Entry) string {
	n, err := c.node(p)
	if err != nil || e.Type != typeReg || !n.linked {
		return ""
	}
	return fmt.Sprintf("%d:%d", n.dev, n.ino)
}

// missing is the error for a source that the context does not have.
func (c *contextTree) missing(p string) error { return notInContext(c, p, c.ignored(p)) }

// notInContext is the error for a source that a context does not have.
func notInContext(t tree, p string, ignored bool) error {
	if ignored {
		return &Hinted{fmt.Errorf("%q: not found: .dockerignore leaves it out of the build context", "/"+p), "add !" + p + " to .dockerignore, or rename it"}
	}
	err := fmt.Errorf("%q: not found in the build context", "/"+p)
	if near := nearPath(t, p); near != "" {
		return &Hinted{err, "did you mean " + near + "?"}
	}
	return &Hinted{err, "paths are relative to the context directory"}
}

// noContext is the context of a build without one.
type noContext struct{ emptyTree }

// missing is the error for a source that could only be in a context.
func (noContext) missing(p string) error {
	return &Hinted{fmt.Errorf("%q: not found: the build has no context, only a Dockerfile", "/"+p), "name the directory that has it"}
}

// emptyTree has no files: it is what `COPY --link` lands on.
type emptyTree struct{}

func (emptyTree) lookup(p string) (*layer.Entry, error) {
	if p == "" {
		return &layer.Entry{Type: typeDir, Mode: 0o755}, nil
	}
	return nil, fs.ErrNotExist
}

func (emptyTree) names(string) ([]string, error) { return nil, nil }

func (emptyTree) known(string, *layer.Entry) (digest.Digest, bool) { return "", false }

func (emptyTree) digest(context.Context, string, *layer.Entry) (digest.Digest, error) {
	return "", fs.ErrNotExist
}

func (emptyTree) open(context.Context, string, *layer.Entry) (io.ReadCloser, error) {
	return nil, fs.ErrNotExist
}

func (emptyTree) linkID(string, *layer.Entry) string { return "" }
