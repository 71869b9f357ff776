package build

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/ocibuild/ocibuild/image/layer"
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

// spool is one decompressed archive.
type spool struct{ f *os.File }

func (s spool) open(_ context.Context, _ string, e *layer.Entry) (io.ReadCloser, error) {
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
	f, err := os.CreateTemp(a.dir, "add-*")
	if err != nil {
		return nil, err
	}
	a.files = append(a.files, f)
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	if _, err := copyBuffer(ctx, f, d); err != nil {
		return nil, fmt.Errorf("unpack /%s: %w", it.at, err)
	}
	return &spool{f}, nil
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
	u := unpacking{l: l, spool: s, dst: dst, own: own, links: map[string]string{}}
	if err := u.all(ctx); err != nil {
		return false, fmt.Errorf("unpack /%s: %w", it.at, err)
	}
	return true, nil
}

// unpacking lands the members of one archive below dst.
type unpacking struct {
	l     *landing
	spool *spool
	dst   string
	own   *owner
	links map[string]string // landed path -> group of hard links
	end   int64             // where sparse members are written out in full
}

func (u *unpacking) all(ctx context.Context) error {
	size, err := u.spool.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	u.end = size
	section := io.NewSectionReader(u.spool.f, 0, size)
	r := tar.NewReader(section)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
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

func sparse(h *tar.Header) bool {
	_, pax := h.PAXRecords["GNU.sparse.major"]
	_, old := h.PAXRecords["GNU.sparse.map"]
	return h.Typeflag == tar.TypeGNUSparse || pax || old
}

// expand writes a sparse member's bytes, holes included, behind the archive.
func (u *unpacking) expand(r io.Reader) (int64, error) {
	at := u.end
	n, err := io.Copy(io.NewOffsetWriter(u.spool.f, at), r)
	u.end += n
	return at, err
}

var errOutside = errors.New("leads out of the directory it is unpacked into")

// member lands one member: its directory is followed through links inside
// the root, and it replaces what is there, but for a directory on a directory.
func (u *unpacking) member(h *tar.Header, offset int64) error {
	name := path.Clean(h.Name)
	if path.IsAbs(name) {
		name = clean(name)
	}
	if name == ".." || strings.HasPrefix(name, "../") {
		return errOutside
	}
	if strings.HasPrefix(path.Base(name), ".wh.") {
		return errors.New("names beginning with .wh. are reserved for layers")
	}
	if name == "." || name == "" {
		return nil
	}
	dir, err := u.l.mkdirAll(path.Join(u.dst, path.Dir(name)), 0o755, nil)
	if err != nil {
		return err
	}
	e := layer.Entry{
		Name: path.Join(dir, path.Base(name)), Type: h.Typeflag, Mode: h.Mode & 0o7777,
		UID: h.Uid, GID: h.Gid, ModTime: h.ModTime, Linkname: h.Linkname,
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

// oldReg is the type of regular files in archives older than USTAR.
const oldReg = 0

func (u *unpacking) land(e layer.Entry, size int64) error {
	switch e.Type {
	case typeDir:
		return u.replace(&landed{entry: e})
	case typeReg, oldReg, tar.TypeGNUSparse, tar.TypeCont:
		e.Type, e.Size = typeReg, size
		return u.replace(&landed{entry: e, from: u.spool, at: e.Name})
	case typeSymlink:
		target := path.Join(path.Dir(e.Name), e.Linkname)
		if !path.IsAbs(e.Linkname) && u.dst != "" && target != u.dst && !strings.HasPrefix(target, u.dst+"/") {
			return errOutside
		}
		return u.replace(&landed{entry: e})
	case typeLink:
		return u.hardLink(e)
	case typeChar, typeBlock, typeFifo:
		return u.replace(&landed{entry: e})
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fmt.Errorf("unknown type of member %q", e.Type)
}

// hardLink makes the member and its target, both by name in this archive, one file.
func (u *unpacking) hardLink(e layer.Entry) error {
	dir, err := u.l.resolve(path.Join(u.dst, path.Dir(clean(e.Linkname))))
	if err != nil {
		return err
	}
	target := path.Join(dir, path.Base(e.Linkname))
	first, ok := u.l.added[target]
	if !ok || first.entry.Type == typeDir {
		return fmt.Errorf("link to %s, which the archive does not have before it", e.Linkname)
	}
	if first.link == "" {
		first.link = "archive:" + target
	}
	same := *first
	same.entry.Name = e.Name
	return u.replace(&same)
}

// replace lands f in place of whatever is there.
func (u *unpacking) replace(f *landed) error {
	name := f.entry.Name
	if have, ok := u.l.added[name]; ok && have.entry.Type == typeDir && f.entry.Type != typeDir {
		for p := range u.l.added {
			if strings.HasPrefix(p, name+"/") {
				delete(u.l.added, p)
			}
		}
	}
	u.l.added[name] = f
	return nil
}
