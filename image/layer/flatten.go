package layer

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
)

// FlattenLayer is one layer to flatten.
type FlattenLayer struct {
	// Tar opens the layer's uncompressed tar. It is called once, and only if some file
	// of the layer is still to be seen.
	Tar func() (io.ReadCloser, error)
	TOC *TOC
}

// Flatten writes the merged tree of layers, the bottom one first, as one layer
// without whiteouts, and leaves w open. First come the directories and everything
// without content, sorted; then the files of each layer in the order of its tar,
// each followed by its other names as hard links. Every layer is read once, and
// nothing is kept in memory but the tree.
func Flatten(ctx context.Context, layers []FlattenLayer, w *Writer) error {
	tocs := make([]*TOC, len(layers))
	for i, l := range layers {
		tocs[i] = l.TOC
	}
	f := flattener{w: w, names: make(map[place][]string), written: make(map[place]string), left: make([]int, len(layers))}
	if err := NewTree(tocs...).Walk("", f.node); err != nil {
		return fmt.Errorf("flatten: %w", err)
	}
	for i, l := range layers {
		if f.left[i] == 0 {
			continue
		}
		if err := f.layer(ctx, i, l); err != nil {
			return fmt.Errorf("flatten layer %d: %w", i, err)
		}
	}
	return nil
}

// place is where a file's bytes are: a layer and an index in its TOC.
type place struct{ layer, index int }

// flattener holds the names of every file that has content, and how many such files
// are left in each layer.
type flattener struct {
	w       *Writer
	names   map[place][]string
	written map[place]string
	left    []int
}

// node writes what has no content, and notes where the rest is.
func (f *flattener) node(path string, n *Node) error {
	if path == "" {
		if n.Layer < 0 {
			return nil
		}
		path = "."
	}
	at := place{n.Layer, n.Index}
	if n.Entry.Type == tar.TypeReg && n.Entry.Size > 0 {
		if len(f.names[at]) == 0 {
			f.left[n.Layer]++
		}
		f.names[at] = append(f.names[at], path)
		return nil
	}
	e := n.Entry
	e.Name = path
	if n.IsDir() {
		return f.w.Write(e, nil)
	}
	if first, ok := f.written[at]; ok {
		return f.link(e, path, first)
	}
	f.written[at] = path
	return f.w.Write(e, nil)
}

// link writes another name of the file e.
func (f *flattener) link(e Entry, path, first string) error {
	e.Name, e.Type, e.Linkname = path, tar.TypeLink, first
	return f.w.Write(e, nil)
}

// layer writes the files of one layer that are still to be seen.
func (f *flattener) layer(ctx context.Context, i int, l FlattenLayer) error {
	body, err := l.Tar()
	if err != nil {
		return err
	}
	defer body.Close()
	r := &tarReader{tar: tar.NewReader(body), offset: func() int64 { return 0 }}
	for index := 0; f.left[i] > 0; index++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := r.next()
		if err == io.EOF {
			return fmt.Errorf("read tar: %d files of the table of contents are missing: %w", f.left[i], io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		if names := f.names[place{i, index}]; len(names) > 0 {
			if err := f.file(e, l.TOC.Entries[index], names, r.tar); err != nil {
				return err
			}
			f.left[i]--
		}
	}
	return nil
}

// file writes a file under all its names. e is what the tar says of it, listed what
// the table of contents does.
func (f *flattener) file(e, listed Entry, names []string, body io.Reader) error {
	if e.Name != listed.Name || e.Size != listed.Size {
		return fmt.Errorf("the tar has %q where its table of contents has %q", e.Name, listed.Name)
	}
	listed.Name = names[0]
	if err := f.w.Write(listed, body); err != nil {
		return err
	}
	for _, name := range names[1:] {
		if err := f.link(listed, name, names[0]); err != nil {
			return err
		}
	}
	return nil
}
