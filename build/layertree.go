package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/opencontainers/go-digest"
)

// layerTree is the root filesystem of a stage, read from its layers' tables of
// contents; bytes come from the layers themselves. No snapshot is needed.
type layerTree struct {
	layers []image.Layer
	view   *layer.Tree
	bytes  *layerBytes
}

func (t *layerTree) lookup(p string) (*layer.Entry, error) {
	n, ok := t.view.Lookup(p)
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &n.Entry, nil
}

func (t *layerTree) names(dir string) ([]string, error) {
	n, ok := t.view.Lookup(dir)
	if !ok {
		return nil, fs.ErrNotExist
	}
	return n.Children(), nil
}

func (t *layerTree) known(_ string, e *layer.Entry) (digest.Digest, bool) {
	return e.Digest, e.Digest != ""
}

func (t *layerTree) digest(ctx context.Context, p string, e *layer.Entry) (digest.Digest, error) {
	r, err := t.open(ctx, p, e)
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := digest.SHA256.Digester()
	_, err = copyBuffer(ctx, h.Hash(), r)
	return h.Digest(), err
}

func (t *layerTree) open(ctx context.Context, p string, _ *layer.Entry) (io.ReadCloser, error) {
	n, ok := t.view.Lookup(p)
	if !ok || n.Layer < 0 {
		return nil, fs.ErrNotExist
	}
	return t.bytes.open(ctx, t.layers, n.Layer, &n.Entry)
}

// linkID tells files apart by the entry that holds them: hard links share it.
func (t *layerTree) linkID(p string, e *layer.Entry) string {
	n, ok := t.view.Lookup(p)
	if !ok || e.Type == typeDir || n.Layer < 0 {
		return ""
	}
	return fmt.Sprintf("%d:%d", n.Layer, n.Index)
}

// readFile reads a whole file of a root filesystem through its links, at most
// limit bytes; a file that is not there is empty, and so is any of a tree that
// is nil.
func (t *layerTree) readFile(ctx context.Context, p string, limit int64) ([]byte, error) {
	if t == nil {
		return nil, nil
	}
	at, err := resolve(t.lookup, p)
	if errors.Is(err, errNotDir) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := t.lookup(at)
	switch {
	case isNotExist(err):
		return nil, nil
	case err != nil:
		return nil, err
	case e.Type != typeReg:
		return nil, fmt.Errorf("open /%s: not a regular file", p)
	case e.Size > limit:
		return nil, fmt.Errorf("/%s is larger than %d bytes", p, limit)
	}
	r, err := t.open(ctx, at, e)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
