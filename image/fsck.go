package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// FaultKind is what part of the store a fault is in.
type FaultKind string

// The kinds of faults.
const (
	FaultLayout FaultKind = "layout" // the files that make the directory a layout
	FaultTable  FaultKind = "table"  // index.json
	FaultBlob   FaultKind = "blob"   // a blob that is damaged, or a file among the blobs that is none
	FaultImage  FaultKind = "image"  // an image that is not whole, or has other layers than it says
	FaultMemo   FaultKind = "memo"   // something remembered of images that is not so
)

// Fault is something wrong in the store.
type Fault struct {
	Kind   FaultKind
	Path   string        // within the store, where a file is at fault
	Digest digest.Digest // the blob that is damaged or missing, if one is
	Ref    Ref           // the image that needs it, if one does
	Entry  digest.Digest // what that name, or an entry without one, stands for
	Err    error
}

// String tells the fault in one line.
func (f Fault) String() string {
	var parts []string
	if f.Path != "" {
		parts = append(parts, f.Path)
	}
	if !f.Ref.IsZero() {
		parts = append(parts, "image "+f.Ref.Familiar())
	} else if f.Entry != "" {
		parts = append(parts, "image "+f.Entry.String())
	}
	return strings.Join(append(parts, f.Err.Error()), ": ")
}

// FsckOptions are the choices of Fsck.
type FsckOptions struct {
	// Layers names blobs that are layers though no manifest says so: those of cache
	// records.
	Layers []digest.Digest
	// Layer is told what every layer turned out to hold. It is called by several
	// goroutines.
	Layer func(blob digest.Digest, d layer.Digests, toc *layer.TOC)
}

// Fsck reads the whole store. Every blob must have the digest it is named by.
// Every image in the table must have all its blobs, and the layers must hold what its
// config says; of an index, images that were not fetched are no fault. (What else an
// image may say wrongly of itself is for Verify.) What is remembered of images must be so. Temporary files are no
// fault, nor is what nothing needs. It may run beside everything else. The error is
// about the check itself, not about what it found.
func (s *Store) Fsck(ctx context.Context, o FsckOptions) ([]Fault, error) {
	c := checker{
		store: s, options: o, blobs: make(map[digest.Digest]readBlob),
		documents: make(map[digest.Digest]ocispec.Descriptor), layers: make(map[digest.Digest]bool),
	}
	for _, check := range []func(context.Context) error{c.layout, c.roles, c.readBlobs, c.images, c.compressions, c.summaries} {
		if err := check(ctx); err != nil {
			return nil, fmt.Errorf("check the store: %w", err)
		}
	}
	return c.faults, nil
}

// checker carries one Fsck.
type checker struct {
	store   *Store
	options FsckOptions
	blobs   map[digest.Digest]readBlob
	faults  []Fault
	// What is known before the blobs are read: which are manifests or indexes, and
	// which of the others are layers.
	documents map[digest.Digest]ocispec.Descriptor
	layers    map[digest.Digest]bool
}

func (c *checker) fault(f Fault) { c.faults = append(c.faults, f) }

func (c *checker) layout(context.Context) error {
	for _, f := range []struct {
		path  string
		check func() error
	}{{ocispec.ImageLayoutFile, c.store.checkLayout}, {formatFile, c.store.checkFormat}} {
		if err := f.check(); err != nil {
			c.fault(Fault{Kind: FaultLayout, Path: f.path, Err: err})
		}
	}
	return nil
}

// images checks what the table has.
func (c *checker) images(ctx context.Context) error {
	index, err := c.store.readIndex()
	if err != nil {
		c.fault(Fault{Kind: FaultTable, Path: ocispec.ImageIndexFile, Err: err})
		return nil
	}
	for _, m := range index.Manifests {
		found, err := c.image(ctx, m)
		if err != nil {
			return err
		}
		if len(found) > 0 && c.store.inTable(m) {
			c.faults = append(c.faults, found...)
		}
	}
	return nil
}

// image checks one entry of the table, with what is known of its blobs already.
func (c *checker) image(ctx context.Context, m ocispec.Descriptor) ([]Fault, error) {
	ref, _ := entryRef(m)
	if !c.store.there(m.Digest) {
		return []Fault{{Kind: FaultImage, Digest: m.Digest, Ref: ref, Entry: m.Digest, Err: missing(m.Digest)}}, nil
	}
	v := verifier{store: c.store, mere: true, read: make(map[digest.Digest]bool), diffIDs: make(map[digest.Digest]digest.Digest)}
	for d, b := range c.blobs {
		switch {
		case b.err != nil:
		case c.layers[d]:
			v.diffIDs[d] = b.diffID
		case c.documents[d].Digest == "":
			v.read[d] = true
		}
	}
	if err := v.document(ctx, m, 0); err != nil {
		return nil, err
	}
	if v.result.Manifests == 0 && len(v.result.Faults) == 0 && v.result.Absent > 0 {
		v.fault(m, fmt.Errorf("every image of it is %w", ErrNotFound))
	}
	for i := range v.result.Faults {
		f := &v.result.Faults[i]
		f.Kind, f.Ref, f.Entry = FaultImage, ref, m.Digest
	}
	return v.result.Faults, nil
}

// inTable asks again: an image may have been removed while it was checked.
func (s *Store) inTable(m ocispec.Descriptor) bool {
	index, err := s.readIndex()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(index.Manifests, func(x ocispec.Descriptor) bool { return sameEntry(x, m) })
}

// compressions checks what Compress remembers: that a blob is another form of a
// layer. What cannot be read is as good as forgotten.
func (c *checker) compressions(context.Context) error {
	entries, err := c.store.compressions()
	if err != nil {
		return err
	}
	for _, e := range entries {
		b, known := c.blobs[e.done.Digest]
		if e.err != nil || !known || b.err != nil {
			continue
		}
		want := e.done.DiffID
		if of, ok := c.blobs[e.layer]; want == "" && ok && of.err == nil {
			want = of.diffID
		}
		if want != "" && b.diffID != want {
			c.fault(Fault{Kind: FaultMemo, Path: e.path, Digest: e.done.Digest, Err: fmt.Errorf(
				"blob %s is no form of %s: it holds %s", e.done.Digest, e.layer, orDefault(string(b.diffID), "no layer"))})
		}
	}
	return nil
}

// summaries checks what lists remember of manifests and indexes.
func (c *checker) summaries(ctx context.Context) error {
	m := c.store.openMemo()
	for d := range m.lines {
		desc, known := c.documents[d]
		if !known || c.blobs[d].err != nil {
			continue // a line of what is gone does no harm
		}
		is, err := m.read(ctx, desc)
		if err != nil {
			if ctxDone(err) {
				return err
			}
			continue // its config is missing or damaged, which is a fault of its own
		}
		if said, ok := m.decode(d); !ok || !sameSummary(said, is) {
			c.fault(Fault{Kind: FaultMemo, Path: summariesFile, Digest: d, Err: fmt.Errorf("what it says of %s is not so", d)})
		}
	}
	return nil
}
