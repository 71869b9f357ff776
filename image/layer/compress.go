package layer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"github.com/ulikunitz/xz"
)

// Compression names how a blob is compressed.
type Compression string

// The compressions that are read. Gzip, Zstd and None are written too.
const (
	None  Compression = ""
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
	Bzip2 Compression = "bzip2"
	XZ    Compression = "xz"
)

const (
	// maxWindow bounds the memory that a compressed blob can ask for; it is what the
	// zstd and xz commands go to by default, or further.
	maxWindow = 128 << 20
	// gzipBlock is how much is compressed at once. The bytes that come out depend on it.
	gzipBlock = 1 << 20
)

// detect returns the compression that a blob's first bytes tell.
func detect(head []byte) Compression {
	magics := []struct {
		c     Compression
		magic string
	}{
		{Gzip, "\x1f\x8b\x08"},
		{Zstd, "\x28\xb5\x2f\xfd"},
		{Bzip2, "BZh"},
		{XZ, "\xfd7zXZ\x00"},
	}
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.c
		}
	}
	if len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18" {
		return Zstd // a skippable frame, as zstd:chunked and pzstd begin with
	}
	return None
}

// Decompress tells by the first bytes how r is compressed, and returns what is in
// it. What begins in no known way is returned as it is. Close does not close r.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return nil, None, fmt.Errorf("decompress: %w", err)
	}
	c := detect(head)
	rc, err := decompressor(br, c)
	if err != nil {
		return nil, c, fmt.Errorf("decompress %s: %w", c, err)
	}
	return rc, c, nil
}

func decompressor(br *bufio.Reader, c Compression) (io.ReadCloser, error) {
	switch c {
	case Gzip:
		return gzip.NewReader(br)
	case Zstd:
		d, err := zstd.NewReader(br, zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(br)), nil
	case XZ:
		d, err := xz.NewReader(br)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(d), nil
	}
	return io.NopCloser(br), nil
}

// Compress returns a writer that compresses to w; it must be closed, which leaves w
// open. Level 0 is the compression's default; gzip knows 1 to 9, zstd 1 to 22. The
// bytes depend on nothing but the input and the level.
func Compress(w io.Writer, c Compression, level int) (io.WriteCloser, error) {
	switch c {
	case None:
		return nopWriteCloser{w}, nil
	case Gzip:
		return compressGzip(w, level)
	case Zstd:
		return compressZstd(w, level)
	}
	return nil, fmt.Errorf("compress: cannot write %s; gzip and zstd are possible", c)
}

func compressGzip(w io.Writer, level int) (io.WriteCloser, error) {
	if level < 0 || level > 9 {
		return nil, fmt.Errorf("compress: gzip level %d is not from 1 to 9", level)
	}
	if level == 0 {
		level = gzip.DefaultCompression
	}
	z, err := pgzip.NewWriterLevel(w, level)
	if err != nil {
		return nil, fmt.Errorf("compress gzip: %w", err)
	}
	if err := z.SetConcurrency(gzipBlock, min(max(runtime.GOMAXPROCS(0), 2), 8)); err != nil {
		return nil, fmt.Errorf("compress gzip: %w", err)
	}
	return z, nil
}

func compressZstd(w io.Writer, level int) (io.WriteCloser, error) {
	if level < 0 || level > 22 {
		return nil, fmt.Errorf("compress: zstd level %d is not from 1 to 22", level)
	}
	if level == 0 {
		level = 3
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return nil, fmt.Errorf("compress zstd: %w", err)
	}
	return z, nil
}

type nopWriteCloser struct{ io.Writer }

func (nopWriteCloser) Close() error { return nil }
