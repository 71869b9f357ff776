package layer

import (
	"context"
	"errors"
	"io"
)

var errSkeleton = errors.New("not written yet")

// Writer writes a layer tar.
type Writer struct{ w io.Writer }

func NewWriter(w io.Writer) *Writer                           { return &Writer{w} }
func (w *Writer) Write(e Entry, body io.Reader) error         { return errSkeleton }
func (w *Writer) Whiteout(path string) error                  { return errSkeleton }
func (w *Writer) Opaque(dir string) error                     { return errSkeleton }
func (w *Writer) Close() (Digests, *TOC, error)               { return Digests{}, nil, errSkeleton }
func (t *TOC) Marshal() []byte                                { return nil }
func UnmarshalTOC(data []byte) (*TOC, error)                  { return nil, errSkeleton }
func Diff(ctx context.Context, upper string, w *Writer) error { return errSkeleton }

// Format is how Apply carries out deletions.
type Format int

const (
	// Overlay makes a directory that overlayfs can use as a lower one.
	Overlay Format = iota
	// Merge carries deletions out in the tree that is there.
	Merge
)

// ErrNeedsLower says that a tar cannot be applied on its own.
var ErrNeedsLower = errors.New("layer depends on the layers below it")

// ApplyOptions are the choices of Apply.
type ApplyOptions struct {
	Format      Format
	UserXattr   bool
	SkipDevices bool
	// Owner gives the owner to put on disk for a tar's owner; nil keeps it.
	Owner func(uid, gid int) (int, int)
}

func Apply(ctx context.Context, tar io.Reader, root string, o ApplyOptions) (Digests, *TOC, error) {
	return Digests{}, nil, errSkeleton
}

// Compression names how a blob is compressed.
type Compression string

const (
	None  Compression = ""
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
	Bzip2 Compression = "bzip2"
	XZ    Compression = "xz"
)

func Decompress(r io.Reader) (io.ReadCloser, Compression, error)             { return nil, "", errSkeleton }
func Compress(w io.Writer, c Compression, level int) (io.WriteCloser, error) { return nil, errSkeleton }

// Tree is the merged view of layers. Paths are relative; "" is the root.
type Tree struct{}

// Node is one file of a Tree.
type Node struct {
	// Entry describes the file. For a hard link it is the entry that holds the file.
	Entry Entry
	// Layer and Index say where Entry is: the layer (0 is the bottom; -1 for a
	// directory that no layer mentions) and the place in its TOC. Nodes that are
	// no directories and share both are hard links to one file.
	Layer, Index int
}

func NewTree(tocs ...*TOC) *Tree                                            { return nil }
func (t *Tree) Lookup(path string) (*Node, bool)                            { return nil, false }
func (t *Tree) Resolve(path string) (string, *Node, error)                  { return "", nil, errSkeleton }
func (t *Tree) ResolveParent(path string) (string, *Node, error)            { return "", nil, errSkeleton }
func (t *Tree) File(path string) (layer int, e Entry, ok bool)              { return 0, Entry{}, false }
func (t *Tree) Walk(path string, fn func(path string, n *Node) error) error { return errSkeleton }
func (n *Node) Children() []string                                          { return nil }

// FlattenLayer is one layer to flatten.
type FlattenLayer struct {
	// Tar opens the uncompressed tar.
	Tar func() (io.ReadCloser, error)
	TOC *TOC
}

func Flatten(ctx context.Context, layers []FlattenLayer, w *Writer) error { return errSkeleton }
