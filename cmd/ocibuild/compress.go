package main

import (
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/spf13/pflag"
)

// compressionWords are what layers can be compressed with. BuildKit calls the first uncompressed.
var compressionWords = []string{"none", "gzip", "zstd", "estargz"}

// compressionFlags says in which form layers leave. The names are BuildKit's.
type compressionFlags struct {
	word  string
	level int
	force bool

	// given says that somebody has asked for it.
	given bool
	fs    *pflag.FlagSet
	how   image.Compression
}

func (c *compressionFlags) declare(fs *pflag.FlagSet, word, unchanged string) {
	c.word, c.fs = word, fs
	fs.StringVar(&c.word, "compression", word, "compress layers that are not with `HOW`: none, gzip, zstd or estargz; "+unchanged)
	fs.IntVar(&c.level, "compression-level", 0, "`LEVEL` to compress with: gzip and estargz 1 to 9, zstd 1 to 22 (default: 4 and 3)")
	fs.BoolVar(&c.force, "force-compression", false, "compress layers anew that are compressed in another way")
}

// check reads the values; flag is how they are to be called in an error.
func (c *compressionFlags) check(flag string) error {
	words := map[string]layer.Compression{
		"none": layer.None, "uncompressed": layer.None, "gzip": layer.Gzip, "zstd": layer.Zstd, "estargz": layer.EStargz,
	}
	algorithm, ok := words[c.word]
	if !ok {
		return oneOf(flag, c.word, compressionWords)
	}
	for _, name := range compressionKeys {
		c.given = c.given || c.fs != nil && c.fs.Changed(name)
	}
	c.how = image.Compression{Algorithm: algorithm, Level: c.level, Force: c.force}
	if err := c.how.Check(); err != nil {
		return usagef("%s: %v", flag+"-level", err)
	}
	return nil
}
