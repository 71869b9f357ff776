package layer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Compression names how a blob is compressed.
type Compression string

// The compressions that are read. Gzip, Zstd and None are written too, and EStargz, which is read as Gzip.
const (
	None    Compression = ""
	Gzip    Compression = "gzip"
	Zstd    Compression = "zstd"
	EStargz Compression = "estargz"
	Bzip2   Compression = "bzip2"
	XZ      Compression = "xz"
)

// maxWindow bounds the memory that a compressed blob can ask for; it is what the
// zstd and xz commands go to by default, or further.
const maxWindow = 128 << 20

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
