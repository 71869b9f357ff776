package layer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/ocibuild/ocibuild/image/rootfs"
)

// Diff is a pipeline. One goroutine scans the tree and puts items, in tar order, in
// batches; workers open, stat, read and hash the files of a batch; one goroutine
// takes the batches in order and writes the tar. There is a fixed number of
// batches, which bounds memory and open files.

const (
	// batchItems is how many items a batch holds.
	batchItems = 16
	// smallFile is the size up to which workers always read a file.
	smallFile = 32 << 10
	// mediumFile is the size up to which they do while the batch holds less than this.
	mediumFile = 256 << 10
)

// diffDir is an open directory, closed when nothing refers to it any more.
type diffDir struct {
	fd    int
	refs  atomic.Int32
	below below
	links string // its linksNote
}

func newDiffDir(fd int) *diffDir {
	d := &diffDir{fd: fd}
	d.refs.Store(1)
	return d
}

func (d *diffDir) release() {
	if d.refs.Add(-1) == 0 {
		unix.Close(d.fd)
	}
}

// item is one file on its way from the scanner to the tar.
type item struct {
	dir        *diffDir
	name, path string
	err        error
	// kind is the DT_ constant. Directories are described by the scanner, the rest by
	// the workers.
	kind   uint8
	st     unix.Stat_t
	opaque bool
	// unchanged says that the file is what it is below.
	unchanged bool
	// linked says that the file below has other names.
	linked bool
	// hidden says that a directory above is opaque.
	hidden bool
	link   string
	links  string // of a directory, its linksNote
	xattrs map[string]string
	// large says that the file is left to the writer; otherwise its bytes are
	// batch.buf[start:end] with this digest.
	large      bool
	start, end int
	digest     digest.Digest
}

// batch is a run of items. ready receives when its worker is done with it.
type batch struct {
	items []item
	buf   []byte
	ready chan struct{}
}

// reset drops the batch's items and what they hold on to.
func (b *batch) reset() {
	for i := range b.items {
		b.items[i].dir.release()
	}
	clear(b.items)
	b.items, b.buf = b.items[:0], b.buf[:0]
}

// pipeline carries batches. No send on a channel blocks, because each can take all
// batches that there are.
type pipeline struct {
	free, todo, queue chan *batch
}

func newPipeline(batches int) *pipeline {
	p := &pipeline{
		free:  make(chan *batch, batches),
		todo:  make(chan *batch, batches),
		queue: make(chan *batch, batches),
	}
	for range batches {
		p.free <- &batch{items: make([]item, 0, batchItems), ready: make(chan struct{}, 1)}
	}
	return p
}

// close says that no more batches come.
func (p *pipeline) close() {
	close(p.todo)
	close(p.queue)
}

// work fills batches until there are no more.
func (p *pipeline) work(ctx context.Context) error {
	sum := sha256.New()
	for b := range p.todo {
		if ctx.Err() == nil {
			for i := range b.items {
				it := &b.items[i]
				if it.err = it.fill(b, sum); it.err == nil {
					it.unchanged, it.err = it.dir.below.holds(it, b.buf[it.start:it.end])
				}
			}
		}
		b.ready <- struct{}{}
	}
	return ctx.Err()
}

// consume hands every item to fn, in order.
func (p *pipeline) consume(ctx context.Context, fn func(*batch, *item) error) error {
	for b := range p.queue {
		<-b.ready
		err := ctx.Err()
		for i := range b.items {
			if err == nil {
				err = fn(b, &b.items[i])
			}
		}
		b.reset()
		if err != nil {
			return err
		}
		p.free <- b
	}
	return ctx.Err()
}

// drain releases what is left after a failure, when all goroutines have ended.
func (p *pipeline) drain() {
	for b := range p.queue {
		b.reset()
	}
}

// scanner walks the tree.
type scanner struct {
	ctx context.Context
	p   *pipeline
	cur *batch
}

// add appends an item to the current batch.
func (s *scanner) add(it item) error {
	if s.cur == nil {
		select {
		case s.cur = <-s.p.free:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
	it.dir.refs.Add(1)
	s.cur.items = append(s.cur.items, it)
	if len(s.cur.items) == cap(s.cur.items) {
		return s.flush()
	}
	return nil
}

// flush sends the current batch on its way.
func (s *scanner) flush() error {
	if s.cur != nil {
		s.p.todo <- s.cur
		s.p.queue <- s.cur
		s.cur = nil
	}
	return s.ctx.Err()
}

// discard drops the current batch after a failure.
func (s *scanner) discard() {
	if s.cur != nil {
		s.cur.reset()
	}
}

// dir scans the directory d, which it releases. path is its path, "" for the root;
// hidden says that it or a directory above is opaque.
func (s *scanner) dir(d *diffDir, path string, hidden bool) error {
	defer d.release()
	entries, err := rootfs.List(d.fd)
	if err != nil {
		return fmt.Errorf("read directory %s: %w", path, err)
	}
	for _, e := range entries {
		it := item{dir: d, name: e.Name, path: joinName(path, e.Name), kind: e.Type, hidden: hidden}
		if it.kind == unix.DT_UNKNOWN {
			if err := unix.Fstatat(d.fd, e.Name, &it.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return fmt.Errorf("stat %s: %w", it.path, err)
			}
			it.kind = uint8(it.st.Mode & unix.S_IFMT >> 12)
		}
		if it.kind != unix.DT_DIR {
			if err := s.add(it); err != nil {
				return err
			}
			continue
		}
		if err := s.subdir(it); err != nil {
			return err
		}
	}
	return nil
}

// subdir adds a directory and what is in it.
func (s *scanner) subdir(it item) error {
	fd, err := unix.Openat(it.dir.fd, it.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", it.path, err)
	}
	d := newDiffDir(fd)
	if err = unix.Fstat(fd, &it.st); err == nil {
		err = it.attributes(fdXattrs(fd))
	}
	d.links = it.links
	if err == nil {
		d.below, err = it.dir.below.of(&it)
	}
	if err == nil {
		err = s.add(it)
	}
	if err != nil {
		d.release()
		return fmt.Errorf("%s: %w", it.path, err)
	}
	return s.dir(d, it.path, it.hidden || it.opaque)
}

// attributes reads the attributes that belong in the image, and overlayfs' notes.
func (it *item) attributes(src xattrSource) error {
	names, err := src.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := it.note(src, name); err != nil {
			return err
		}
		note, ok := strings.CutPrefix(name, trustedOverlay)
		if !ok {
			note, ok = strings.CutPrefix(name, userOverlay)
		}
		if !ok {
			continue
		}
		switch note {
		case "opaque":
			value, err := src.value(name)
			if err != nil {
				return err
			}
			it.opaque = value == "y"
		case "redirect":
			return errors.New("the overlay was mounted with redirect_dir=on")
		case "metacopy":
			return errors.New("the overlay was mounted with metacopy=on")
		}
	}
	it.xattrs, err = keepNamed(src, names)
	return err
}

// note takes what an attribute says that a file is in the image.
func (it *item) note(src xattrSource, name string) error {
	if name != ownerNote && name != deviceNote && name != linksNote {
		return nil
	}
	value, err := src.value(name)
	switch {
	case err != nil:
		return err
	case name == ownerNote:
		noteOwner(&it.st, value)
	case name == linksNote:
		it.links = value
	case it.kind == unix.DT_REG:
		noteDevice(&it.st, value)
	}
	return nil
}

// fill describes what is no directory, and reads small files. Only regular files
// are opened: opening a device may do something.
func (it *item) fill(b *batch, sum hash.Hash) error {
	if it.kind == unix.DT_DIR {
		return nil
	}
	if it.kind != unix.DT_REG {
		return it.special()
	}
	fd, err := openRegular(it.dir.fd, it.name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &it.st); err != nil {
		return err
	}
	if it.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errChanged
	}
	if err := it.attributes(fdXattrs(fd)); err != nil {
		return err
	}
	if it.st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil // a note says that it is a device
	}
	size := it.st.Size
	if size > mediumFile || (size > smallFile && len(b.buf) > mediumFile) {
		it.large = true
		return nil
	}
	it.start = len(b.buf)
	if b.buf, err = readSmall(b.buf, fd, int(size)); err != nil {
		return err
	}
	it.end = len(b.buf)
	sum.Reset()
	sum.Write(b.buf[it.start:it.end])
	it.digest = sumDigest(sum)
	return nil
}

var errChanged = errors.New("the file changed while it was read")

// readSmall appends the bytes of a file, which must be size many, to buf.
func readSmall(buf []byte, fd, size int) ([]byte, error) {
	start := len(buf)
	buf = slices.Grow(buf, size+1)
	// One byte more is asked for, so that a short read is the end of the file.
	into := buf[start : start+size+1]
	for got := 0; ; {
		n, err := unix.Read(fd, into[got:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return buf, err
		}
		got += n
		switch {
		case got == size:
			return buf[:start+size], nil
		case n == 0 || got > size:
			return buf, errChanged
		}
	}
}

// special describes what is neither a directory nor a regular file.
func (it *item) special() error {
	if err := unix.Fstatat(it.dir.fd, it.name, &it.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch it.st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
		return errChanged
	case unix.S_IFLNK:
		noteOwner(&it.st, it.dir.links)
		var err error
		it.link, err = rootfs.ReadlinkAt(it.dir.fd, it.name)
		return err
	case unix.S_IFSOCK:
		return nil
	}
	if isWhiteout(&it.st) {
		return nil
	}
	return it.attributes(pathXattrs(it.dir.fd, it.name))
}
