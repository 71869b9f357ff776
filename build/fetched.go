package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// Fetched is a build context that is no directory of the user's: the checkout of a
// repository, or what an archive holds.
type Fetched struct {
	b *Builder
	// dir has the files of a checkout.
	dir string
	// layer has those of an archive.
	layer image.Layer
	// made gives the time that the source says, or nil.
	made func(context.Context) (*time.Time, error)
}

// fetchedName is what the file of a context is called that is no archive.
const fetchedName = "context"

// FetchedTree is the context of a checkout.
func (b *Builder) FetchedTree(ctx context.Context, tree RemoteTree, report Report) (*Fetched, error) {
	dir, err := tree.Checkout(ctx, report)
	return &Fetched{b: b, dir: dir, made: func(ctx context.Context) (*time.Time, error) { return treeTime(ctx, tree) }}, err
}

// FetchedFile makes a context of a file: what is in it if it is an archive, else
// the file itself, which is called context then. Nothing is unpacked to a
// directory: what the archive holds becomes a layer, with the owners that it
// names, and is found again when the same archive comes again. The caller holds a
// lease.
func (b *Builder) FetchedFile(ctx context.Context, f *RemoteFile) (*Fetched, error) {
	return b.fetched(ctx, f, "context", true)
}

// FetchedAlone makes a context of a file as it is, archive or not.
func (b *Builder) FetchedAlone(ctx context.Context, f *RemoteFile) (*Fetched, error) {
	return b.fetched(ctx, f, "context-file", false)
}

// fetched makes a context of a file; kind is that of the facts that remember it.
func (b *Builder) fetched(ctx context.Context, f *RemoteFile, kind string, unpack bool) (*Fetched, error) {
	out := &Fetched{b: b, made: func(ctx context.Context) (*time.Time, error) { return b.fileTime(ctx, f) }}
	key := cache.Key(f.Digest.Encoded())
	if data, ok := b.Cache.GetFact(kind, key); ok && json.Unmarshal(data, &out.layer) == nil && b.Store.Use(out.layer.Descriptor.Digest) {
		return out, nil
	}
	bytes := newLayerBytes(b)
	defer bytes.close()
	l, closer, err := b.landFile(ctx, f, unpack)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	out.layer, _, err = bytes.store(nil, time.Time{}, func(w *layer.Writer) error { return l.write(ctx, w) })
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(out.layer)
	if err != nil {
		return nil, err
	}
	return out, b.Cache.PutFact(kind, key, data)
}

// landFile lands a file, or what it is an archive of, in an empty root.
func (b *Builder) landFile(ctx context.Context, f *RemoteFile, unpack bool) (*landing, io.Closer, error) {
	l := newLanding(emptyTree{}, b.now())
	arch := &archives{dir: b.temp()}
	m := match{name: fetchedName, from: webFile{f}, unpack: unpack, items: []item{{at: fetchedName, entry: fileEntry(fetchedName, f), digest: f.Digest}}}
	err := (&transfer{dest: "/"}).land(ctx, l, &selection{matches: []match{m}}, nil, arch)
	if err != nil {
		arch.close()
		return nil, nil, err
	}
	return l, arch, nil
}

// IsArchive reports whether a file is a tar, plain or compressed. One that is
// compressed and no tar inside is an error: nobody can mean that.
func IsArchive(f *RemoteFile) (bool, error) {
	r, compression, err := layer.Decompress(io.NewSectionReader(f, 0, f.Size))
	if err != nil {
		return false, nil
	}
	r.Close()
	switch {
	case isArchive(io.NewSectionReader(f, 0, f.Size)):
		return true, nil
	case compression != layer.None:
		return false, errors.New("it is compressed, and no tar archive")
	}
	return false, nil
}

// ReadFile gives a file of the context, followed through links inside it. One that
// is missing or no regular file is fs.ErrNotExist, and one that is larger than
// limit an error.
func (f *Fetched) ReadFile(ctx context.Context, name string, limit int64) ([]byte, error) {
	bytes := newLayerBytes(f.b)
	defer bytes.close()
	open := func() (io.ReadCloser, error) { return openRegular(f.dir, clean(name)) }
	if f.dir == "" {
		open = func() (io.ReadCloser, error) { return bytes.openRegular(ctx, f.layer, clean(name)) }
	}
	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return text, err
}

// openRegular opens a regular file of a layer that stands alone.
func (l *layerBytes) openRegular(ctx context.Context, ly image.Layer, name string) (io.ReadCloser, error) {
	t, err := l.tree(ctx, []image.Layer{ly})
	if err != nil {
		return nil, err
	}
	at, err := resolve(t.lookup, name)
	if err != nil {
		return nil, err
	}
	e, err := t.lookup(at)
	if err != nil {
		return nil, err
	}
	if e.Type != typeReg {
		return nil, fs.ErrNotExist
	}
	return t.open(ctx, at, e)
}

// openRegular opens a regular file in a directory, which no link leaves.
func openRegular(dir, name string) (io.ReadCloser, error) {
	root, err := rootfs.Open(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fs.ErrNotExist)
	}
	return f, nil
}
