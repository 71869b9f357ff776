package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// TOCs remembers the tables of contents of layers by their diff ids. The build
// cache is one.
type TOCs interface {
	GetTOC(diffID digest.Digest) ([]byte, bool)
	PutTOC(diffID digest.Digest, toc []byte) error
}

// LayerTar opens the uncompressed tar of a layer. The blob is verified when it
// is read to its end.
func (s *Store) LayerTar(ctx context.Context, ly Layer) (io.ReadCloser, error) {
	blob, err := s.Blob(ctx, ly.Descriptor)
	if err != nil {
		return nil, err
	}
	r, _, err := layer.Decompress(blob)
	var away *AwayError
	if err != nil {
		blob.Close()
		if errors.As(err, &away) {
			return nil, away
		}
		return nil, fmt.Errorf("decompress layer %s: %w", ly.Descriptor.Digest, err)
	}
	return layerTar{r, blob}, nil
}

// layerTar closes the blob with what decompresses it.
type layerTar struct {
	io.ReadCloser
	blob io.Closer
}

// Close closes both, and gives the errors of both.
func (l layerTar) Close() error { return errors.Join(l.ReadCloser.Close(), l.blob.Close()) }

// LayerTOC gives the table of contents of a layer. That of a layer which nobody
// has looked into comes from reading it once, and is remembered.
func (s *Store) LayerTOC(ctx context.Context, ly Layer, memo TOCs) (*layer.TOC, error) {
	if data, ok := memo.GetTOC(ly.DiffID); ok {
		if toc, err := layer.UnmarshalTOC(data); err == nil {
			return toc, nil
		}
	}
	r, err := s.LayerTar(ctx, ly)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	digests, toc, err := layer.Scan(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("read layer %s: %w", ly.DiffID, err)
	}
	if err := ly.check(digests.DiffID); err != nil {
		return nil, err
	}
	return toc, memo.PutTOC(ly.DiffID, toc.Marshal())
}

// maxOpened is how many layers are fetched and read at once.
const maxOpened = 4

// layerTOCs gives the tables of contents of layers. Layers that are elsewhere are
// read while they come, several at once.
func (s *Store) layerTOCs(ctx context.Context, layers []Layer, memo TOCs) ([]*layer.TOC, error) {
	tocs := make([]*layer.TOC, len(layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxOpened)
	for i, ly := range layers {
		g.Go(func() (err error) {
			tocs[i], err = s.LayerTOC(ctx, ly, memo)
			return err
		})
	}
	return tocs, g.Wait()
}

// check compares what a layer held with what its image says.
func (l Layer) check(got digest.Digest) error {
	if got != l.DiffID {
		return fmt.Errorf("layer %s holds the content of %s: the image is damaged, pull or load it again", l.DiffID, got)
	}
	return nil
}

// Files is the root file system of an image, read from its layers. Nothing is
// unpacked.
type Files struct {
	store  *Store
	layers []Layer
	tocs   []*layer.TOC
	tree   *layer.Tree
}

// File is one file of an image.
type File struct {
	// Path is relative and clean; "" is the root.
	Path string
	// Entry is what its layer says of it. For a hard link it is the entry that
	// holds the file.
	layer.Entry
	// Layer is the place of that layer in the image, -1 for a directory that no
	// layer mentions.
	Layer int

	index int
}

// Files opens the root file system of these layers, bottom first.
func (s *Store) Files(ctx context.Context, layers []Layer, memo TOCs) (*Files, error) {
	tocs, err := s.layerTOCs(ctx, layers, memo)
	if err != nil {
		return nil, err
	}
	return &Files{store: s, layers: layers, tocs: tocs, tree: layer.NewTree(tocs...)}, nil
}

func newFile(path string, n *layer.Node) File {
	return File{Path: path, Entry: n.Entry, Layer: n.Layer, index: n.Index}
}

// Stat finds the file at a path. Links are followed inside the image; with last
// the one at the end of the path too. What is not there is fs.ErrNotExist.
func (f *Files) Stat(path string, last bool) (File, error) {
	resolve := f.tree.ResolveParent
	if last {
		resolve = f.tree.Resolve
	}
	real, n, err := resolve(path)
	if err != nil {
		real = strings.Trim(path, "/")
	}
	if err == nil && n == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return File{}, &FileError{Path: "/" + real, Err: plainErr(err)}
	}
	return newFile(real, n), nil
}

// FileError is an error about a path within an image.
type FileError struct {
	Path string
	Err  error
}

// Error tells the path and the cause.
func (e *FileError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap is the cause.
func (e *FileError) Unwrap() error { return e.Err }

// plainErr is the cause alone, where the path is told already.
func plainErr(err error) error {
	for _, cause := range []error{syscall.ENOTDIR, syscall.ELOOP} {
		if errors.Is(err, cause) {
			return cause
		}
	}
	return err
}

// List gives what is in the directory at a path, sorted, and with all everything
// below it, each directory before what is in it. A path that is no directory
// lists itself.
func (f *Files) List(path string, all bool) ([]File, error) {
	top, err := f.Stat(path, true)
	if err != nil {
		return nil, err
	}
	if top.Type != tar.TypeDir {
		return []File{top}, nil
	}
	var list []File
	if all {
		err := f.tree.Walk(top.Path, func(path string, n *layer.Node) error {
			if path != top.Path {
				list = append(list, newFile(path, n))
			}
			return nil
		})
		return list, err
	}
	dir, _ := f.tree.Lookup(top.Path)
	for _, name := range dir.Children() {
		child := name
		if top.Path != "" {
			child = top.Path + "/" + name
		}
		n, _ := f.tree.Lookup(child)
		list = append(list, newFile(child, n))
	}
	return list, nil
}

// Open opens the regular file at a path, links followed. The reader fails at the
// end of a file that is not what its layer was found to hold.
func (f *Files) Open(ctx context.Context, path string) (io.ReadCloser, File, error) {
	file, err := f.Stat(path, true)
	if err != nil {
		return nil, File{}, err
	}
	switch file.Type {
	case tar.TypeReg:
	case tar.TypeDir:
		return nil, file, &FileError{Path: "/" + file.Path, Err: syscall.EISDIR}
	default:
		return nil, file, &FileError{Path: "/" + file.Path, Err: errNotRegular}
	}
	r, err := f.open(ctx, file)
	if err != nil {
		return nil, file, fmt.Errorf("read /%s: %w", file.Path, err)
	}
	return r, file, nil
}

var errNotRegular = errors.New("it is no regular file")

// open reads the bytes of a file: from the blob where they lie there in one
// piece, else from the tar.
func (f *Files) open(ctx context.Context, file File) (io.ReadCloser, error) {
	ly := f.layers[file.Layer]
	if ly.Descriptor.Digest == ly.DiffID && file.Offset >= 0 {
		blob, err := f.store.BlobFile(ctx, ly.DiffID)
		if err != nil {
			return nil, err
		}
		return newFileReader(ctx, io.NewSectionReader(blob, file.Offset, file.Size), blob, file.Entry), nil
	}
	body, err := f.store.LayerTar(ctx, ly)
	if err != nil {
		return nil, err
	}
	e, r, err := layer.Find(body, file.index)
	if err == nil && (e.Name != file.Name || e.Size != file.Size) {
		err = fmt.Errorf("layer %s has %q where its table of contents has %q", ly.DiffID, e.Name, file.Name)
	}
	if err != nil {
		body.Close()
		return nil, err
	}
	return newFileReader(ctx, r, body, file.Entry), nil
}

// fileReader checks what passes against the entry.
type fileReader struct {
	io.Reader
	io.Closer
	sum  digest.Digester
	want layer.Entry
	size int64
}

func newFileReader(ctx context.Context, r io.Reader, c io.Closer, want layer.Entry) *fileReader {
	sum := digest.SHA256.Digester()
	return &fileReader{Reader: io.TeeReader(&contextReader{ctx, r}, sum.Hash()), Closer: c, sum: sum, want: want}
}

// Read fails at the end of a file that is not what it should be.
func (r *fileReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.size += int64(n)
	if err != io.EOF {
		return n, err
	}
	if r.size != r.want.Size || r.want.Digest != "" && r.sum.Digest() != r.want.Digest {
		return n, &VerifyError{Want: r.want.Digest, Got: r.sum.Digest(), WantSize: r.want.Size, GotSize: r.size, Stored: true}
	}
	return n, io.EOF
}

// WriteTar writes the whole file system as one layer without whiteouts.
func (f *Files) WriteTar(ctx context.Context, w io.Writer) error {
	lw := layer.NewWriter(w)
	if err := f.flatten(ctx, lw); err != nil {
		return err
	}
	_, _, err := lw.Close()
	return err
}

func (f *Files) flatten(ctx context.Context, w *layer.Writer) error {
	list := make([]layer.FlattenLayer, len(f.layers))
	for i, ly := range f.layers {
		list[i] = layer.FlattenLayer{TOC: f.tocs[i], Tar: func() (io.ReadCloser, error) { return f.store.LayerTar(ctx, ly) }}
	}
	if err := layer.Flatten(ctx, list, w); err != nil {
		return fmt.Errorf("flatten image: %w", err)
	}
	return nil
}
