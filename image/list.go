package image

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ListOptions says which images List gives. The zero value wants all that have
// names. Of several references any one suffices, of several labels all are
// needed.
type ListOptions struct {
	// Unnamed lists images that no name leads to as well, or, with Dangling
	// true, alone.
	Unnamed  bool
	Dangling *bool

	// Shared wants the Shared of each image, among all that would be listed
	// without what follows.
	Shared bool
	// Disk wants the Disk of each image.
	Disk bool

	// References are patterns as Ref.Match takes them; Name is one more, which
	// must match beside them.
	References []string
	Name       string
	// Labels are KEY or KEY=VALUE, of the image that stands for the whole.
	Labels []string
	// Before and Since name images: what was made before, or after, them.
	Before, Since string
	// Until wants what was made before that time.
	Until time.Time
}

// List gives the images of the store, the newest first. One that cannot be read
// is in the list with its Err, unless the options ask for what only reading it
// could tell. Nothing is marked as used.
func (s *Store) List(ctx context.Context, o ListOptions) ([]Summary, error) {
	m := s.openMemo()
	defer m.save()
	list, err := s.list(ctx, m, o.Unnamed || o.Dangling != nil && *o.Dangling)
	if err != nil {
		return nil, err
	}
	if o.Shared {
		countShared(list)
	}
	keep, err := o.filter(ctx, m, list)
	if err != nil {
		return nil, err
	}
	var wanted []Summary
	for i := range list {
		if keep(&list[i]) {
			wanted = append(wanted, list[i])
		}
	}
	if o.Disk {
		s.countDisk(wanted)
	}
	return newestFirst(wanted), nil
}

// newestFirst sorts by the time of creation; what is alike keeps its order.
func newestFirst(list []Summary) []Summary {
	type place struct {
		at   int
		time int64
	}
	order := make([]place, len(list))
	for i := range list {
		order[i] = place{i, unixTime(list[i].Created()).Unix()}
	}
	slices.SortStableFunc(order, func(a, b place) int { return cmp.Compare(b.time, a.time) })
	sorted := make([]Summary, len(list))
	for i, p := range order {
		sorted[i] = list[p.at]
	}
	return sorted
}

// list gives what has a name and, with loose, all else that there is.
func (s *Store) list(ctx context.Context, m *memo, loose bool) ([]Summary, error) {
	list, err := s.tableSummaries(ctx, m)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(i Summary) bool { return i.isLayerRecord() })
	if !loose {
		return slices.DeleteFunc(list, func(i Summary) bool { return len(i.Refs) == 0 }), nil
	}
	more, err := s.looseImages(ctx, m, list)
	return append(list, more...), err
}

// tableSummaries gives what the table has: what has a name in the order of the
// names, then the rest.
func (s *Store) tableSummaries(ctx context.Context, m *memo) ([]Summary, error) {
	entries, err := m.entries(ctx)
	if err != nil {
		return nil, err
	}
	var list []Summary
	place := make(map[digest.Digest]int)
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		at, ok := place[e.Descriptor.Digest]
		if !ok {
			at = len(list)
			place[e.Descriptor.Digest] = at
			list = append(list, m.summarise(ctx, e.Descriptor))
			list[at].Listed = true
		}
		if !e.Ref.IsZero() {
			list[at].Refs = append(list[at].Refs, e.Ref)
		}
	}
	return list, nil
}

// looseImages finds the manifests and indexes among the blobs that nothing in
// the table leads to. Other forms of listed images, such as the one a push has
// compressed, are left out.
func (s *Store) looseImages(ctx context.Context, m *memo, listed []Summary) ([]Summary, error) {
	known := make(map[digest.Digest]bool)
	for i := range listed {
		known[listed[i].ID()] = true
		for _, member := range listed[i].Members {
			known[member.ID] = true
		}
		for _, b := range listed[i].Blobs() {
			known[b.Digest] = true
		}
	}
	found, err := s.documentBlobs(ctx, known)
	if err != nil {
		return nil, err
	}
	var list []Summary
	inner := make(map[digest.Digest]bool) // parts of loose indexes
	for _, desc := range found {
		summary := m.summarise(ctx, desc)
		if summary.Err != nil || summary.isLayerRecord() {
			continue
		}
		list = append(list, summary)
		if summary.IsIndex {
			for _, b := range summary.Blobs() {
				inner[b.Digest] = inner[b.Digest] || b.Digest != desc.Digest
			}
		}
	}
	// Indexes go first: they make their images known.
	slices.SortStableFunc(list, func(a, b Summary) int { return boolInt(b.IsIndex) - boolInt(a.IsIndex) })
	return slices.DeleteFunc(list, func(i Summary) bool { return inner[i.Descriptor.Digest] || !i.news(known) }), nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// news reports whether the summary has an image that is not known yet, and
// makes its images known.
func (s *Summary) news(known map[digest.Digest]bool) bool {
	fresh := false
	for _, m := range s.Members {
		fresh = fresh || m.Present && !known[m.ID]
	}
	for _, m := range s.Members {
		known[m.ID] = true
	}
	return fresh
}

// documentBlobs finds the blobs that are manifests or indexes by looking into
// those that may be.
func (s *Store) documentBlobs(ctx context.Context, without map[digest.Digest]bool) ([]ocispec.Descriptor, error) {
	var list []ocispec.Descriptor
	err := s.eachBlob(func(b blobFile) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if without[b.digest] || b.info.Size() > maxManifest || !beginsDocument(b.path) {
			return nil
		}
		if mediaType := documentType(b.path); mediaType != "" {
			list = append(list, ocispec.Descriptor{MediaType: mediaType, Digest: b.digest, Size: b.info.Size()})
		}
		return nil
	})
	return list, err
}

// documentType is the media type of a file that is a manifest or index; empty
// for anything else.
func documentType(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	var head struct {
		MediaType string              `json:"mediaType"`
		Config    *ocispec.Descriptor `json:"config"`
	}
	doc, err := decodeDocument("", text)
	if err != nil || json.Unmarshal(text, &head) != nil {
		return ""
	}
	switch {
	case doc.index != nil:
		return orDefault(doc.index.MediaType, ocispec.MediaTypeImageIndex)
	case head.Config == nil:
		return ""
	}
	return orDefault(doc.manifest.MediaType, ocispec.MediaTypeImageManifest)
}

// filter gives the function that tells what of the list is wanted. It drops
// the names that are not.
func (o ListOptions) filter(ctx context.Context, m *memo, list []Summary) (func(*Summary) bool, error) {
	before, err := m.moment(ctx, list, o.Before)
	if err != nil {
		return nil, err
	}
	since, err := m.moment(ctx, list, o.Since)
	if err != nil {
		return nil, err
	}
	return func(i *Summary) bool {
		created := unixTime(i.Created())
		switch {
		case o.Dangling != nil && *o.Dangling != (len(i.Refs) == 0),
			o.Before != "" && !created.Before(before),
			o.Since != "" && !created.After(since),
			!o.Until.IsZero() && !created.Before(o.Until),
			!i.hasLabels(o.Labels):
			return false
		}
		return i.keepNames(o.References) && (o.Name == "" || i.keepNames([]string{o.Name}))
	}, nil
}

// moment is when the named image was made.
func (m *memo) moment(ctx context.Context, list []Summary, name string) (time.Time, error) {
	if name == "" {
		return time.Time{}, nil
	}
	found, err := m.store.resolveIn(ctx, m, name)
	if err != nil {
		return time.Time{}, err
	}
	for i := range list {
		if list[i].Descriptor.Digest == found.Descriptor.Digest {
			return unixTime(list[i].Created()), nil
		}
	}
	s := m.summarise(ctx, found.Descriptor)
	return unixTime(s.Created()), s.Err
}

// unixTime is a time in whole seconds, and the epoch for none.
func unixTime(t *time.Time) time.Time {
	if t == nil {
		return time.Unix(0, 0)
	}
	return time.Unix(t.Unix(), 0)
}

func (s *Summary) hasLabels(wanted []string) bool {
	if len(wanted) == 0 {
		return true
	}
	main, _ := s.Main()
	for _, want := range wanted {
		key, value, hasValue := strings.Cut(want, "=")
		got, ok := main.Labels()[key]
		if !ok || hasValue && got != value {
			return false
		}
	}
	return true
}

// keepNames drops the names that match no pattern, and reports whether any is
// left. Without patterns everything stays.
func (s *Summary) keepNames(patterns []string) bool {
	if len(patterns) == 0 {
		return true
	}
	s.Refs = slices.DeleteFunc(slices.Clone(s.Refs), func(r Ref) bool {
		return !slices.ContainsFunc(patterns, r.Match)
	})
	return len(s.Refs) > 0
}

// Match matches a name with a pattern as Docker does: that of a repository or
// of a repository with its tag, short or in full; * and ? stay within a
// component.
func (r Ref) Match(pattern string) bool {
	for _, candidate := range []string{r.FamiliarName(), r.Familiar(), r.name(), r.String()} {
		if ok, _ := path.Match(pattern, candidate); ok {
			return true
		}
	}
	return false
}
