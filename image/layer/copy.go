package layer

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
)

const (
	// chunkSize is how much of a file is in one buffer.
	chunkSize = 256 << 10
	// inlineHash is the size up to which a second goroutine for the hash does not pay.
	inlineHash = 512 << 10
)

// copier copies file bodies and hashes them on the way. It is for one goroutine.
type copier struct {
	bufs [2][]byte
	sum  hash.Hash
}

func newCopier() *copier { return &copier{sum: sha256.New()} }

func (c *copier) buf(i int) []byte {
	if c.bufs[i] == nil {
		c.bufs[i] = make([]byte, chunkSize)
	}
	return c.bufs[i]
}

// copy moves exactly size bytes from src, which must end there, to dst, and
// returns their digest if hashed is set.
func (c *copier) copy(dst io.Writer, src io.Reader, size int64, hashed bool) (digest.Digest, error) {
	c.sum.Reset()
	if hashed && size > inlineHash {
		if err := c.copyBeside(dst, src, size); err != nil {
			return "", err
		}
		return sumDigest(c.sum), nil
	}
	for left := size; left > 0; {
		b, err := readChunk(src, c.buf(0), left)
		if err != nil {
			return "", err
		}
		if hashed {
			c.sum.Write(b)
		}
		if _, err := dst.Write(b); err != nil {
			return "", err
		}
		left -= int64(len(b))
	}
	if err := expectEnd(src, c.buf(0), size); err != nil {
		return "", err
	}
	if !hashed {
		return "", nil
	}
	return sumDigest(c.sum), nil
}

// copyBeside copies while another goroutine hashes: one buffer is filled and
// written while the other is hashed.
func (c *copier) copyBeside(dst io.Writer, src io.Reader, size int64) error {
	full, free := make(chan []byte, 2), make(chan []byte, 2)
	free <- c.buf(0)
	free <- c.buf(1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := range full {
			c.sum.Write(b)
			free <- b[:cap(b)]
		}
	}()
	err := func() error {
		for left := size; left > 0; {
			b, err := readChunk(src, <-free, left)
			if err != nil {
				return err
			}
			full <- b
			if _, err := dst.Write(b); err != nil {
				return err
			}
			left -= int64(len(b))
		}
		return nil
	}()
	close(full)
	<-done
	if err != nil {
		return err
	}
	return expectEnd(src, c.buf(0), size)
}

// readChunk fills buf, or as much of it as is left of the file.
func readChunk(src io.Reader, buf []byte, left int64) ([]byte, error) {
	b := buf[:min(int64(len(buf)), left)]
	n, err := io.ReadFull(src, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("read content: %d bytes are missing: %w", left-int64(n), io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	return b, nil
}

// expectEnd makes sure that src has ended.
func expectEnd(src io.Reader, buf []byte, size int64) error {
	n, err := io.ReadFull(src, buf[:1])
	if n > 0 {
		return fmt.Errorf("read content: it is longer than %d bytes", size)
	}
	if err != io.EOF {
		return fmt.Errorf("read content: %w", err)
	}
	return nil
}
