package build

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"time"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/image/rootfs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// emptyContent is the content of a layer without entries: it has no directory
// to mount.
var emptyContent = sync.OnceValue(func() digest.Digest {
	d, _, err := layer.NewWriter(io.Discard).Close()
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return d.Content
})

// layerBytes gives what layers hold: their tables of contents, their files
// and their unpacked directories. Each is made when it is first asked for,
// and once, whoever asks.
type layerBytes struct {
	b *Builder

	mu    sync.Mutex
	tocs  map[digest.Digest]*layer.TOC
	files map[digest.Digest]*os.File
	trees map[string]*layer.Tree
	busy  map[string]*sync.Mutex
}

func newLayerBytes(b *Builder) *layerBytes {
	return &layerBytes{
		b: b, tocs: map[digest.Digest]*layer.TOC{}, files: map[digest.Digest]*os.File{},
		trees: map[string]*layer.Tree{}, busy: map[string]*sync.Mutex{},
	}
}

func (l *layerBytes) close() {
	for _, f := range l.files {
		f.Close()
	}
}

// exclusive makes callers with one name wait for each other.
func (l *layerBytes) exclusive(name string) (release func()) {
	l.mu.Lock()
	m, ok := l.busy[name]
	if !ok {
		m = &sync.Mutex{}
		l.busy[name] = m
	}
	l.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// tree is the merged view of a root filesystem.
func (l *layerBytes) tree(ctx context.Context, layers []image.Layer) (*layerTree, error) {
	tocs, err := l.contents(ctx, layers)
	if err != nil {
		return nil, err
	}
	name := ""
	for _, ly := range layers {
		name += string(ly.DiffID) + "\n"
	}
	defer l.exclusive("tree " + name)()
	l.mu.Lock()
	view, ok := l.trees[name]
	l.mu.Unlock()
	if !ok {
		view = layer.NewTree(tocs...)
		l.mu.Lock()
		l.trees[name] = view
		l.mu.Unlock()
	}
	return &layerTree{layers: layers, view: view, bytes: l}, nil
}

// maxOpened is how many layers are fetched and read, or unpacked, at once.
func (b *Builder) maxOpened() int {
	if b.Detours.OneByOne {
		return 1
	}
	return 4
}

// contents gives the tables of contents of layers. Those that nobody has looked
// into are read, several at once; what is elsewhere, while it comes.
func (l *layerBytes) contents(ctx context.Context, layers []image.Layer) ([]*layer.TOC, error) {
	tocs := make([]*layer.TOC, len(layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(l.b.maxOpened())
	for i := range layers {
		g.Go(func() (err error) {
			tocs[i], err = l.toc(ctx, layers, i)
			return err
		})
	}
	return tocs, g.Wait()
}

// toc gives the table of contents of layers[i]. That of a layer nobody has
// looked into comes from reading its tar once.
func (l *layerBytes) toc(ctx context.Context, layers []image.Layer, i int) (*layer.TOC, error) {
	d := layers[i].DiffID
	defer l.exclusive("toc " + string(d))()
	l.mu.Lock()
	toc, ok := l.tocs[d]
	l.mu.Unlock()
	if ok {
		return toc, nil
	}
	toc, err := l.b.Store.LayerTOC(ctx, layers[i], l.b.Cache)
	if err != nil {
		return nil, err
	}
	return l.keepTOC(d, toc), nil
}

func sameDiffID(got, want digest.Digest) error {
	if got != want {
		return fmt.Errorf("layer %s holds the content of %s: the image is damaged, pull or load it again", want, got)
	}
	return nil
}

func (l *layerBytes) keepTOC(d digest.Digest, toc *layer.TOC) *layer.TOC {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tocs[d] = toc
	return toc
}

// joined is a reader whose end closes several things.
type joined struct {
	io.Reader
	closers []io.Closer
}

// Close closes all of them and gives the first error.
func (j joined) Close() error {
	var errs []error
	for _, c := range j.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// open reads a regular file of layers[i]: from the blob when it is not
// compressed, else from the unpacked directory.
func (l *layerBytes) open(ctx context.Context, layers []image.Layer, i int, e *layer.Entry) (io.ReadCloser, error) {
	ly := layers[i]
	if e.Size == 0 {
		return io.NopCloser(io.LimitReader(nil, 0)), nil
	}
	if ly.Descriptor.Digest == ly.DiffID && e.Offset >= 0 {
		f, err := l.blobFile(ctx, ly.DiffID)
		if err != nil {
			return nil, err
		}
		return verified(io.NewSectionReader(f, e.Offset, e.Size), e, nil), nil
	}
	name, err := l.snapshot(ctx, layers, i)
	if err != nil {
		return nil, err
	}
	root, err := l.b.Snapshots.View(ctx, []string{name})
	if err != nil {
		return nil, err
	}
	dir := rootfs.FromFile(root)
	f, err := dir.OpenFile(e.Name, os.O_RDONLY, 0)
	if err != nil {
		dir.Close()
		return nil, err
	}
	return verified(f, e, []io.Closer{f, dir}), nil
}

func (l *layerBytes) blobFile(ctx context.Context, d digest.Digest) (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f, ok := l.files[d]; ok {
		return f, nil
	}
	f, err := l.b.Store.BlobFile(ctx, d)
	if err == nil {
		l.files[d] = f
	}
	return f, err
}

// verifier checks a file's bytes against the digest in the table of contents.
type verifier struct {
	joined
	h    digest.Digester
	want digest.Digest
}

func verified(r io.Reader, e *layer.Entry, closers []io.Closer) io.ReadCloser {
	v := &verifier{h: digest.SHA256.Digester(), want: e.Digest}
	v.joined = joined{io.TeeReader(r, v.h.Hash()), closers}
	if e.Digest == "" {
		v.Reader = r
	}
	return v
}

// Read fails at the end of a file that is not what it should be.
func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.Reader.Read(p)
	if errors.Is(err, io.EOF) && v.want != "" && v.h.Digest() != v.want {
		return n, fmt.Errorf("content has digest %s and should have %s: run `ocibuild fsck`", v.h.Digest(), v.want)
	}
	return n, err
}

// snapshots gives the names of the unpacked directories of a root filesystem,
// bottom first, unpacking what is missing, several layers at a time.
func (l *layerBytes) snapshots(ctx context.Context, layers []image.Layer) ([]string, error) {
	names := make([]string, len(layers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(l.b.maxOpened())
	for i, ly := range layers {
		if ly.Content == emptyContent() {
			continue
		}
		g.Go(func() (err error) {
			names[i], err = l.snapshot(gctx, layers, i)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []string
	for _, n := range names {
		if n != "" {
			out = append(out, n)
		}
	}
	return out, nil
}

// Unpack makes sure that layers are unpacked, and gives the names of their
// snapshots, bottom first.
func (b *Builder) Unpack(ctx context.Context, layers []image.Layer) ([]string, error) {
	bytes := newLayerBytes(b)
	defer bytes.close()
	return bytes.snapshots(ctx, layers)
}

// snapshotName finds the unpacked directory of a layer, or of a layer that
// only makes sense on those below it.
func (l *layerBytes) snapshotName(layers []image.Layer, i int) (name string, needsLower, ok bool) {
	d := layers[i].DiffID
	if data, found := l.b.Cache.GetFact(SnapshotFacts, cache.Key(d.Encoded())); found && l.b.Snapshots.Use(string(data)) {
		return string(data), false, true
	}
	if _, needsLower = l.b.Cache.GetFact(LowerFacts, cache.Key(d.Encoded())); needsLower {
		name = image.ChainOf(layers[:i+1]).Name()
	} else {
		name = d.Encoded()
	}
	return name, needsLower, l.b.Snapshots.Use(name)
}

func (l *layerBytes) snapshot(ctx context.Context, layers []image.Layer, i int) (string, error) {
	d := layers[i].DiffID
	defer l.exclusive(fmt.Sprintf("snapshot %d %s", i, d))()
	name, needsLower, ok := l.snapshotName(layers, i)
	if ok {
		return name, nil
	}
	unlock, err := l.b.Store.Lock(ctx, "unpack-"+name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if l.b.Snapshots.Use(name) {
		return name, nil
	}
	if !needsLower {
		err = l.unpack(ctx, layers[i], name, layer.Overlay)
		if !errors.Is(err, layer.ErrNeedsLower) {
			return name, err
		}
		if i == 0 { // nothing is below: what is missing is made, and there is nothing to hide
			return name, l.unpack(ctx, layers[i], name, layer.Merge)
		}
		if err := l.b.Cache.PutFact(LowerFacts, cache.Key(d.Encoded()), []byte("1")); err != nil {
			return "", err
		}
		name = image.ChainOf(layers[:i+1]).Name()
		if l.b.Snapshots.Use(name) {
			return name, nil
		}
	}
	return name, l.unpackOnto(ctx, layers, i, name)
}

// unpack unpacks a layer on its own.
func (l *layerBytes) unpack(ctx context.Context, ly image.Layer, name string, f layer.Format) error {
	dir, commit, abort, err := l.b.Snapshots.Create(name)
	if err != nil {
		return err
	}
	defer abort()
	if err := l.apply(ctx, ly, dir, f); err != nil {
		return err
	}
	return commit()
}

// unpackOnto unpacks a layer through a mount of those below it: a tar that
// leaves out parent directories, or links into lower layers, means what it
// says only there.
func (l *layerBytes) unpackOnto(ctx context.Context, layers []image.Layer, i int, name string) error {
	var parents []string
	for j := range i {
		p, err := l.snapshot(ctx, layers, j)
		if err != nil {
			return err
		}
		parents = append(parents, p)
	}
	sn, err := l.b.Snapshots.Prepare(ctx, parents)
	if err != nil {
		return err
	}
	defer sn.Discard() //nolint:errcheck // what stays behind, the next prune removes
	if err := l.applyMounted(ctx, layers[i], sn); err != nil {
		return err
	}
	if err := sn.Note(image.ChainOf(layers[:i+1]).String()); err != nil {
		return err
	}
	return l.b.Snapshots.Commit(sn, name)
}

func (l *layerBytes) applyMounted(ctx context.Context, ly image.Layer, sn *executor.Snapshot) error {
	root, err := l.b.Snapshots.Mount(ctx, sn)
	if err != nil {
		return err
	}
	defer root.Close()
	return l.apply(ctx, ly, fmt.Sprintf("/proc/self/fd/%d", root.Fd()), layer.Merge)
}

// apply unpacks a layer into a directory. Who wants to know what is in a layer that
// nobody has looked into waits for it rather than read the layer beside.
func (l *layerBytes) apply(ctx context.Context, ly image.Layer, dir string, f layer.Format) error {
	_, known := l.b.Cache.GetTOC(ly.DiffID)
	if !known {
		defer l.exclusive("toc " + string(ly.DiffID))()
	}
	r, err := l.b.Store.LayerTar(ctx, ly)
	if err != nil {
		return err
	}
	defer r.Close()
	digests, toc, err := layer.Apply(ctx, r, dir, l.b.applyOptions(f))
	if err != nil {
		return fmt.Errorf("unpack layer %s: %w", ly.DiffID, err)
	}
	if err := sameDiffID(digests.DiffID, ly.DiffID); err != nil {
		return err
	}
	if known {
		return nil
	}
	l.keepTOC(ly.DiffID, toc)
	return l.b.Cache.PutTOC(ly.DiffID, toc.Marshal())
}

// applyOptions says how layers are unpacked here.
func (b *Builder) applyOptions(f layer.Format) layer.ApplyOptions {
	o := layer.ApplyOptions{Format: f, UserXattr: b.Level.UserXattr(), SkipDevices: !b.Level.MakesDevices()}
	if b.Level.OneOwner() {
		uid, gid := os.Geteuid(), os.Getegid()
		o.Owner = func(int, int) (int, int) { return uid, gid }
		o.NoteOwners = true
	}
	return o
}

// earlier finds a layer of the same content that some step gave before and
// that is still there.
func (l *layerBytes) earlier(content digest.Digest) (image.Layer, bool) {
	var ly image.Layer
	data, ok := l.b.Cache.GetFact(ContentFacts, contentKey(content))
	if !ok || json.Unmarshal(data, &ly) != nil || ly.Content != content || !l.b.Store.Use(ly.Descriptor.Digest) {
		return image.Layer{}, false
	}
	return ly, true
}

// made remembers a layer by its content.
func (l *layerBytes) made(ly image.Layer) error {
	data, err := json.Marshal(ly)
	if err != nil {
		return err
	}
	return l.b.Cache.PutFact(ContentFacts, contentKey(ly.Content), data)
}

// clockSlack is how far the clock that files get their times from may lag behind.
const clockSlack = 20 * time.Millisecond

// timed adds to a content the times that a step has chosen for files: those before
// it began, and those that have not come yet. Directories get theirs from what is
// made in them.
func timed(content digest.Digest, toc *layer.TOC, since time.Time) digest.Digest {
	from, to := since.Add(-clockSlack).Unix(), time.Now().Unix()
	var h hash.Hash
	for i := range toc.Entries {
		e := &toc.Entries[i]
		at := e.ModTime.Unix()
		if e.Type == typeDir || e.Digest == "" && e.Type == typeReg || at >= from && at <= to {
			continue
		}
		if h == nil {
			h = sha256.New()
			h.Write([]byte(content))
		}
		f := framer{h: h}
		f.number(int64(i), at)
	}
	if h == nil {
		return content
	}
	return digest.NewDigest(digest.SHA256, h)
}

// store makes the layer that produce writes, and gives also its tar's bytes if
// that is not nil. Early cut-off: what has the content of a layer that is there
// already is that layer, and fresh is false.
//
// Times later than since are those of the work itself, and say nothing.
func (l *layerBytes) store(also io.Writer, since time.Time, produce func(*layer.Writer) error) (ly image.Layer, fresh bool, err error) {
	blob, err := l.b.Store.Create()
	if err != nil {
		return ly, false, err
	}
	defer blob.Abort()
	var sink io.Writer = blob
	if also != nil {
		sink = io.MultiWriter(blob, also)
	}
	w := layer.NewWriter(sink)
	w.KeepXattrs(layer.BuiltXattr)
	if err := produce(w); err != nil {
		return ly, false, err
	}
	digests, toc, err := w.Close()
	if err != nil {
		return ly, false, err
	}
	content := timed(digests.Content, toc, since)
	if same, ok := l.earlier(content); ok {
		return same, false, nil
	}
	desc, err := blob.Commit(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer})
	if err != nil {
		return ly, false, err
	}
	ly = image.Layer{Descriptor: desc, DiffID: desc.Digest, Content: content}
	l.keepTOC(desc.Digest, toc)
	return ly, true, errors.Join(l.b.Cache.PutTOC(desc.Digest, toc.Marshal()), l.made(ly))
}
