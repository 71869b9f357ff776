package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// The attributes that overlayfs keeps its notes in, for the kernel's own mounts and
// for those of a user namespace.
const (
	trustedOverlay = "trusted.overlay."
	userOverlay    = "user.overlay."
)

// Diff writes what the overlayfs upper directory changed: its files, a whiteout for
// every character device 0:0, an opaque marker for every opaque directory. The
// root directory itself is not written, and sockets are skipped. Files are in
// sorted order, each directory before what is in it. Nothing may change upper
// meanwhile. An upper directory that was written with redirect_dir or metacopy
// is refused, because it does not hold all of what it changed.
func Diff(ctx context.Context, upper string, w *Writer) error {
	return DiffOver(ctx, upper, nil, w)
}

// DiffOver is Diff for an upper directory that lay on others, the top one first:
// files that have been copied up from them and are what they were are left out.
func DiffOver(ctx context.Context, upper string, lower []string, w *Writer) error {
	fd, err := unix.Open(upper, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: upper, Err: err}
	}
	root := newDiffDir(fd)
	root.below = lower
	if root.links, err = pathAttribute(upper, linksNote); err != nil {
		root.release()
		return fmt.Errorf("%s: %w", upper, err)
	}
	workers := min(max(runtime.GOMAXPROCS(0), 4), 8)
	p := newPipeline(2 * workers)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer p.close()
		s := scanner{ctx: ctx, p: p}
		err := s.dir(root, "", false)
		if err == nil {
			err = s.flush()
		}
		s.discard()
		return err
	})
	for range workers {
		g.Go(func() error { return p.work(ctx) })
	}
	d := differ{w: w, links: make(map[inode]string), names: make(map[inode][]string), isLeft: make(map[inode]bool)}
	g.Go(func() error { return p.consume(ctx, d.item) })
	err = g.Wait()
	p.drain()
	if err != nil {
		return fmt.Errorf("diff %s: %w", upper, err)
	}
	for _, id := range d.left {
		w.left = append(w.left, d.names[id])
	}
	return nil
}

// differ turns items, in order, into tar entries.
type differ struct {
	w     *Writer
	links map[inode]string
	// names are those of each file with several, or that is left out; left are the
	// files that are.
	names  map[inode][]string
	left   []inode
	isLeft map[inode]bool
	body   bytes.Reader
}

// inode identifies a file that may have several names.
type inode struct{ dev, ino uint64 }

// item writes one item.
func (d *differ) item(b *batch, it *item) error {
	if it.err != nil {
		return fmt.Errorf("read %s: %w", it.path, it.err)
	}
	if it.unchanged {
		d.leave(it)
		return nil
	}
	kind := it.st.Mode & unix.S_IFMT
	if isWhiteout(&it.st) && it.hidden {
		return nil // there is nothing that it could hide
	}
	if isWhiteout(&it.st) {
		return d.w.Whiteout(it.path)
	}
	if kind == unix.S_IFSOCK {
		return nil
	}
	if kind != unix.S_IFDIR {
		if marks, err := d.w.Mark(it.path); err != nil || marks {
			return err
		}
	}
	e := it.entry()
	if first := d.firstName(it); first != "" {
		e.Type, e.Linkname = tar.TypeLink, first
		return d.w.Write(e, nil)
	}
	if kind == unix.S_IFREG {
		return d.file(e, b, it)
	}
	if err := d.w.Write(e, nil); err != nil {
		return err
	}
	if it.opaque {
		return d.w.Opaque(it.path)
	}
	return nil
}

// firstName notes a name of a file that may have several, and gives the first one of
// it that is in the layer, if there is one.
func (d *differ) firstName(it *item) string {
	if it.st.Mode&unix.S_IFMT == unix.S_IFDIR || it.st.Nlink <= 1 {
		return ""
	}
	id := inode{it.st.Dev, it.st.Ino}
	d.names[id] = append(d.names[id], it.path)
	first := d.links[id]
	if first == "" {
		d.links[id] = it.path
	}
	return first
}

// leave notes a file that is left out, if it has other names here or below.
func (d *differ) leave(it *item) {
	if it.st.Nlink == 1 && !it.linked {
		return // it is alone here and below
	}
	id := inode{it.st.Dev, it.st.Ino}
	d.names[id] = append(d.names[id], it.path)
	if !d.isLeft[id] {
		d.isLeft[id] = true
		d.left = append(d.left, id)
	}
}

// file writes a regular file, of which the workers have read the small ones.
func (d *differ) file(e Entry, b *batch, it *item) error {
	if !it.large {
		d.body.Reset(b.buf[it.start:it.end])
		e.Digest = it.digest
		return d.w.Write(e, &d.body)
	}
	fd, err := openRegular(it.dir.fd, it.name)
	if err != nil {
		return fmt.Errorf("open %s: %w", it.path, err)
	}
	defer unix.Close(fd)
	return d.w.Write(e, fdReader(fd))
}

// entry returns the tar entry of an item.
func (it *item) entry() Entry {
	e := Entry{
		Name:    it.path,
		Mode:    int64(it.st.Mode & 0o7777),
		UID:     int(it.st.Uid),
		GID:     int(it.st.Gid),
		ModTime: time.Unix(it.st.Mtim.Sec, 0).UTC(),
		Xattrs:  it.xattrs,
	}
	switch it.st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type, e.Size = tar.TypeReg, it.st.Size
	case unix.S_IFDIR:
		e.Type = tar.TypeDir
	case unix.S_IFLNK:
		e.Type, e.Linkname = tar.TypeSymlink, it.link
	case unix.S_IFIFO:
		e.Type = tar.TypeFifo
	case unix.S_IFCHR:
		e.Type = tar.TypeChar
	case unix.S_IFBLK:
		e.Type = tar.TypeBlock
	}
	if e.Type == tar.TypeChar || e.Type == tar.TypeBlock {
		e.Devmajor, e.Devminor = int64(unix.Major(it.st.Rdev)), int64(unix.Minor(it.st.Rdev))
	}
	return e
}

// openRegular opens a file for reading, without an update of its access time
// where that is allowed.
func openRegular(dir int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, name, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		return unix.Openat(dir, name, flags, 0)
	}
	return fd, err
}

// fdReader reads from a file descriptor, without what os.File adds.
type fdReader int

// Read begins again when a signal interrupts it.
func (fd fdReader) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), p)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}
