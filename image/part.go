package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// partPrefix begins the names in ingest/ of blobs of which a part is here:
	// part-<algorithm>-<hex>. Whoever has the file locked is fetching the rest.
	partPrefix = "part-"
	// minPart is the size below which a part is not worth keeping.
	minPart = 64 << 10
)

func (s *Store) partPath(d digest.Digest) string {
	return s.path("ingest", partPrefix+d.Algorithm().String()+"-"+d.Encoded())
}

// Fetch stores a blob that comes from elsewhere unless it is here. open gives
// its bytes from an offset on. What an earlier call left when its bytes broke
// off, in this process or one that has died, is continued; what is fetched is
// verified as a whole, and a part that turns out to be wrong is fetched anew.
// Several that want the same blob, in any process, fetch it once. Errors of open
// and of its readers are given back as they are.
func (s *Store) Fetch(ctx context.Context, want ocispec.Descriptor, open func(ctx context.Context, offset int64) (io.ReadCloser, error)) error {
	return s.fetch(ctx, want, open, nil)
}

// fetch is Fetch that gives what it stores to also, in order, if it begins at
// the start; after an error also may have had a part, or wrong bytes.
func (s *Store) fetch(ctx context.Context, want ocispec.Descriptor, open func(context.Context, int64) (io.ReadCloser, error), also io.Writer) error {
	if err := checkDescriptor(want); err != nil {
		return fmt.Errorf("fetch blob: %w", err)
	}
	if _, ok := s.have(want); ok {
		return nil
	}
	p, unlock, err := s.openPart(ctx, want)
	if p == nil {
		return err
	}
	defer unlock()
	defer p.suspend()
	for {
		resumed := p.size > 0
		err := p.run(ctx, open, also)
		if err == nil {
			return s.explain("store blob", s.publish(p.file.Name(), want))
		}
		var bad *VerifyError
		if !resumed || !errors.As(err, &bad) {
			return err
		}
		if err := p.rewind(); err != nil {
			return s.explain("fetch blob", err)
		}
	}
}

// part is a blob on its way: the writer of its file in ingest/, which outlives
// a failure.
type part struct {
	*BlobWriter
	want ocispec.Descriptor
}

// openPart takes the part of a blob, which may be empty, once nobody else has
// it. It is nil without an error when the blob is here by then.
func (s *Store) openPart(ctx context.Context, want ocispec.Descriptor) (*part, func(), error) {
	path := s.partPath(want.Digest)
	leave, err := s.queue.enter(ctx, path)
	if err != nil {
		return nil, nil, fmt.Errorf("wait for blob %s: %w", want.Digest, err)
	}
	if err = s.disk.ask(opCreate, path); err != nil {
		leave()
		return nil, nil, s.explain("fetch blob", err)
	}
	f, err := waitFlock(ctx, path)
	if err != nil {
		leave()
		return nil, nil, s.explain("fetch blob", err)
	}
	if _, ok := s.have(want); ok {
		_ = s.disk.remove(path)
		f.Close()
		leave()
		return nil, nil, nil
	}
	p := &part{&BlobWriter{store: s, file: f, algorithm: want.Digest.Algorithm(), hash: newHash(want.Digest.Algorithm())}, want}
	if err := p.read(ctx); err != nil {
		p.suspend()
		leave()
		return nil, nil, s.explain("continue blob", err)
	}
	return p, leave, nil
}

// read hashes what is there already.
func (p *part) read(ctx context.Context) error {
	info, err := p.file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	if info.Size() > p.want.Size {
		return p.rewind()
	}
	p.size, err = io.CopyBuffer(struct{ io.Writer }{p.hash}, &contextReader{ctx, p.file}, make([]byte, readSize))
	return err
}

// rewind lets the part begin anew.
func (p *part) rewind() error {
	p.stopHashing()
	p.stopWriteBack()
	p.hash, p.size, p.due, p.buf, p.err = newHash(p.algorithm), 0, 0, nil, nil
	if err := p.store.disk.ask(opWrite, p.file.Name()); err != nil {
		return err
	}
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	_, err := p.file.Seek(0, io.SeekStart)
	return err
}

// run fetches what is missing and verifies the whole.
func (p *part) run(ctx context.Context, open func(context.Context, int64) (io.ReadCloser, error), also io.Writer) error {
	if p.size < p.want.Size || p.want.Size == 0 {
		if err := p.take(ctx, open, also); err != nil {
			return err
		}
	}
	_, err := p.finish(p.want)
	return err
}

func (p *part) take(ctx context.Context, open func(context.Context, int64) (io.ReadCloser, error), also io.Writer) error {
	body, err := open(ctx, p.size)
	if err != nil {
		return err
	}
	defer body.Close()
	var r io.Reader = body
	if also != nil && p.size == 0 {
		r = io.TeeReader(body, also)
	}
	rest := p.want
	rest.Size -= p.size
	return p.fill(ctx, rest, r)
}

// suspend lets go of the part. What can be continued stays. What is complete
// and was not published is wrong, and after an error of the disk the room is
// given back.
func (p *part) suspend() {
	if p.err == nil && len(p.buf) > 0 {
		_ = p.writeOut()
	}
	p.stopHashing()
	p.stopWriteBack()
	if p.err != nil || p.size < minPart || p.size >= p.want.Size {
		p.Abort()
		return
	}
	p.err = fs.ErrClosed
	p.file.Close()
	p.file = nil
}
