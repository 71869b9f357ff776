package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
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
	batchFiles = 256
	batchBytes = 2 << 20
	smallFile  = 1 << 20
)

// batch is a run of entries and the bytes of the small regular files among them.
type batch struct {
	list []*landed
	data [][]byte // by index; nil for what is not read ahead
	slab []byte   // what data points into; used again and again
	done chan error
}

// fill takes the next entries off the list and starts to read their small files.
func (b *batch) fill(ctx context.Context, list []*landed) (rest []*landed) {
	n, size := 0, 0
	for n < len(list) && n < batchFiles && size < batchBytes {
		if list[n].preloads() {
			size += int(list[n].entry.Size)
		}
		n++
	}
	if cap(b.slab) < size {
		b.slab = make([]byte, size)
	}
	b.list, b.data, b.done = list[:n], make([][]byte, n), make(chan error, 1)
	free := b.slab[:size]
	for i, f := range b.list {
		if f.preloads() {
			b.data[i], free = free[:f.entry.Size:f.entry.Size], free[f.entry.Size:]
		}
	}
	go b.read(ctx)
	return list[n:]
}

func (f *landed) preloads() bool {
	return f.entry.Type == typeReg && f.from != nil && f.entry.Size <= smallFile
}

// read reads the batch's small files, several at a time.
func (b *batch) read(ctx context.Context) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0) + 1)
	const share = 16
	for at := 0; at < len(b.list); at += share {
		g.Go(func() error {
			for i := at; i < min(at+share, len(b.list)); i++ {
				if b.data[i] == nil {
					continue
				}
				if err := b.list[i].read(ctx, b.data[i]); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	b.done <- g.Wait()
}

// read reads a file, which must be as long as data, and learns its digest if
// nobody knew it.
func (f *landed) read(ctx context.Context, data []byte) error {
	r, err := f.from.open(ctx, f.at, &f.entry)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.ReadFull(r, data); err != nil && len(data) > 0 {
		return changed(f.at)
	}
	var one [1]byte
	if n, err := r.Read(one[:]); n > 0 || err != io.EOF {
		return errors.Join(changed(f.at), ignoreEOF(err))
	}
	if f.entry.Digest == "" {
		f.entry.Digest = digest.NewDigestFromBytes(digest.SHA256, sum(data))
	}
	return nil
}

func changed(p string) error {
	return &Hinted{fmt.Errorf("/%s changed while it was read", p), "build again when nothing writes to the context"}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
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
	l.added = nil // what is written is let go of below
	w.Grow(len(list))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cur, next := &batch{}, &batch{}
	rest := cur.fill(ctx, list)
	for len(cur.list) > 0 {
		if err := <-cur.done; err != nil {
			return err
		}
		more := len(rest) > 0
		if more {
			rest = next.fill(ctx, rest)
		}
		err := cur.write(ctx, w)
		if err != nil && more {
			cancel()
			<-next.done //nolint:errcheck // the error is the one above
		}
		if err != nil || !more {
			return err
		}
		cur, next = next, cur
	}
	return nil
}

// linkUp turns every file of a group of hard links but the first into a link to that.
func linkUp(list []*landed) {
	first := map[string]string{}
	for _, f := range list {
		if f.link == "" {
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
		if f.entry.Type != typeDir {
			if marks, err := w.Mark(f.entry.Name); err != nil {
				return err
			} else if marks {
				continue
			}
		}
		body, err := f.body(ctx, b.data[i])
		if err != nil {
			return err
		}
		err = w.Write(f.entry, body)
		if body != nil {
			body.Close()
		}
		if err == nil && f.opaque {
			err = w.Opaque(f.entry.Name)
		}
		if err != nil {
			return fmt.Errorf("copy /%s: %w", strings.TrimPrefix(f.at, "/"), err)
		}
		f.learn(w.Last().Digest)
		b.list[i] = nil
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

// learn tells the selection, and the memo behind it, what a file turned out to hold.
func (f *landed) learn(d digest.Digest) {
	if f.item == nil || f.entry.Type != typeReg || f.item.digest != "" {
		return
	}
	f.item.digest = d
	if m, ok := f.from.(interface {
		learn(path string, d digest.Digest)
	}); ok {
		m.learn(f.at, d)
	}
}

// memory gives the bytes of a heredoc.
type memory string

func (m memory) open(context.Context, string, *layer.Entry) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(string(m))), nil
}
