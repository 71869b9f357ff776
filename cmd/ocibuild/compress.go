package main

import (
	"io"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
)

// gzipLevel is the level that every registry client of note uses: a good size
// for the time it takes.
const gzipLevel = 6

// gzipCompression is how layers are compressed when an image leaves.
func gzipCompression() image.Compression {
	return image.Compression{
		Algorithm: string(layer.Gzip), Level: gzipLevel,
		New: func(w io.Writer) (io.WriteCloser, error) { return layer.Compress(w, layer.Gzip, gzipLevel) },
	}
}
