package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Action is what Repair did about a fault.
type Action string

// The actions.
const (
	Remade      Action = "made anew"
	Dropped     Action = "dropped" // it comes again by itself when it is needed
	Quarantined Action = "quarantined"
	Gone        Action = "gone" // somebody else did something about it, or it has changed
	Left        Action = "left"
)

// Repaired is a fault with what was done about it.
type Repaired struct {
	Fault
	Action Action
	Note   string // where to, or why it was left
}

// RepairOptions are the choices of Repair.
type RepairOptions struct {
	// Rebuildable are blobs that are made again when they are missing: the layers
	// of cache records.
	Rebuildable []digest.Digest
}

// Repair does something about what Fsck has found: what is damaged and can be made
// again is dropped, all else goes to a directory of its own in quarantine/. That is
// an image layout with the damaged blobs and with the images that need them: their
// entries in the table, and their good blobs, which take no room for it. An index
// that has a good image left keeps its place in the table.
//
// No good blob is removed. Where the table cannot be read, what can be made out of
// its text is put into a new one, and every other image that is there gets an entry
// without a name. What an image says of itself cannot be mended, so it is left.
func (s *Store) Repair(ctx context.Context, faults []Fault, o RepairOptions) ([]Repaired, error) {
	unlock, err := s.lock(ctx, lockPrune)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r := repairer{store: s, rebuildable: make(map[digest.Digest]bool)}
	for _, d := range o.Rebuildable {
		r.rebuildable[d] = true
	}
	if err := r.run(ctx, faults); err != nil {
		return r.done, s.explain("repair", err)
	}
	return r.done, nil
}

// repairer carries one Repair.
type repairer struct {
	store       *Store
	rebuildable map[digest.Digest]bool
	needed      map[digest.Digest]bool // by a manifest, an index or the table
	place       *quarantine            // made when it is first needed
	done        []Repaired
}

// run goes from what all else is found with to what is found with it.
func (r *repairer) run(ctx context.Context, faults []Fault) error {
	handle := func(kind FaultKind, how func(context.Context, Fault) error) error {
		for _, f := range faults {
			if f.Kind != kind {
				continue
			}
			if err := how(ctx, f); err != nil {
				return fmt.Errorf("%s: %w", f, err)
			}
		}
		return nil
	}
	if err := errors.Join(handle(FaultLayout, r.layout), handle(FaultTable, r.table)); err != nil {
		return err
	}
	if err := r.findNeeded(ctx); err != nil {
		return err
	}
	if err := errors.Join(handle(FaultBlob, r.blob), handle(FaultMemo, r.memo)); err != nil {
		return err
	}
	return r.images(ctx, faults)
}

func (r *repairer) did(f Fault, a Action, note string) {
	r.done = append(r.done, Repaired{f, a, note})
}

// layout writes the files whose content never changes.
func (r *repairer) layout(_ context.Context, f Fault) error {
	s := r.store
	text, ok := s.fixedFiles()[f.Path]
	if !ok {
		r.did(f, Left, "")
		return nil
	}
	err := s.disk.replace(s.path("ingest"), s.path(f.Path), text)
	if err == nil {
		r.did(f, Remade, "")
	}
	return err
}

// table makes a new table of what can be read of the damaged one.
func (r *repairer) table(ctx context.Context, f Fault) error {
	s := r.store
	unlock, err := s.lock(ctx, lockIndex)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := s.readIndex(); err == nil {
		r.did(f, Gone, "")
		return nil
	}
	text, err := os.ReadFile(s.path(f.Path))
	if ignoreGone(err) != nil {
		return err
	}
	index := newIndex()
	index.Manifests = salvage(text)
	names := len(index.Manifests)
	if err := r.adopt(ctx, index); err != nil {
		return err
	}
	if text != nil {
		if err := r.moveAside(f.Path); err != nil {
			return err
		}
	}
	if err := s.disk.replace(s.path("ingest"), s.path(f.Path), encodeIndex(index)); err != nil {
		return err
	}
	r.did(f, Remade, fmt.Sprintf("entries read of the old one: %d; images found without: %d", names, len(index.Manifests)-names))
	return nil
}

// salvage finds the descriptors in the text of a damaged table.
func salvage(text []byte) []ocispec.Descriptor {
	var list []ocispec.Descriptor
	for at := 0; at < len(text); at++ {
		if text[at] != '{' {
			continue
		}
		var desc ocispec.Descriptor
		d := json.NewDecoder(strings.NewReader(string(text[at:])))
		if d.Decode(&desc) != nil || checkDescriptor(desc) != nil {
			continue
		}
		list = append(list, desc)
		at += int(d.InputOffset()) - 1
	}
	return list
}

// adopt gives an entry to every image that none leads to.
func (r *repairer) adopt(ctx context.Context, index *ocispec.Index) error {
	m := r.store.openMemo()
	var listed []Summary
	for _, e := range index.Manifests {
		listed = append(listed, m.summarise(ctx, withoutName(e)))
	}
	loose, err := r.store.looseImages(ctx, m, listed)
	for i := range loose {
		index.Manifests = append(index.Manifests, loose[i].Descriptor)
	}
	return err
}

// findNeeded collects all blobs that a document or the table names.
func (r *repairer) findNeeded(ctx context.Context) error {
	r.needed = make(map[digest.Digest]bool)
	index, err := r.store.readIndex()
	if err != nil {
		return err
	}
	for _, m := range index.Manifests {
		r.needed[m.Digest] = true
	}
	list, err := r.store.documentBlobs(ctx, nil)
	if err != nil {
		return err
	}
	for _, desc := range list {
		doc, err := readDocument(ctx, r.store, desc)
		if err != nil {
			continue // it is damaged itself
		}
		for _, child := range doc.children() {
			r.needed[child.Digest] = true
		}
	}
	return nil
}

// blob takes a damaged blob, or a file that is none, out of the way.
func (r *repairer) blob(ctx context.Context, f Fault) error {
	s := r.store
	unlock, err := s.lock(ctx, lockSweep)
	if err != nil {
		return err
	}
	defer unlock()
	if f.Digest == "" {
		if err := r.moveAside(f.Path); err != nil {
			return err
		}
		r.did(f, Quarantined, r.place.name)
		return nil
	}
	var bad *VerifyError
	if err := s.verify(ctx, f.Digest); !errors.As(err, &bad) {
		if err == nil || errors.Is(err, ErrNotFound) {
			r.did(f, Gone, "")
			return nil
		}
		r.did(f, Left, err.Error())
		return nil
	}
	q, err := r.quarantine()
	if err != nil {
		return err
	}
	to, err := q.takeBlob(f.Digest)
	if err != nil {
		return err
	}
	if r.good(to, f.Digest) { // it was replaced between the two looks
		r.did(f, Gone, "")
		return s.disk.rename(to, s.blobPath(f.Digest))
	}
	if r.rebuildable[f.Digest] && !r.needed[f.Digest] {
		r.did(f, Dropped, "")
		return s.disk.remove(to)
	}
	r.did(f, Quarantined, q.name)
	return q.linkNamed(ctx, to)
}

// good reports whether a file has that digest.
func (r *repairer) good(path string, d digest.Digest) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	got, err := d.Algorithm().FromReader(f)
	return err == nil && got == d
}

// moveAside moves any file of the store into the quarantine.
func (r *repairer) moveAside(path string) error {
	q, err := r.quarantine()
	if err != nil {
		return err
	}
	return q.takeFile(path)
}

// memo drops something remembered. Of summaries all go, for they come back at the
// next list.
func (r *repairer) memo(_ context.Context, f Fault) error {
	if err := ignoreGone(r.store.disk.remove(r.store.path(f.Path))); err != nil {
		return err
	}
	r.did(f, Dropped, "")
	return nil
}

// images does something about entries of the table that are not whole now.
func (r *repairer) images(ctx context.Context, faults []Fault) error {
	index, err := r.store.readIndex()
	if err != nil {
		return err
	}
	var lost []ocispec.Descriptor
	parts := make(map[digest.Digest]ocispec.Descriptor)
	for _, m := range index.Manifests {
		w := wholeness{store: r.store, broken: make(map[digest.Digest]ocispec.Descriptor)}
		whole, err := w.of(ctx, m, 0)
		switch {
		case err != nil:
			return err
		case !whole:
			lost = append(lost, m)
		default:
			maps.Copy(parts, w.broken)
		}
	}
	if err := r.loseEntries(ctx, lost); err != nil {
		return err
	}
	if err := r.loseParts(ctx, parts); err != nil {
		return err
	}
	return r.reportImages(ctx, faults, lost)
}

// loseEntries moves entries from the table into that of the quarantine.
func (r *repairer) loseEntries(ctx context.Context, lost []ocispec.Descriptor) error {
	if len(lost) == 0 {
		return nil
	}
	q, err := r.quarantine()
	if err != nil {
		return err
	}
	for _, m := range lost {
		if err := q.add(ctx, m); err != nil {
			return err
		}
	}
	if err := q.writeTable(); err != nil {
		return err
	}
	return r.store.changeIndex(ctx, func(index *ocispec.Index) (bool, error) {
		before := len(index.Manifests)
		index.Manifests = slices.DeleteFunc(index.Manifests, func(m ocispec.Descriptor) bool {
			return slices.ContainsFunc(lost, func(x ocispec.Descriptor) bool { return sameEntry(x, m) })
		})
		return len(index.Manifests) != before, nil
	})
}

// loseParts takes from indexes that stay the images that are not whole, as if they
// had not been fetched.
func (r *repairer) loseParts(ctx context.Context, parts map[digest.Digest]ocispec.Descriptor) error {
	if len(parts) == 0 {
		return nil
	}
	q, err := r.quarantine()
	if err != nil {
		return err
	}
	for _, d := range slices.Sorted(maps.Keys(parts)) {
		if err := q.add(ctx, parts[d]); err != nil {
			return err
		}
	}
	if err := q.writeTable(); err != nil {
		return err
	}
	unlock, err := r.store.lock(ctx, lockSweep)
	if err != nil {
		return err
	}
	defer unlock()
	for d := range parts { // they have their second names by now
		if err := ignoreGone(r.store.disk.remove(r.store.blobPath(d))); err != nil {
			return err
		}
	}
	return nil
}

// reportImages says of each fault of an image what has become of it.
func (r *repairer) reportImages(ctx context.Context, faults []Fault, lost []ocispec.Descriptor) error {
	for _, f := range faults {
		if f.Kind != FaultImage {
			continue
		}
		named := slices.ContainsFunc(lost, func(m ocispec.Descriptor) bool {
			ref, _ := entryRef(m)
			return ref == f.Ref && (!ref.IsZero() || m.Digest == f.Entry)
		})
		missing := f.Digest != "" && !r.store.there(f.Digest)
		switch {
		case named, missing && r.place != nil:
			r.did(f, Quarantined, r.place.name)
		case missing:
			r.did(f, Gone, "")
		default:
			r.did(f, Left, "it is what the image says, and no damage: build it again, or ask who made it")
		}
	}
	return ctx.Err()
}

// wholeness finds out which images have all that they need.
type wholeness struct {
	store  *Store
	broken map[digest.Digest]ocispec.Descriptor // images of an index
}

// of reports whether an image is whole, or an index has at least one that is.
func (w *wholeness) of(ctx context.Context, desc ocispec.Descriptor, depth int) (bool, error) {
	if !w.store.there(desc.Digest) {
		return false, nil
	}
	doc, err := readDocument(ctx, w.store, desc)
	switch {
	case ctxDone(err):
		return false, err
	case err != nil || depth > maxDepth:
		return true, nil // it is what it is, and not damaged
	case doc.index != nil:
		return w.ofIndex(ctx, doc.index, depth)
	}
	for i, child := range doc.children() {
		elsewhere := i > 0 && (len(child.URLs) > 0 || w.store.away(child.Digest))
		if !elsewhere && !w.store.there(child.Digest) {
			return false, nil
		}
	}
	return true, nil
}

func (w *wholeness) ofIndex(ctx context.Context, index *ocispec.Index, depth int) (bool, error) {
	any := len(index.Manifests) == 0
	for _, child := range index.Manifests {
		if !w.store.there(child.Digest) {
			continue
		}
		whole, err := true, error(nil)
		if isIndexType(child.MediaType) || isManifestType(child.MediaType) {
			whole, err = w.of(ctx, child, depth+1)
		}
		if err != nil {
			return false, err
		}
		if !whole {
			w.broken[child.Digest] = child
		}
		any = any || whole
	}
	return any, nil
}
