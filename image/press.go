package image

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxPressed is how many layers are compressed at once. The blocks of all of them share the press's workers.
const maxPressed = 8

// Press gives layers the form in which they leave the machine, each once for all who ask for it and for all processes. What it
// makes can be read while it is being made.
type Press struct {
	store  *Store
	how    Compression
	ctx    context.Context // of the work, which outlives the calls that ask for it
	cancel context.CancelFunc
	packer *layer.Packer
	slots  chan struct{}
	work   sync.WaitGroup

	mu   sync.Mutex
	made map[digest.Digest]*Pressing // by the layer's blob
}

// Press returns a press whose work ends with ctx, or by Close.
func (s *Store) Press(ctx context.Context, c Compression) *Press {
	ctx, cancel := context.WithCancel(ctx)
	packer := layer.NewPacker()
	if s.detours.OneBlock {
		packer = layer.NewSerialPacker()
	}
	return &Press{
		store: s, how: c, ctx: ctx, cancel: cancel,
		packer: packer, slots: make(chan struct{}, maxPressed), made: map[digest.Digest]*Pressing{},
	}
}

// Close gives up what is not finished.
func (p *Press) Close() {
	p.cancel()
	p.work.Wait()
}

// Changes reports whether a layer leaves in another form than it has.
func (p *Press) Changes(l Layer) bool { return p.how.changes(l.Descriptor) }

// Ready reports whether the form in which a layer leaves is there already.
func (p *Press) Ready(l Layer) bool {
	if !p.Changes(l) {
		return true
	}
	_, ok := p.store.compressed(p.memo(l))
	return ok
}

// Layer begins to make the form in which a layer leaves, or finds the one that is made already.
func (p *Press) Layer(l Layer) *Pressing {
	p.mu.Lock()
	defer p.mu.Unlock()
	if made, ok := p.made[l.Descriptor.Digest]; ok {
		return made
	}
	made := &Pressing{store: p.store, from: l, Key: p.memo(l), grown: make(chan struct{})}
	p.made[l.Descriptor.Digest] = made
	if !p.Changes(l) {
		made.end(l, nil)
		return made
	}
	if done, ok := p.store.compressed(made.Key); ok {
		made.end(p.pressed(l, done), nil)
		return made
	}
	p.work.Go(func() {
		out, err := p.press(made)
		if err != nil {
			err = fmt.Errorf("compress layer %s: %w", l.Descriptor.Digest, err)
		}
		made.end(out, err)
	})
	return made
}

// memo is the name under which the result is remembered.
func (p *Press) memo(l Layer) string { return l.Descriptor.Digest.Encoded() + "." + p.how.name() }

// pressed is a layer in its remembered form.
func (p *Press) pressed(l Layer, done compressed) Layer {
	l.Descriptor.MediaType = p.how.mediaType(l.Descriptor.MediaType)
	l.Descriptor.Digest, l.Descriptor.Size = done.Digest, done.Size
	annotations := publicAnnotations(l.Descriptor.Annotations)
	delete(annotations, stargzAnnotation)
	delete(annotations, stargzSize)
	for k, v := range done.Annotations {
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[k] = v
	}
	l.Descriptor.Annotations = annotations
	if done.DiffID != "" {
		l.DiffID = done.DiffID
	}
	return l
}

// press makes the layer, unless another process has while we waited for it.
func (p *Press) press(made *Pressing) (Layer, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-p.ctx.Done():
		return Layer{}, p.ctx.Err()
	}
	unlock, err := p.store.Lock(p.ctx, "compress-"+made.Key)
	if err != nil {
		return Layer{}, err
	}
	defer unlock()
	done, ok := p.store.compressed(made.Key)
	if !ok {
		if done, err = p.compress(made); err != nil {
			return Layer{}, err
		}
		if p.store.aside.blob(done.Digest) != nil {
			return p.pressed(made.from, done), nil // nobody else has it
		}
		if err := p.store.rememberCompressed(made.Key, done); err != nil {
			return Layer{}, err
		}
	}
	return p.pressed(made.from, done), nil
}

func (p *Press) compress(made *Pressing) (done compressed, err error) {
	in, err := p.store.pressInput(p.ctx, made.from)
	if err != nil {
		return done, err
	}
	defer in.Close()
	out, err := p.store.createCompressed(made.from.Descriptor.Size)
	if err != nil {
		return done, err
	}
	defer out.Abort()
	made.begin(out)
	packed, err := p.packer.Pack(p.ctx, made, &counted{in, &made.read}, p.how.Algorithm, p.how.Level)
	if err == nil {
		err = in.check()
	}
	if err != nil {
		return done, err
	}
	if packed.TOC != "" {
		done.DiffID = packed.DiffID
		done.Annotations = map[string]string{stargzAnnotation: packed.TOC.String(), stargzSize: strconv.FormatInt(packed.Size, 10)}
	}
	stored, err := out.Commit(ocispec.Descriptor{})
	done.Digest, done.Size = stored.Digest, stored.Size
	return done, err
}

// pressInput is the tar of a layer. That of a compressed one is compared with the layer's diff id at its end.
type pressInput struct {
	io.Reader
	layer   Layer
	closers []io.Closer
	sum     hash.Hash
}

func (s *Store) pressInput(ctx context.Context, l Layer) (*pressInput, error) {
	if layerCompression(l.Descriptor.MediaType) == layer.None {
		blob, err := s.Blob(ctx, l.Descriptor)
		if err != nil {
			return nil, err
		}
		return &pressInput{Reader: blob, layer: l, closers: []io.Closer{blob}}, nil
	}
	plain, err := s.LayerTar(ctx, l)
	if err != nil {
		return nil, err
	}
	sum := newHash(digest.SHA256)
	return &pressInput{Reader: io.TeeReader(plain, sum), layer: l, closers: []io.Closer{plain}, sum: sum}, nil
}

// check reads what is left, which a tar may have after its end, and compares.
func (in *pressInput) check() error {
	if _, err := io.Copy(io.Discard, in.Reader); err != nil || in.sum == nil || in.layer.DiffID == "" {
		return err
	}
	return in.layer.check(digest.NewDigest(digest.SHA256, in.sum))
}

// Close closes what is read from.
func (in *pressInput) Close() error {
	var errs []error
	for _, c := range in.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// counted counts what is read.
type counted struct {
	io.Reader
	n *atomic.Int64
}

// Read counts at once, so that others see how far it is.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// Pressing is a layer in the form in which it leaves, made or in the making.
type Pressing struct {
	store *Store
	from  Layer
	// Key tells what is being made from everything else, before there is a digest for that.
	Key string

	read  atomic.Int64 // of the layer
	mu    sync.Mutex
	grown chan struct{} // closed, and made anew, when something has changed
	out   *BlobWriter   // nil before the first byte and after the last
	path  string        // where the bytes are meanwhile
	size  int64         // how many can be read
	ended bool
	layer Layer
	err   error
}

func (m *Pressing) begin(out *BlobWriter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out, m.path = out, out.file.Name()
}

// Write takes bytes of the press, and tells those who follow.
func (m *Pressing) Write(b []byte) (int, error) {
	n, err := m.out.Write(b)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.size != m.out.size {
		m.size = m.out.size
		m.wake()
	}
	return n, err
}

// wake is called with the lock held.
func (m *Pressing) wake() {
	close(m.grown)
	m.grown = make(chan struct{})
}

func (m *Pressing) end(l Layer, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended, m.layer, m.err = true, l, err
	m.out, m.size = nil, l.Descriptor.Size
	m.wake()
}

// Wait gives the layer when it is made.
func (m *Pressing) Wait(ctx context.Context) (Layer, error) {
	for {
		m.mu.Lock()
		ended, grown := m.ended, m.grown
		m.mu.Unlock()
		if ended {
			return m.layer, m.err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return Layer{}, context.Cause(ctx)
		}
	}
}

// Descriptor is that of the layer when it is made.
func (m *Pressing) Descriptor(ctx context.Context) (ocispec.Descriptor, error) {
	l, err := m.Wait(ctx)
	return l.Descriptor, err
}

// Estimate tells how large it will be, as far as can be told now; 0 if nothing can.
func (m *Pressing) Estimate() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	read := m.read.Load()
	if m.ended || read == 0 || layerCompression(m.from.Descriptor.MediaType) != layer.None {
		return m.size
	}
	return max(m.size, int64(float64(m.size)*float64(m.from.Descriptor.Size)/float64(read)))
}

// Available waits until there are n bytes, or all of them, and tells how many there are and whether these are all.
func (m *Pressing) Available(ctx context.Context, n int64) (have int64, all bool, err error) {
	for {
		m.mu.Lock()
		have, all, err = m.size, m.ended, m.err
		grown := m.grown
		m.mu.Unlock()
		if err != nil || all || have >= n {
			return have, all, err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return have, false, context.Cause(ctx)
		}
	}
}

// Open gives the bytes from an offset on, as far as there are any now. Those of a layer that is made are verified when they are read
// from the start to the end.
func (m *Pressing) Open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	for {
		m.mu.Lock()
		ended, path, size, l, err := m.ended, m.path, m.size, m.layer, m.err
		m.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case ended && offset == 0:
			return m.store.Blob(ctx, l.Descriptor)
		case ended:
			f, err := m.store.BlobFile(ctx, l.Descriptor.Digest)
			return section(f, offset, l.Descriptor.Size, err)
		case path == "":
			return io.NopCloser(io.LimitReader(nil, 0)), nil
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) { // it has become a blob, or nothing, just now
			if _, err := m.Wait(ctx); err != nil {
				return nil, err
			}
			continue
		}
		return section(f, offset, size, err)
	}
}

// section is a part of an open file.
func section(f *os.File, from, to int64, err error) (io.ReadCloser, error) {
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, from, max(0, to-from)), f}, nil
}

// ImageLayers lists the layers of an image, or of all images of an index that are in the store. Artifacts have none.
func (s *Store) ImageLayers(ctx context.Context, desc ocispec.Descriptor) ([]Layer, error) {
	return s.imageLayers(ctx, desc, 0)
}

func (s *Store) imageLayers(ctx context.Context, desc ocispec.Descriptor, depth int) ([]Layer, error) {
	doc, err := readDocument(ctx, s, desc)
	if err != nil {
		return nil, err
	}
	if doc.index == nil {
		if !isConfigType(doc.manifest.Config.MediaType) || doc.manifest.ArtifactType != "" {
			return nil, nil
		}
		return s.manifestLayers(ctx, doc.manifest)
	}
	var list []Layer
	for _, child := range doc.index.Manifests {
		if depth > maxDepth || !s.Use(child.Digest) || !isIndexType(child.MediaType) && !isManifestType(child.MediaType) {
			continue
		}
		layers, err := s.imageLayers(ctx, child, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, layers...)
	}
	return list, nil
}

// manifestLayers are the layers of a manifest, with their diff ids where its config has one for each.
func (s *Store) manifestLayers(ctx context.Context, m *ocispec.Manifest) ([]Layer, error) {
	text, err := s.ReadBlob(ctx, m.Config, maxConfig)
	if err != nil {
		return nil, err
	}
	cfg, err := decodeConfig(text)
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	list := make([]Layer, len(m.Layers))
	for i, d := range m.Layers {
		list[i].Descriptor = d
		if len(cfg.RootFS.DiffIDs) == len(m.Layers) {
			list[i].DiffID = cfg.RootFS.DiffIDs[i]
		}
	}
	return list, nil
}
