package image

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// BlobWriter writes one new blob. It is used by one goroutine, and ends with
// Commit or Abort, without which it leaks a file and a goroutine.
type BlobWriter struct {
	store     *Store
	file      *os.File
	algorithm digest.Algorithm
	hash      hash.Hash
	size      int64
	buf       []byte // not yet in the file
	err       error
	aside     *aside // where it goes in place of the store

	// A second goroutine hashes blocks that are in the file. It is started
	// with the second block.
	work, free chan []byte
	hashed     chan struct{}

	// A third one has the kernel begin to write the file to the disk, so that there is
	// little left to do for Sync. It is started by a blob that is large.
	written chan int64 // how far the file goes
	ordered chan struct{}
	due     int64 // how large the file is when it is next told
}

// writebackStep is how much of a blob the kernel is asked to write at a time.
const writebackStep = 16 << 20

// Create starts a new blob in ingest/.
func (s *Store) Create() (*BlobWriter, error) { return s.createWith(digest.SHA256) }

func (s *Store) createWith(a digest.Algorithm) (*BlobWriter, error) {
	if !a.Available() {
		return nil, fmt.Errorf("create blob: digest algorithm %q is not supported", string(a))
	}
	f, err := s.disk.temp(s.path("ingest"))
	if err != nil {
		return nil, s.explain("create blob", err)
	}
	return &BlobWriter{store: s, file: f, algorithm: a, hash: newHash(a)}, nil
}

// Write adds to the blob.
func (w *BlobWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		room, err := w.room()
		if err != nil {
			return total - len(p), err
		}
		n := copy(room, p)
		w.buf = w.buf[:len(w.buf)+n]
		p = p[n:]
	}
	return total, nil
}

// ReadFrom adds all of r to the blob.
func (w *BlobWriter) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	for {
		room, err := w.room()
		if err != nil {
			return total, err
		}
		n, err := r.Read(room)
		w.buf = w.buf[:len(w.buf)+n]
		total += int64(n)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// room is where the next bytes go; never empty.
func (w *BlobWriter) room() ([]byte, error) {
	if w.err != nil {
		return nil, w.err
	}
	if w.buf == nil {
		w.buf = make([]byte, 0, readSize)
	}
	if len(w.buf) == cap(w.buf) {
		if err := w.flush(); err != nil {
			return nil, err
		}
	}
	return w.buf[len(w.buf):cap(w.buf)], nil
}

// flush writes a full buffer and hands it to the hashing goroutine.
func (w *BlobWriter) flush() error {
	if err := w.writeOut(); err != nil {
		return err
	}
	if w.work == nil {
		w.startHashing()
	}
	w.work <- w.buf
	w.buf = (<-w.free)[:0]
	return nil
}

func (w *BlobWriter) writeOut() error {
	if err := w.store.disk.write(w.file, w.buf); err != nil {
		if w.aside != nil {
			w.err = w.store.asideError(err)
			return w.err
		}
		w.err = w.store.explain("write blob", err)
		return w.err
	}
	w.size += int64(len(w.buf))
	if w.size >= w.due+writebackStep && w.aside == nil && !w.store.detours.SyncOnly {
		w.due = w.size
		w.writeBack()
	}
	return nil
}

// writeBack lets the kernel begin to write what the file has got by now, unless it is still being
// asked to write what came before.
func (w *BlobWriter) writeBack() {
	if w.written == nil {
		w.written, w.ordered = make(chan int64, 1), make(chan struct{})
		go func() {
			defer close(w.ordered)
			var from int64
			for to := range w.written {
				w.store.disk.writeBack(w.file, from, to)
				from = to
			}
		}()
	}
	select {
	case w.written <- w.size:
	default:
	}
}

func (w *BlobWriter) stopWriteBack() {
	if w.written != nil {
		close(w.written)
		<-w.ordered
		w.written = nil
	}
}

func (w *BlobWriter) startHashing() {
	const spare = 3
	w.work = make(chan []byte, spare)
	w.free = make(chan []byte, spare+1)
	w.hashed = make(chan struct{})
	for range spare {
		w.free <- make([]byte, readSize)
	}
	go func() {
		defer close(w.hashed)
		for block := range w.work {
			w.hash.Write(block)
			w.free <- block[:cap(block)]
		}
	}()
}

func (w *BlobWriter) stopHashing() {
	if w.work != nil {
		close(w.work)
		<-w.hashed
		w.work = nil
	}
}

// Commit makes the content a blob of the store if it is what want says; a
// digest or size that want leaves empty is not checked. When it returns the
// blob is there, though perhaps from an earlier time. It is not durable
// before Sync. The descriptor is want with digest and size filled in.
func (w *BlobWriter) Commit(want ocispec.Descriptor) (ocispec.Descriptor, error) {
	defer w.Abort()
	desc, err := w.finish(want)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if w.aside != nil {
		w.aside.keep(desc.Digest, w.file)
		return desc, nil
	}
	if err := w.store.publish(w.file.Name(), desc); err != nil {
		return ocispec.Descriptor{}, w.store.explain("commit blob", err)
	}
	return desc, nil
}

// seal ends the blob as Commit does but leaves it in ingest/, under the name
// it gives. Only a lease keeps it from then on.
func (w *BlobWriter) seal(want ocispec.Descriptor) (ocispec.Descriptor, string, error) {
	desc, err := w.finish(want)
	if err != nil {
		return ocispec.Descriptor{}, "", err
	}
	name := w.file.Name()
	err = w.file.Close()
	w.file = nil
	return desc, name, err
}

// finish writes what is left and checks the whole against want.
func (w *BlobWriter) finish(want ocispec.Descriptor) (ocispec.Descriptor, error) {
	if w.err != nil {
		return want, w.err
	}
	if len(w.buf) > 0 {
		if err := w.writeOut(); err != nil {
			return want, err
		}
	}
	w.stopHashing()
	w.stopWriteBack()
	w.hash.Write(w.buf)
	w.buf = nil
	w.err = fs.ErrClosed
	got := digest.NewDigest(w.algorithm, w.hash)
	if want.Digest != "" && want.Digest != got || want.Size > 0 && want.Size != w.size {
		return want, &VerifyError{Want: want.Digest, Got: got, WantSize: want.Size, GotSize: w.size}
	}
	want.Digest, want.Size = got, w.size
	return want, w.store.explain("commit blob", w.store.disk.touch(w.file.Name(), w.store.now()))
}

// Abort drops the content. After Commit, or a second time, it does nothing.
func (w *BlobWriter) Abort() {
	if w.file == nil {
		return
	}
	w.stopHashing()
	w.stopWriteBack()
	w.err = fs.ErrClosed
	if w.aside != nil {
		w.file = nil // it stays open, for whoever reads it by its descriptor
		return
	}
	if stillNamed(w.file, w.file.Name()) {
		_ = w.store.disk.remove(w.file.Name())
	}
	w.file.Close()
	w.file = nil
}

// publish gives a finished file its name among the blobs. An intact blob of
// that name stays: others may count on it being durable.
func (s *Store) publish(temp string, desc ocispec.Descriptor) error {
	path := s.blobPath(desc.Digest)
	for {
		err := s.disk.renameNew(temp, path)
		if errors.Is(err, fs.ErrNotExist) && desc.Digest.Algorithm() != digest.SHA256 {
			if mkdirErr := s.disk.mkdir(s.path("blobs", desc.Digest.Algorithm().String()), 0o755); mkdirErr != nil {
				return mkdirErr
			}
			err = s.disk.renameNew(temp, path)
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		info, err := os.Stat(path)
		if err == nil && info.Size() != desc.Size {
			return s.disk.rename(temp, path) // damaged: mend it
		}
		if s.Use(desc.Digest) {
			return nil
		}
	}
}

// Put stores what r gives, and reads nothing when the wanted blob is there.
// Content that is not what want says is refused with a *VerifyError and
// leaves nothing behind.
func (s *Store) Put(ctx context.Context, want ocispec.Descriptor, r io.Reader) (ocispec.Descriptor, error) {
	algorithm := digest.SHA256
	if want.Digest != "" {
		if err := want.Digest.Validate(); err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("put blob %q: %w", string(want.Digest), err)
		}
		if desc, ok := s.have(want); ok {
			return desc, nil
		}
		algorithm = want.Digest.Algorithm()
	}
	w, err := s.createWith(algorithm)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer w.Abort()
	if err := w.fill(ctx, want, r); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("put blob: %w", err)
	}
	return w.Commit(want)
}

// fill reads no more than one byte past the wanted size.
func (w *BlobWriter) fill(ctx context.Context, want ocispec.Descriptor, r io.Reader) error {
	r = &contextReader{ctx, r}
	if want.Size > 0 {
		r = io.LimitReader(r, want.Size+1)
	}
	if want.Size > 0 && want.Size < readSize && w.buf == nil {
		w.buf = make([]byte, 0, want.Size+1)
	}
	_, err := w.ReadFrom(r)
	return err
}

func (s *Store) have(want ocispec.Descriptor) (ocispec.Descriptor, bool) {
	if !s.Use(want.Digest) {
		return want, false
	}
	info, err := s.statBlob(want.Digest)
	if err != nil || want.Size > 0 && want.Size != info.Size() {
		return want, false
	}
	want.Size = info.Size()
	return want, true
}

func (s *Store) statBlob(d digest.Digest) (fs.FileInfo, error) {
	info, err := os.Stat(s.blobPath(d))
	if f := s.aside.blob(d); err != nil && f != nil {
		return f.Stat()
	}
	return info, err
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read gives the context's error once that has ended.
func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
