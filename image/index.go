package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// annotationName holds the full name of an image, as containerd writes it.
const annotationName = "io.containerd.image.name"

// maxIndexFile bounds index.json: some hundred thousand tags.
const maxIndexFile = 64 << 20

// Reference is one line of the reference table. The descriptor is without the
// annotations that hold the name.
type Reference struct {
	Ref        Ref
	Descriptor ocispec.Descriptor
}

func newIndex() *ocispec.Index {
	return &ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
	}
}

func encodeIndex(index *ocispec.Index) []byte {
	if index.Manifests == nil {
		index.Manifests = []ocispec.Descriptor{}
	}
	text, err := json.Marshal(index)
	if err != nil {
		panic("internal error: encode index: " + err.Error())
	}
	return text
}

func (s *Store) readIndex() (*ocispec.Index, error) {
	f, err := os.Open(s.path(ocispec.ImageIndexFile))
	if err != nil {
		return nil, s.explain("read index.json", err)
	}
	defer f.Close()
	text, err := readLimited(f, maxIndexFile)
	if err != nil {
		return nil, fmt.Errorf("read index.json: %w", err)
	}
	index, err := decodeTable(text)
	if err != nil {
		return nil, &DamagedError{ocispec.ImageIndexFile, err}
	}
	return index, nil
}

// decodeTable reads an index.json, whoever wrote it.
func decodeTable(text []byte) (*ocispec.Index, error) {
	var index ocispec.Index
	if err := json.Unmarshal(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), &index); err != nil {
		return nil, err
	}
	if index.SchemaVersion != 2 {
		return nil, fmt.Errorf("schema version %d is not supported", index.SchemaVersion)
	}
	for i, m := range index.Manifests {
		if err := checkDigest(m.Digest); err != nil {
			return nil, fmt.Errorf("entry %d: digest %q: %w", i, string(m.Digest), err)
		}
	}
	return &index, nil
}

// entryRef is the name of an entry of the table; not ok without a readable one.
// The layout's own annotation counts where the two differ, since a program that
// copies an entry changes that one alone; but Docker and containerd write the
// mere tag there.
func entryRef(m ocispec.Descriptor) (Ref, bool) {
	layoutName := m.Annotations[ocispec.AnnotationRefName]
	full, ok := nameOf(m, annotationName)
	if ok && (layoutName == "" || layoutName == full.tag || layoutName == full.Familiar()) {
		return full, true
	}
	if short, ok := nameOf(m, ocispec.AnnotationRefName); ok {
		return short, true
	}
	return full, ok
}

// nameOf reads an annotation that names the entry.
func nameOf(m ocispec.Descriptor, key string) (Ref, bool) {
	text := m.Annotations[key]
	if text == "" {
		return Ref{}, false
	}
	ref, err := ParseRef(text)
	if err != nil || ref.digest != "" && ref.digest != m.Digest {
		return Ref{}, false
	}
	return ref.entryName(), true
}

// entryName is the name as the table has it: with a tag or with a digest, not
// with both.
func (r Ref) entryName() Ref {
	if r.digest != "" {
		r.tag = ""
	}
	return r.WithDefaultTag()
}

// withName adds the name annotations to a descriptor, withoutName removes them.
// A name with a digest is no name of a layout, so it has no short form there.
func withName(desc ocispec.Descriptor, short, full string) ocispec.Descriptor {
	desc = withoutName(desc)
	if desc.Annotations == nil {
		desc.Annotations = make(map[string]string, 2)
	}
	if !strings.Contains(full, "@") {
		desc.Annotations[ocispec.AnnotationRefName] = short
	}
	desc.Annotations[annotationName] = full
	return desc
}

func withoutName(desc ocispec.Descriptor) ocispec.Descriptor {
	rest := maps.Clone(desc.Annotations)
	delete(rest, ocispec.AnnotationRefName)
	delete(rest, annotationName)
	if len(rest) == 0 {
		rest = nil
	}
	desc.Annotations = rest
	return desc
}

// changeIndex lets change edit the table under its lock. Nothing is written
// when it reports no change.
func (s *Store) changeIndex(ctx context.Context, change func(*ocispec.Index) (bool, error)) error {
	unlock, err := s.lock(ctx, lockIndex)
	if err != nil {
		return err
	}
	defer unlock()
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	changed, err := change(index)
	if err != nil || !changed {
		return err
	}
	err = s.disk.replace(s.path("ingest"), s.path(ocispec.ImageIndexFile), encodeIndex(index))
	return s.explain("write index.json", err)
}

// Tag lets ref (with the tag latest if it has none) name the image, in place
// of what it named before. A ref with a digest, which must be the image's, is a
// name too; its tag is left out. Everything the image needs must be in the store,
// or for layers at a registry as Seen has told, else the error is ErrNotFound; it
// is made durable first. Of an index, the images that are there suffice.
func (s *Store) Tag(ctx context.Context, ref Ref, desc ocispec.Descriptor) error {
	return s.TagAll(ctx, []Ref{ref}, desc)
}

// TagAll is Tag for several names at once: the image gets all of them, or none.
func (s *Store) TagAll(ctx context.Context, refs []Ref, desc ocispec.Descriptor) error {
	var names []Ref
	var shown []string
	for _, ref := range refs {
		ref = ref.entryName()
		if ref.IsZero() || ref.digest != "" && ref.digest != desc.Digest {
			return &RefError{Name: ref.String(), Err: errTagName}
		}
		names, shown = append(names, ref), append(shown, ref.Familiar())
	}
	if len(names) == 0 {
		return nil
	}
	if err := s.tag(ctx, names, desc); err != nil {
		return fmt.Errorf("tag %s: %w", strings.Join(shown, ", "), err)
	}
	return nil
}

func (s *Store) tag(ctx context.Context, names []Ref, desc ocispec.Descriptor) error {
	// The slow part is done before the lock. Under it everything is marked as
	// used once more: a prune that read the table earlier sees that.
	needs, err := s.useAll(ctx, desc)
	if err != nil {
		return err
	}
	if err := errors.Join(needs.sync(ctx, s), s.allow(ctx)); err != nil {
		return err
	}
	return s.changeIndex(ctx, func(index *ocispec.Index) (changed bool, err error) {
		if err := needs.use(s); err != nil {
			return false, err
		}
		for _, ref := range names {
			changed = setEntry(index, ref, desc, needs.whole()) || changed
		}
		return changed, nil
	})
}

// Keep puts a manifest or an index into the table without a name: what Tag does
// for what nobody asks for by name, such as an artifact that is about an image.
func (s *Store) Keep(ctx context.Context, desc ocispec.Descriptor) error {
	return s.keep(ctx, withoutName(desc), "")
}

// keep puts an entry without a name in the place of an earlier one, if there was
// one.
func (s *Store) keep(ctx context.Context, desc ocispec.Descriptor, earlier digest.Digest) error {
	needs, err := s.useAll(ctx, desc)
	if err == nil {
		err = errors.Join(needs.sync(ctx, s), s.allow(ctx))
	}
	if err != nil {
		return fmt.Errorf("keep %s: %w", desc.Digest, err)
	}
	err = s.changeIndex(ctx, func(index *ocispec.Index) (bool, error) {
		if err := needs.use(s); err != nil {
			return false, err
		}
		if slices.ContainsFunc(index.Manifests, func(m ocispec.Descriptor) bool { return m.Digest == desc.Digest }) {
			return false, nil
		}
		index.Manifests = slices.DeleteFunc(index.Manifests, func(m ocispec.Descriptor) bool { return earlier != "" && m.Digest == earlier })
		index.Manifests = append(index.Manifests, desc)
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("keep %s: %w", desc.Digest, err)
	}
	return nil
}

var errTagName = errors.New("a name with a digest names that digest only")

// setEntry reports whether the table was changed. An image that is not whole
// here has no name as the layout's: other programs could not read it.
func setEntry(index *ocispec.Index, ref Ref, desc ocispec.Descriptor, whole bool) bool {
	entry := withName(desc, ref.Familiar(), ref.String())
	if !whole {
		delete(entry.Annotations, ocispec.AnnotationRefName)
	}
	at := slices.IndexFunc(index.Manifests, func(m ocispec.Descriptor) bool { return isNamed(m, ref) })
	if at < 0 {
		index.Manifests = append(index.Manifests, entry)
		return true
	}
	before := len(index.Manifests)
	same := sameEntry(index.Manifests[at], entry)
	index.Manifests[at] = entry
	rest := slices.DeleteFunc(index.Manifests[at+1:], func(m ocispec.Descriptor) bool { return isNamed(m, ref) })
	index.Manifests = index.Manifests[:at+1+len(rest)]
	return !same || len(index.Manifests) != before
}

func sameEntry(a, b ocispec.Descriptor) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func isNamed(m ocispec.Descriptor, ref Ref) bool {
	have, ok := entryRef(m)
	return ok && have == ref
}

// Untag removes a name. The image stays until a prune. A name that is not
// there is ErrNotFound.
func (s *Store) Untag(ctx context.Context, ref Ref) error {
	ref = ref.entryName()
	err := s.changeIndex(ctx, func(index *ocispec.Index) (bool, error) {
		before := len(index.Manifests)
		index.Manifests = slices.DeleteFunc(index.Manifests, func(m ocispec.Descriptor) bool { return isNamed(m, ref) })
		if len(index.Manifests) == before {
			return false, ErrNotFound
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("untag %s: %w", ref.Familiar(), err)
	}
	return nil
}

// References lists the names in the order of their full text.
func (s *Store) References(ctx context.Context) ([]Reference, error) {
	list, err := s.entries(ctx)
	return slices.DeleteFunc(list, func(r Reference) bool { return r.Ref.IsZero() }), err
}

// entries lists the table.
func (s *Store) entries(ctx context.Context) ([]Reference, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	return tableEntries(index), nil
}

// tableEntries lists the names in the order of their full text, and after them
// what has no readable name.
func tableEntries(index *ocispec.Index) []Reference {
	var named, rest []Reference
	seen := make(map[Ref]bool)
	for _, m := range index.Manifests {
		ref, ok := entryRef(m)
		switch {
		case !ok:
			rest = append(rest, Reference{Descriptor: m})
		case !seen[ref]:
			seen[ref] = true
			named = append(named, Reference{ref, withoutName(m)})
		}
	}
	return append(sortByName(named), rest...)
}

// sortByName spells each name once: a comparison that did so for both would be most of
// what a list of many images costs.
func sortByName(list []Reference) []Reference {
	type place struct {
		name string
		at   int
	}
	order := make([]place, len(list))
	for i := range list {
		order[i] = place{list[i].Ref.String(), i}
	}
	slices.SortFunc(order, func(a, b place) int { return strings.Compare(a.name, b.name) })
	sorted := make([]Reference, len(list))
	for i, p := range order {
		sorted[i] = list[p.at]
	}
	return sorted
}

// Lookup finds what a name stands for. A reference with a digest finds an
// image of that repository with that digest, whatever its tag. What is not
// there is ErrNotFound.
func (s *Store) Lookup(ctx context.Context, ref Ref) (ocispec.Descriptor, error) {
	list, err := s.References(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	ref = ref.WithDefaultTag()
	for _, r := range list {
		if matches(r, ref) {
			return r.Descriptor, nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("image %s: %w", ref.Familiar(), ErrNotFound)
}

func matches(r Reference, want Ref) bool {
	if want.digest == "" || r.Ref.IsZero() {
		return r.Ref == want
	}
	return r.Ref.host == want.host && r.Ref.repo == want.repo && r.Descriptor.Digest == want.digest
}

func digestsOf(descs []ocispec.Descriptor) []digest.Digest {
	list := make([]digest.Digest, 0, len(descs))
	for _, d := range descs {
		list = append(list, d.Digest)
	}
	return list
}
