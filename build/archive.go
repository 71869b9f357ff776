package build

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image/layer"
	"golang.org/x/sys/unix"
)

// archives holds the archives an ADD unpacks: each is decompressed once into
// an unnamed file in dir, from which members are read in any order.
type archives struct {
	dir   string
	files []*os.File
}

func (a *archives) close() {
	for _, f := range a.files {
		f.Close()
	}
}

// spool is one decompressed archive. Err is why it ends early, which matters to
// those who read as far.
type spool struct {
	f   *os.File
	err error
}

// until gives a reader of section that ends with the spool's error.
func (s *spool) until(section *io.SectionReader) io.Reader {
	if s.err == nil {
		return section
	}
	return io.MultiReader(section, failing{s.err})
}

type failing struct{ err error }

// Read gives no byte and the error that ended the spooling.
func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (s *spool) open(_ context.Context, _ string, e *layer.Entry) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s.f, e.Offset, e.Size)), nil
}

// isArchive reports whether the bytes begin a tar of any known compression. A
// file that is no archive, or a broken or empty one, is copied as it is.
func isArchive(r io.Reader) bool {
	d, _, err := layer.Decompress(bufio.NewReader(r))
	if err != nil {
		return false
	}
	defer d.Close()
	_, err = tar.NewReader(d).Next()
	return err == nil
}

// open decompresses a member of the selection, if it is an archive.
func (a *archives) open(ctx context.Context, from opener, it *item) (*spool, error) {
	r, err := from.open(ctx, it.at, it.entry)
	if err != nil {
		return nil, err
	}
	ok := isArchive(r)
	r.Close()
	if !ok {
		return nil, nil
	}
	if r, err = from.open(ctx, it.at, it.entry); err != nil {
		return nil, err
	}
	defer r.Close()
	d, _, err := layer.Decompress(r)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	f, err := os.CreateTemp(a.dir, "tmp-add-*")
	if err != nil {
		return nil, err
	}
	a.files = append(a.files, f)
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	_, err = copyBuffer(ctx, f, d)
	if ctx.Err() != nil || errors.Is(err, unix.ENOSPC) {
		return nil, fmt.Errorf("unpack /%s: %w", it.at, err)
	}
	return &spool{f, err}, nil
}

// landArchive unpacks a match into the destination, which becomes a directory.
// It reports false for what is not an archive.
func (t *transfer) landArchive(ctx context.Context, l *landing, from opener, m match, own *owner, a *archives) (bool, error) {
	it := &m.items[0]
	if it.entry.Type != typeReg || it.entry.Size == 0 {
		return false, nil
	}
	s, err := a.open(ctx, from, it)
	if err != nil || s == nil {
		return false, err
	}
	dst, err := l.mkdirAll(t.dest, 0o755, own)
	if err != nil {
		return false, err
	}
	u := unpacking{l: l, spool: s, dst: dst, own: own, links: map[string][]string{}}
	if err := u.all(ctx); err != nil {
		return false, fmt.Errorf("unpack /%s: %w", it.at, err)
	}
	return true, nil
}

// unpacking lands the members of one archive below dst, as one who has dst for
// root and knows nothing else: links that are absolute or have too many dots
// end there.
type unpacking struct {
	l     *landing
	spool *spool
	dst   string
	own   *owner
	// links holds the paths that share a file, by their group; dirs the members
	// that are directories.
	links map[string][]string
	dirs  []string
	end   int64 // where sparse members are written out in full
}

func (u *unpacking) all(ctx context.Context) error {
	size, err := u.spool.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	u.end = size
	section := io.NewSectionReader(u.spool.f, 0, size)
	r := tar.NewReader(u.spool.until(section))
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return err
		}
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if sparse(h) {
			if offset, err = u.expand(r); err != nil {
				return err
			}
		}
		if err := u.member(h, offset); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// finish wants everything that was a directory to be there still: this is when
// their times are set.
func (u *unpacking) finish() error {
	for _, name := range u.dirs {
		at, err := resolve(u.lookup, name)
		if err == nil {
			_, err = u.lookup(at)
		}
		if err != nil {
			return fmt.Errorf("set the time of %s: %w", name, err)
		}
	}
	return nil
}

func sparse(h *tar.Header) bool {
	_, pax := h.PAXRecords["GNU.sparse.major"]
	_, old := h.PAXRecords["GNU.sparse.map"]
	return pax || old
}

// expand writes a sparse member's bytes, holes included, behind the archive.
func (u *unpacking) expand(r io.Reader) (int64, error) {
	at := u.end
	n, err := io.Copy(io.NewOffsetWriter(u.spool.f, at), r)
	u.end += n
	return at, err
}

// member lands one member: it replaces what is there, but for a directory on a
// directory, whose metadata it changes.
func (u *unpacking) member(h *tar.Header, offset int64) error {
	name := path.Clean(h.Name)
	if h.Typeflag == tar.TypeXGlobalHeader || name == "." {
		return nil
	}
	at, err := u.place(clean(name))
	if err != nil {
		return err
	}
	if h.Typeflag == typeDir {
		u.dirs = append(u.dirs, clean(name))
	}
	e := layer.Entry{
		Name: at, Type: h.Typeflag, Mode: h.Mode & 0o7777, UID: h.Uid, GID: h.Gid,
		ModTime: bounded(h.ModTime), Linkname: h.Linkname,
		Devmajor: h.Devmajor, Devminor: h.Devminor, Offset: offset,
	}
	for k, v := range h.PAXRecords {
		if attr, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[attr] = v
		}
	}
	if u.own != nil {
		e.UID, e.GID = u.own.uid, u.own.gid
	}
	return u.land(e, h.Size)
}

// bounded is the time that a file gets: none is before 1970 or after what
// nanoseconds in 64 bits can tell.
func bounded(t time.Time) time.Time {
	if t.Before(time.Unix(0, 0)) || t.After(time.Unix(0, math.MaxInt64)) {
		return time.Unix(0, 0)
	}
	return t
}

// lookup looks at a path below dst.
func (u *unpacking) lookup(p string) (*layer.Entry, error) { return u.l.lookup(join(u.dst, p)) }

// place gives the path in the image for a member's: its directory, which is
// made if it is missing, with all links followed, and its own name.
func (u *unpacking) place(name string) (string, error) {
	if name == "" {
		return u.dst, nil
	}
	dir, base := parentOf(name), path.Base(name)
	real, err := resolve(u.lookup, dir)
	if err != nil {
		return "", err
	}
	e, err := u.lookup(real)
	switch {
	case isNotExist(err):
		if err := u.makeParents(dir); err != nil {
			return "", err
		}
	case err != nil:
		return "", err
	case e.Type != typeDir:
		return "", fmt.Errorf("/%s: %w", dir, errNotDir)
	}
	return join(join(u.dst, real), base), nil
}

// makeParents makes the directories that members lie in and the archive does
// not have. They are root's whatever --chown says, and no link to nothing is
// turned into a directory.
func (u *unpacking) makeParents(dir string) error {
	at := ""
	for name := range strings.SplitSeq(dir, "/") {
		real, err := resolve(u.lookup, at)
		if err != nil {
			return err
		}
		p := join(real, name)
		_, err = u.lookup(p)
		if isNotExist(err) {
			e := layer.Entry{Name: join(u.dst, p), Type: typeDir, Mode: 0o755, ModTime: u.l.now}
			u.l.added[e.Name] = &landed{entry: e}
		} else if err != nil {
			return err
		}
		at = p
		if real, err = resolve(u.lookup, at); err != nil {
			return err
		}
		if e, err := u.lookup(real); err != nil || e.Type != typeDir {
			return fmt.Errorf("mkdir /%s: %w", p, fs.ErrExist)
		}
	}
	return nil
}

func (u *unpacking) land(e layer.Entry, size int64) error {
	switch {
	case e.Name == "":
		return nil // the image's root has no entry
	case e.Name == u.dst && e.Type != typeDir:
		return fmt.Errorf("/%s: %w", e.Name, fs.ErrExist)
	}
	switch e.Type {
	case typeReg:
		e.Size = size
		return u.l.replace(&landed{entry: e, from: u.spool, at: e.Name})
	case typeDir, typeSymlink, typeChar, typeBlock, typeFifo:
		return u.l.replace(&landed{entry: e})
	case typeLink:
		return u.hardLink(e)
	}
	return fmt.Errorf("members of type %q are not known", e.Type)
}

// hardLink makes the member another name of a file that is there, in the
// archive or in the image. What the member's header says goes for all the names.
func (u *unpacking) hardLink(e layer.Entry) error {
	name := clean(e.Linkname)
	dir, err := resolve(u.lookup, parentOf(name))
	if err != nil {
		return err
	}
	target := join(join(u.dst, dir), path.Base(name))
	if within(target, e.Name) { // it goes away before the link is made
		return fmt.Errorf("link to %s: %w", e.Linkname, fs.ErrNotExist)
	}
	first, err := u.l.take(target)
	if err != nil {
		return fmt.Errorf("link to %s: %w", e.Linkname, err)
	}
	if first.link == "" {
		u.l.groups++
		first.link = fmt.Sprintf("archive %d", u.l.groups)
		u.links[first.link] = []string{target}
	}
	same := *first
	same.entry.Name = e.Name
	if err := u.l.replace(&same); err != nil {
		return err
	}
	u.links[first.link] = append(u.links[first.link], e.Name)
	for _, p := range u.links[first.link] {
		if f := u.l.added[p]; f != nil && f.link == first.link {
			f.describe(e)
		}
	}
	return nil
}

// describe gives a file the metadata of another entry; a symbolic link has no
// mode and keeps its time.
func (f *landed) describe(e layer.Entry) {
	f.entry.UID, f.entry.GID = e.UID, e.GID
	if f.entry.Type != typeSymlink {
		f.entry.Mode, f.entry.ModTime = e.Mode, e.ModTime
	}
	if len(e.Xattrs) > 0 {
		f.entry.Xattrs = maps.Clone(f.entry.Xattrs)
		if f.entry.Xattrs == nil {
			f.entry.Xattrs = map[string]string{}
		}
		maps.Copy(f.entry.Xattrs, e.Xattrs)
	}
}
