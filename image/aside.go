package image

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// aside holds blobs outside of the store: what a process makes only to send it,
// where the store has no room. They are files without names, so that nothing is left of
// them when the process ends, however it does.
type aside struct {
	dir  string
	room func(size int64) bool

	mu    sync.Mutex
	files []*os.File // open until the end: their descriptors are their names
	blobs map[digest.Digest]*os.File
}

// SetAside lets compressed layers go to files in a directory outside of the store, for
// this process alone, wherever room says that the store has none for one of at most so
// many bytes. DropAside lets go of them.
func (s *Store) SetAside(dir string, room func(size int64) bool) {
	s.aside = &aside{dir: dir, room: room, blobs: make(map[digest.Digest]*os.File)}
}

// DropAside lets go of what SetAside has let the process keep. Nothing may use that any
// more.
func (s *Store) DropAside() error {
	if s.aside == nil {
		return nil
	}
	var errs []error
	for _, f := range s.aside.files {
		errs = append(errs, f.Close())
	}
	s.aside = nil
	return errors.Join(errs...)
}

// createCompressed starts the compressed form of a layer of that size.
func (s *Store) createCompressed(size int64) (*BlobWriter, error) {
	if s.aside == nil || s.aside.room(size) {
		return s.Create()
	}
	f, err := s.aside.create()
	if err != nil {
		return nil, s.asideError(err)
	}
	return &BlobWriter{store: s, file: f, algorithm: digest.SHA256, hash: newHash(digest.SHA256), aside: s.aside}, nil
}

// asideError says what to do about a directory for temporary files.
func (s *Store) asideError(err error) error {
	return &StoreError{Root: s.root, Op: "make a temporary file", Hint: hintAside, Err: err}
}

// create makes a file that its descriptor alone leads to, by the name that the file has
// here.
func (a *aside) create() (*os.File, error) {
	f, err := os.CreateTemp(a.dir, "ocibuild-")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	own := os.NewFile(uintptr(fd), fmt.Sprintf("/proc/self/fd/%d", fd))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files = append(a.files, own)
	return own, nil
}

// keep makes a finished file the blob of that digest.
func (a *aside) keep(d digest.Digest, f *os.File) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blobs[d] = f
}

// blob gives the file of a blob that is here; nil is none. There need not be an aside.
func (a *aside) blob(d digest.Digest) *os.File {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.blobs[d]
}

// open opens a blob that is here, for a reader of its own.
func (a *aside) open(d digest.Digest) (*os.File, bool) {
	f := a.blob(d)
	if f == nil {
		return nil, false
	}
	own, err := os.Open(f.Name())
	return own, err == nil
}
