package layer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Apply makes every file itself, in the order of the tar, so that it sees what is in
// the way. What follows is the larger part of the work, depends on nothing
// but the open file, and is done for small files by goroutines of their own: hash,
// write, owner, mode, attributes, time, close.

const (
	// fillFiles and fillBytes bound what is handed over at once.
	fillFiles = 16
	fillBytes = 512 << 10
	// fillLargest is the largest file that is handed over.
	fillLargest = 256 << 10
)

// newFile is a file that has been made and is still to be filled.
type newFile struct {
	fd       int
	name     string
	index    int // in the TOC
	uid, gid int
	mode     uint32
	mtime    unix.Timespec
	xattrs   map[string]string
	// bare says that an access list that it has taken over from its directory goes.
	bare bool
	// start and end are where its bytes are in the batch.
	start, end int
}

// fillBatch is some files and their bytes.
type fillBatch struct {
	files []newFile
	bytes []byte
}

// filler hands files to its goroutines.
type filler struct {
	group  errgroup.Group
	todo   chan *fillBatch
	free   chan *fillBatch
	cur    *fillBatch
	failed atomic.Bool
	done   chan []filled
}

// filled is a digest that a goroutine has found.
type filled struct {
	index  int
	digest digest.Digest
}

func newFiller() *filler {
	workers := min(max(runtime.GOMAXPROCS(0), 2), 4)
	f := &filler{
		todo: make(chan *fillBatch, 2*workers),
		free: make(chan *fillBatch, 2*workers),
		done: make(chan []filled, workers),
	}
	for range 2 * workers {
		f.free <- &fillBatch{}
	}
	for range workers {
		f.group.Go(f.work)
	}
	return f
}

// add takes over a file, whose bytes are the next size ones of body. It is closed
// whatever happens.
func (f *filler) add(file newFile, body io.Reader, size int) error {
	if f.cur == nil {
		f.cur = <-f.free
	}
	b := f.cur
	file.start = len(b.bytes)
	file.end = file.start + size
	b.bytes = slices.Grow(b.bytes, size)[:file.end]
	if _, err := io.ReadFull(body, b.bytes[file.start:]); err != nil {
		unix.Close(file.fd)
		return fmt.Errorf("read content: %w", err)
	}
	b.files = append(b.files, file)
	if len(b.files) == fillFiles || len(b.bytes) >= fillBytes {
		f.flush()
	}
	if f.failed.Load() {
		return errFiller
	}
	return nil
}

// errFiller stands for the error that finish returns.
var errFiller = errors.New("a file could not be written")

func (f *filler) flush() {
	if f.cur != nil {
		f.todo <- f.cur
		f.cur = nil
	}
}

// finish waits for all files, and gives the digests to the entries.
func (f *filler) finish(entries []Entry) error {
	f.flush()
	close(f.todo)
	err := f.group.Wait()
	close(f.done)
	for some := range f.done {
		for _, r := range some {
			if err == nil {
				entries[r.index].Digest = r.digest
			}
		}
	}
	return err
}

// work fills files until there are no more. After an error it only closes them.
func (f *filler) work() error {
	var results []filled
	var failure error
	sum := sha256.New()
	for b := range f.todo {
		for i := range b.files {
			file := &b.files[i]
			if failure == nil {
				var d digest.Digest
				if d, failure = file.fill(b.bytes[file.start:file.end], sum); failure != nil {
					failure = fmt.Errorf("entry %q: %w", file.name, failure)
					f.failed.Store(true)
				}
				results = append(results, filled{file.index, d})
			}
			if err := unix.Close(file.fd); err != nil && failure == nil {
				failure = fmt.Errorf("entry %q: close: %w", file.name, err)
				f.failed.Store(true)
			}
		}
		clear(b.files)
		b.files, b.bytes = b.files[:0], b.bytes[:0]
		f.free <- b
	}
	f.done <- results
	return failure
}

// fill writes the file.
func (file *newFile) fill(data []byte, sum hash.Hash) (digest.Digest, error) {
	d := emptyDigest
	if len(data) > 0 {
		sum.Reset()
		sum.Write(data)
		d = sumDigest(sum)
		if _, err := fdWriter(file.fd).Write(data); err != nil {
			return "", err
		}
	}
	return d, file.describe()
}

// describe sets all of a file's metadata once its bytes are there: writing and chown
// take setuid bits and capabilities away.
func (file *newFile) describe() error {
	if file.bare {
		if err := dropXattrs(file.fd, file.xattrs); err != nil {
			return err
		}
	}
	if err := unix.Fchown(file.fd, file.uid, file.gid); err != nil {
		return fmt.Errorf("set owner %d:%d: %w", file.uid, file.gid, err)
	}
	err := setXattrs(file.xattrs, true, func(name, value string) error {
		return unix.Fsetxattr(file.fd, name, []byte(value), 0)
	})
	if err != nil {
		return err
	}
	// Last, because it may take the owner's right to set attributes.
	if err := unix.Fchmod(file.fd, file.mode); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return futimens(file.fd, file.mtime)
}

// futimens sets both times of an open file. utimensat(2) does that when it is given
// no path, which golang.org/x/sys has no function for.
func futimens(fd int, mtime unix.Timespec) error {
	times := [2]unix.Timespec{mtime, mtime}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("set time: %w", errno)
	}
	return nil
}

// fdWriter writes to a file descriptor.
type fdWriter int

// Write writes all of p, over as many calls as that takes.
func (fd fdWriter) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n, err := unix.Write(int(fd), p[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, fmt.Errorf("write content: %w", err)
		}
		done += n
	}
	return len(p), nil
}

// holeWriter writes to a file that is all zeros already, and leaves out the blocks
// that are to be.
type holeWriter struct {
	fd     int
	offset int64
}

// Write leaves out blocks of 4096 bytes that are all zeros.
func (w *holeWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		b := rest[:min(len(rest), 4096)]
		rest = rest[len(b):]
		if !allZero(b) {
			if n, err := unix.Pwrite(w.fd, b, w.offset); err != nil || n < len(b) {
				return 0, fmt.Errorf("write content: %w", errors.Join(err, io.ErrShortWrite))
			}
		}
		w.offset += int64(len(b))
	}
	return len(p), nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
