package registry

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Growing is a blob to upload, which may still be in the making. Its methods may be called by several at once.
type Growing interface {
	// Available waits until there are n bytes, or all of them, and tells how many there are and whether these are all.
	Available(ctx context.Context, n int64) (have int64, all bool, err error)
	// Open gives the bytes from an offset on, as far as there are any now. The caller closes it.
	Open(ctx context.Context, offset int64) (io.ReadCloser, error)
	// Descriptor waits until all bytes are there and describes them.
	Descriptor(ctx context.Context) (ocispec.Descriptor, error)
}

// storedBlob is a source that is there already.
type storedBlob struct {
	desc ocispec.Descriptor
	open func(context.Context) (io.ReadCloser, error)

	mu     sync.Mutex
	parked *storedReader // where the last chunk ended
}

// storedIn is a blob of a store.
func storedIn(from Source, desc ocispec.Descriptor) *storedBlob {
	return &storedBlob{desc: desc, open: func(ctx context.Context) (io.ReadCloser, error) {
		rc, err := from.Blob(ctx, desc)
		if err != nil {
			return nil, fmt.Errorf("read blob %s: %w", desc.Digest, err)
		}
		return rc, nil
	}}
}

// Available says that all of it is there, at once.
func (s *storedBlob) Available(context.Context, int64) (int64, bool, error) {
	return s.desc.Size, true, nil
}

// Descriptor is known from the start.
func (s *storedBlob) Descriptor(context.Context) (ocispec.Descriptor, error) { return s.desc, nil }

// Open goes on where the last reader has ended if it can, else reads over what is before the offset, and so verifies that too.
func (s *storedBlob) Open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	s.mu.Lock()
	r := s.parked
	s.parked = nil
	s.mu.Unlock()
	if r != nil && r.offset == offset {
		return r, nil
	}
	if r != nil {
		r.rc.Close()
	}
	rc, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, rc, offset); err != nil {
		rc.Close()
		return nil, err
	}
	return &storedReader{s: s, rc: rc, offset: offset}, nil
}

// close ends the use of the source.
func (s *storedBlob) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parked != nil {
		s.parked.rc.Close()
		s.parked = nil
	}
}

// storedReader is a reader that is parked when it is closed before its end.
type storedReader struct {
	s      *storedBlob
	rc     io.ReadCloser
	offset int64
	ended  bool
}

// Read reads on.
func (r *storedReader) Read(p []byte) (int, error) {
	n, err := r.rc.Read(p)
	r.offset += int64(n)
	r.ended = r.ended || err != nil
	return n, err
}

// Close parks the reader.
func (r *storedReader) Close() error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if r.ended || r.s.parked != nil {
		return r.rc.Close()
	}
	r.s.parked = r
	return nil
}

// Memory is what uploads know from earlier ones, in this process or another. image.Store has it.
type Memory interface {
	// Seen remembers that a repository has a blob, and SeenAt tells when that was found last.
	Seen(desc ocispec.Descriptor, host, repository string) error
	SeenAt(d digest.Digest, host, repository string) time.Time
	// Places yields the repositories that were found to have a blob, as host and name.
	Places(d digest.Digest) iter.Seq2[string, string]
	// Lost forgets that a repository has a blob.
	Lost(d digest.Digest, host, repository string) error
	// Note gives what PutNote has kept under a name; nil drops it.
	Note(name string) []byte
	PutNote(name string, text []byte) error
	// TryLock takes a lock that all processes share, or gives nil if another has it.
	TryLock(name string, shared bool) (unlock func(), err error)
}

// trusted is how long a repository that was found to have a blob is believed to have it still. A registry that has lost it says so when
// it gets the manifest, and then it is sent.
const trusted = 24 * time.Hour
