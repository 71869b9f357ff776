package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// errStalled ends an attempt whose bytes nobody takes.
var errStalled = fmt.Errorf("the registry takes no bytes: %w", io.ErrUnexpectedEOF)

// body opens the source for one attempt.
func (u *upload) body(ctx context.Context, cancel context.CancelCauseFunc, offset, n int64) (io.ReadCloser, error) {
	rc, err := u.src.Open(ctx, offset)
	if err != nil {
		return nil, u.fail(err)
	}
	b := &uploadBody{u: u, rc: rc, left: n, last: u.desc.Digest != "" && offset+n == u.desc.Size, stall: u.j.c.retry.stall}
	b.meter = u.j.meterFrom(rc, u.display(), NotePushing, offset)
	b.dog = time.AfterFunc(b.stall, func() { cancel(errStalled) })
	return b, nil
}

// uploadBody is the body of one attempt: a part of the source, or all of it.
type uploadBody struct {
	u      *upload
	rc     io.Closer
	meter  *meter
	left   int64
	last   bool // the source ends with it, and is then verified
	stall  time.Duration
	dog    *time.Timer // ends the attempt when nobody reads for long
	closed atomic.Bool // HTTP/2 closes a body that it no longer wants while it reads it
}

// Read reads on; a failure of the source ends the whole upload. What comes after the last byte is asked for too, so that a source that
// verifies itself has its say.
func (b *uploadBody) Read(p []byte) (int, error) {
	b.dog.Reset(b.stall)
	n, err := b.read(p)
	if err != nil {
		b.dog.Stop()
	}
	if err != nil && !errors.Is(err, io.EOF) && !b.closed.Load() {
		err = b.u.fail(fmt.Errorf("read blob %s: %w", b.u.display().Digest, err))
	}
	return n, err
}

func (b *uploadBody) read(p []byte) (int, error) {
	if b.left == 0 && !b.last {
		return 0, io.EOF
	}
	room := b.left
	if b.last {
		room++
	}
	n, err := b.meter.Read(p[:min(int64(len(p)), room)])
	b.left -= int64(n)
	switch {
	case b.left < 0:
		return n - 1, errors.New("it has more bytes than it should")
	case err == io.EOF && b.left > 0:
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// Close closes the source.
func (b *uploadBody) Close() error {
	b.closed.Store(true)
	b.dog.Stop()
	return b.rc.Close()
}
