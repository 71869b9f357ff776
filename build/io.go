package build

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"sync"
)

// The types of entries, short.
const (
	typeReg     = tar.TypeReg
	typeDir     = tar.TypeDir
	typeSymlink = tar.TypeSymlink
	typeLink    = tar.TypeLink
	typeChar    = tar.TypeChar
	typeBlock   = tar.TypeBlock
	typeFifo    = tar.TypeFifo
)

var (
	errNotDir = errors.New("not a directory")
	errIsDir  = errors.New("is a directory")
)

func errorIs(err, target error) bool { return errors.Is(err, target) }

// buffers are what files are read through.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// copyBuffer copies r to w until the end or until ctx is done.
func copyBuffer(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	var total int64
	for {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		n, err := r.Read(*buf)
		total += int64(n)
		if _, werr := w.Write((*buf)[:n]); werr != nil {
			return total, werr
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
