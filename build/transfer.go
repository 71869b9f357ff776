package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// A batch is what is read ahead of the layer writer: opening a small file
// costs more than reading it, and that work parallelises. Larger files are
// streamed when their turn comes.
const (
	batchFiles = 512
	batchBytes = 8 << 20
	smallFile  = 1 << 20
)

// batch is a run of entries and the bytes of the small regular files among them.
type batch struct {
	list []*landed
	data [][]byte
	done chan error
}

// cutBatch takes the next batch off the list.
func cutBatch(list []*landed) (b *batch, rest []*landed) {
	var n, size int
	for n < len(list) && n < batchFiles && size < batchBytes {
		if f := list[n]; f.preloads() {
			size += int(f.entry.Size)
		}
		n++
	}
	return &batch{list: list[:n], data: make([][]byte, n), done: make(chan error, 1)}, list[n:]
}

func (f *landed) preloads() bool {
	return f.entry.Type == typeReg && f.from != nil && f.entry.Size <= smallFile
}

// start reads the batch's small files and computes the digests that nobody has.
func (b *batch) start(ctx context.Context) {
	go func() {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(runtime.GOMAXPROCS(0) + 1)
		for i, f := range b.list {
			if !f.preloads() {
				continue
			}
			g.Go(func() (err error) {
				b.data[i], err = f.read(ctx)
				return err
			})
		}
		b.done <- g.Wait()
	}()
}

// read gives a file's bytes, which must be as many as its entry says.
func (f *landed) read(ctx context.Context) ([]byte, error) {
	r, err := f.from.open(ctx, f.at, &f.entry)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, f.entry.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("read /%s: %w", f.at, err)
	}
	if n, _ := r.Read(make([]byte, 1)); n > 0 {
		return nil, fmt.Errorf("read /%s: it grew while it was read", f.at)
	}
	if f.entry.Digest == "" {
		f.entry.Digest = digest.NewDigestFromBytes(digest.SHA256, sum(data))
	}
	return data, nil
}

func sum(data []byte) []byte {
	h := sha256.Sum256(data)
	return h[:]
}

// write writes the landing as a layer, in canonical order. The first file of
// a group of hard links carries the bytes, the others link to it.
func (l *landing) write(ctx context.Context, w *layer.Writer) error {
	list, err := l.settled()
	if err != nil {
		return err
	}
	linkUp(list)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cur, rest := cutBatch(list)
	cur.start(ctx)
	for cur != nil {
		if err := <-cur.done; err != nil {
			return err
		}
		var next *batch
		if len(rest) > 0 {
			next, rest = cutBatch(rest)
			next.start(ctx)
		}
		if err := cur.write(ctx, w); err != nil {
			return err // the deferred cancel ends next, which nobody waits for: its channel has room
		}
		cur = next
	}
	return nil
}

// linkUp turns every file of a group of hard links but the first into a link to that.
func linkUp(list []*landed) {
	first := map[string]string{}
	for _, f := range list {
		if f.link == "" || f.entry.Type != typeReg {
			continue
		}
		if target, ok := first[f.link]; ok {
			f.entry.Type, f.entry.Linkname, f.entry.Size, f.entry.Digest = typeLink, target, 0, ""
			continue
		}
		first[f.link] = f.entry.Name
	}
}

func (b *batch) write(ctx context.Context, w *layer.Writer) error {
	for i, f := range b.list {
		if err := ctx.Err(); err != nil {
			return err
		}
		body, err := f.body(ctx, b.data[i])
		if err != nil {
			return err
		}
		err = w.Write(f.entry, body)
		if body != nil {
			body.Close()
		}
		if err != nil {
			return fmt.Errorf("copy /%s: %w", strings.TrimPrefix(f.at, "/"), err)
		}
		b.data[i] = nil
	}
	return nil
}

// body gives the reader of a regular file, and nil for anything else.
func (f *landed) body(ctx context.Context, data []byte) (io.ReadCloser, error) {
	switch {
	case f.entry.Type != typeReg:
		return nil, nil
	case data != nil:
		return io.NopCloser(bytes.NewReader(data)), nil
	case f.from == nil:
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	return f.from.open(ctx, f.at, &f.entry)
}

// memory gives the bytes of a heredoc.
type memory string

func (m memory) open(context.Context, string, *layer.Entry) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(string(m))), nil
}
