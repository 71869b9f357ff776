package main

import (
	"io"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
)

// gzipLevel is the level that every registry client of note uses: a good size
// for the time it takes.
const gzipLevel = 6

// zstdLevel is what zstd does by itself.
const zstdLevel = 3

// gzipCompression is how layers are compressed when an image leaves.
func gzipCompression() image.Compression { return layerCompression(string(layer.Gzip)) }

// layerCompression is gzip or zstd.
func layerCompression(algorithm string) image.Compression {
	level := gzipLevel
	if algorithm == string(layer.Zstd) {
		level = zstdLevel
	}
	return image.Compression{
		Algorithm: algorithm, Level: level,
		New: func(w io.Writer) (io.WriteCloser, error) {
			return layer.Compress(w, layer.Compression(algorithm), level)
		},
	}
}
