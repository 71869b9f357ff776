package registry

import (
	"context"
	"io"
	"net/http"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxRanges is how many pieces of one blob move at once.
	maxRanges = 4
	// pieceSize is the size of a piece. So many bytes are held for each piece that moves ahead of its turn.
	pieceSize = 8 << 20
	// minPieces is how many pieces a blob must have to be fetched in pieces.
	minPieces = 4
)

// ranges is a blob that is fetched in pieces, several at once, and read in order. Pieces beside the first one move when fewer blobs do
// than may.
type ranges struct {
	ctx    context.Context
	cancel context.CancelFunc
	j      job
	desc   ocispec.Descriptor
	tag    entity
	resp   *http.Response // of the first piece
	next   int64          // where the next piece begins
	flight []*piece
	free   [][]byte
	wait   sync.WaitGroup
}

// piece is a part of a blob on its way into memory.
type piece struct {
	buf []byte

	mu    sync.Mutex
	more  *sync.Cond
	have  int // bytes of buf that are there
	read  int // bytes that were given on
	err   error
	ended bool
}

// blobBody is a blob that is being downloaded.
type blobBody interface {
	io.ReadCloser
	answer() *http.Response // what it is of, as far as it came in one
}

// openBlob opens the bytes of a blob from an offset on, in pieces where that pays. Nothing of the content is verified.
func (j job) openBlob(ctx context.Context, desc ocispec.Descriptor, offset int64) (blobBody, error) {
	size := j.c.pieceSize
	_, no := j.c.noRanges.Load(j.repo.Host)
	if no || desc.Size-offset < minPieces*size {
		d := j.download(ctx, desc, offset, desc.Size)
		if err := d.open(); err != nil {
			return nil, err
		}
		return d, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	first := j.download(ctx, desc, offset, offset+size)
	if err := first.open(); err != nil {
		cancel()
		return nil, err
	}
	if first.end == desc.Size { // the server gives all of it
		return &closing{first, cancel}, nil
	}
	r := &ranges{ctx: ctx, cancel: cancel, j: j, desc: desc, tag: first.tag, resp: first.resp, next: offset}
	r.start(first, func() {})
	return r, nil
}

// closing ends a context with a reader.
type closing struct {
	*download
	cancel context.CancelFunc
}

// Close closes both.
func (c *closing) Close() error {
	defer c.cancel()
	return c.download.Close()
}

// start lets a piece move.
func (r *ranges) start(d *download, done func()) {
	p := &piece{buf: r.buffer(d.end - d.from)}
	p.more = sync.NewCond(&p.mu)
	r.flight = append(r.flight, p)
	r.next = d.end
	r.wait.Go(func() {
		defer done()
		defer d.Close()
		p.end(p.fill(d))
	})
}

// buffer gives room for a piece, used before if it can be.
func (r *ranges) buffer(size int64) []byte {
	if n := len(r.free); n > 0 {
		buf := r.free[n-1]
		r.free = r.free[:n-1]
		return buf[:size]
	}
	return make([]byte, size, r.j.c.pieceSize)
}

// fill reads a piece; it opens it first if nobody has.
func (p *piece) fill(d *download) error {
	if d.body == nil {
		if err := d.open(); err != nil {
			return err
		}
	}
	for p.have < len(p.buf) {
		n, err := d.Read(p.buf[p.have:])
		p.mu.Lock()
		p.have += n
		p.more.Signal()
		p.mu.Unlock()
		if err != nil && p.have < len(p.buf) {
			return err
		}
	}
	return nil
}

func (p *piece) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.ended = err, true
	p.more.Signal()
}

// give copies what is there and was not given yet; it waits until there is something.
func (p *piece) give(to []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.have == p.read && !p.ended {
		p.more.Wait()
	}
	if p.have == p.read {
		return 0, p.err
	}
	n := copy(to, p.buf[p.read:p.have])
	p.read += n
	return n, nil
}

// Read gives the next bytes.
func (r *ranges) Read(p []byte) (int, error) {
	for {
		r.advance()
		if len(r.flight) == 0 {
			return 0, io.EOF
		}
		head := r.flight[0]
		if n, err := head.give(p); n > 0 || err != nil {
			return n, err
		}
		r.free = append(r.free, head.buf[:0])
		r.flight = r.flight[1:]
	}
}

// advance starts the piece that is read next, and more as long as there are slots for them.
func (r *ranges) advance() {
	for r.next < r.desc.Size && len(r.flight) < maxRanges {
		done := func() {}
		if len(r.flight) > 0 {
			if !r.j.c.slots.TryAcquire(1) {
				return
			}
			done = func() { r.j.c.slots.Release(1) }
		}
		d := r.j.download(r.ctx, r.desc, r.next, min(r.next+r.j.c.pieceSize, r.desc.Size))
		d.only, d.tag = true, r.tag
		r.start(d, done)
	}
}

func (r *ranges) answer() *http.Response { return r.resp }

// Close ends the pieces that are under way.
func (r *ranges) Close() error {
	r.cancel()
	r.wait.Wait()
	return nil
}
