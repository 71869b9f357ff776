package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/ocibuild/ocibuild/cache"
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

	leftOnce sync.Once
	left     []map[string]int // by layer; see leftGroups
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
	for i, groups := range slices.Backward(t.leftGroups()) {
		if i < n.Layer {
			break
		}
		if g, ok := groups[p]; ok {
			return fmt.Sprintf("left %d:%d", i, g)
		}
	}
	return fmt.Sprintf("%d:%d", n.Layer, n.Index)
}

// leftFact is the kind of the facts that tell of a step's layer which hard links its
// snapshot had with files that the layer leaves out. As with BuildKit what is copied
// out of the stage has them.
const leftFact = "left-links"

func (b *Builder) keepLeft(layer digest.Digest, groups [][]string) error {
	if len(groups) == 0 {
		return nil
	}
	data, err := json.Marshal(groups)
	if err != nil {
		return err
	}
	return b.Cache.PutFact(leftFact, cache.Key(layer.Encoded()), data)
}

// leftGroups numbers, for each layer, the groups of the names that were hard links.
func (t *layerTree) leftGroups() []map[string]int {
	t.leftOnce.Do(func() {
		t.left = make([]map[string]int, len(t.layers))
		for i, ly := range t.layers {
			var groups [][]string
			data, ok := t.bytes.b.Cache.GetFact(leftFact, cache.Key(ly.DiffID.Encoded()))
			if !ok || json.Unmarshal(data, &groups) != nil {
				continue
			}
			t.left[i] = map[string]int{}
			for g, names := range groups {
				for _, name := range names {
					t.left[i][name] = g
				}
			}
		}
	})
	return t.left
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
