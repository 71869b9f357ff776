package image

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/ocibuild/ocibuild/image/usage"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Summary is an image as lists show it: a manifest or an index with the names
// that stand for it.
type Summary struct {
	// Descriptor is what the names stand for.
	Descriptor ocispec.Descriptor
	// Refs are the names in the order of their full text; none for an image
	// that no name leads to.
	Refs []Ref
	// Listed says that the reference table has the image, with a name or without:
	// no prune takes it.
	Listed bool
	// IsIndex says that Descriptor is an index. It may name images that are
	// not in the store: those of other platforms that were not fetched.
	IsIndex bool
	// Annotations are those of the index.
	Annotations map[string]string
	// Members are the manifests that the index and the indexes in it name, or
	// the manifest itself.
	Members []Member
	// Shared is how many of the bytes of Size other images need too; zero unless
	// it was asked for.
	Shared int64
	// Disk is what the files of its blobs take on the disk; zero unless it was asked for.
	Disk int64
	// Err says why nothing more is known: something is missing or damaged.
	Err error

	documents []Blob // the indexes
}

// Member is one manifest of an image.
type Member struct {
	// Descriptor is as the index has it, its platform filled in.
	Descriptor ocispec.Descriptor
	// Present says that the manifest is in the store. Of one that is not, Facts
	// has the kind and the platform alone.
	Present bool
	Facts
}

// Main is the member that stands for the image where one must: this machine's,
// else the first image that is there, else the first manifest that is there.
func (s *Summary) Main() (m Member, ok bool) {
	if !s.IsIndex && len(s.Members) == 1 {
		return s.Members[0], true
	}
	host := HostPlatform()
	rank := func(m Member) int {
		switch {
		case !m.Present:
			return 3
		case m.Kind != KindImage:
			return 2
		}
		if _, fits := platformDistance(host, m.Platform); fits {
			return 0
		}
		return 1
	}
	best := 3
	for _, candidate := range s.Members {
		if r := rank(candidate); r < best {
			m, ok, best = candidate, true, r
		}
	}
	return m, ok
}

// ID is the id of the image: the config's digest, or the index's own.
func (s *Summary) ID() digest.Digest {
	if s.IsIndex || len(s.Members) == 0 {
		return s.Descriptor.Digest
	}
	return s.Members[0].ID
}

// Created is when the image was made; nil where nothing says so.
func (s *Summary) Created() *time.Time {
	m, _ := s.Main()
	return m.Created
}

// Images are the members that are container images, there or not.
func (s *Summary) Images() []Member {
	return slices.DeleteFunc(slices.Clone(s.Members), func(m Member) bool { return m.Kind != KindImage })
}

// Blobs are all blobs of the image that are in the store, each once: indexes,
// manifests, configs and layers.
func (s *Summary) Blobs() []Blob {
	seen := make(map[digest.Digest]bool)
	var list []Blob
	add := func(blobs ...Blob) {
		for _, b := range blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				list = append(list, b)
			}
		}
	}
	add(s.documents...)
	for _, m := range s.Members {
		if m.Present {
			add(blobOf(m.Descriptor))
			add(m.Blobs()...)
		}
	}
	return list
}

// Size is what the image takes in the store: the sum of its Blobs.
func (s *Summary) Size() int64 {
	if !s.IsIndex && len(s.Members) == 1 {
		return s.Members[0].Size
	}
	var n int64
	for _, b := range s.Blobs() {
		n += b.Size
	}
	return n
}

// countShared fills in Shared of all images of the store.
func countShared(list []Summary) {
	users := make(map[digest.Digest]int)
	for i := range list {
		for _, b := range list[i].Blobs() {
			users[b.Digest]++
		}
	}
	for i := range list {
		for _, b := range list[i].Blobs() {
			if users[b.Digest] > 1 {
				list[i].Shared += b.Size
			}
		}
	}
}

// countDisk fills in Disk.
func (s *Store) countDisk(list []Summary) {
	known := make(map[digest.Digest]int64)
	for i := range list {
		for _, b := range list[i].Blobs() {
			n, ok := known[b.Digest]
			if !ok {
				if info, err := os.Lstat(s.blobPath(b.Digest)); err == nil {
					n = usage.Of(info)
				}
				known[b.Digest] = n
			}
			list[i].Disk += n
		}
	}
}

// summarise reads what desc is. What cannot be read is told in Err.
func (m *memo) summarise(ctx context.Context, desc ocispec.Descriptor) Summary {
	s := Summary{Descriptor: desc}
	s.Err = m.collect(ctx, &s, desc, 0)
	return s
}

// collect adds what desc names to the summary.
func (m *memo) collect(ctx context.Context, s *Summary, desc ocispec.Descriptor, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("index %s: more than %d indexes within each other", desc.Digest, maxDepth)
	}
	present := m.store.there(desc.Digest)
	switch {
	case !present && depth == 0:
		return missing(desc.Digest)
	case !present:
		s.addAbsent(desc)
		return nil
	case depth > 0 && !isIndexType(desc.MediaType) && !isManifestType(desc.MediaType):
		s.documents = append(s.documents, blobOf(desc))
		return nil
	}
	r, err := m.document(ctx, desc)
	if err != nil {
		return err
	}
	if r.Facts != nil {
		s.Members = append(s.Members, newMember(desc, *r.Facts))
		return nil
	}
	if !s.IsIndex {
		s.IsIndex, s.Annotations = true, r.Annotations
	}
	s.documents = append(s.documents, blobOf(desc))
	for _, child := range r.Entries {
		if err := m.collect(ctx, s, child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// newMember is a manifest that is there. What an index says of it goes before
// what it says itself.
func newMember(desc ocispec.Descriptor, f Facts) Member {
	if desc.Platform != nil {
		f.Platform = *desc.Platform
	} else {
		desc.Platform = &f.Platform
	}
	if desc.Annotations[attestationType] != "" {
		f.Kind = KindAttestation
	}
	return Member{Descriptor: desc, Present: true, Facts: f}
}

// addAbsent adds what is named and not there. A nested index that is not there
// counts as nothing: nobody knows what it has.
func (s *Summary) addAbsent(desc ocispec.Descriptor) {
	if !isManifestType(desc.MediaType) {
		return
	}
	m := Member{Descriptor: desc, Facts: Facts{Kind: KindImage, ArtifactType: desc.ArtifactType}}
	switch {
	case desc.Annotations[attestationType] != "":
		m.Kind = KindAttestation
	case desc.Platform == nil || desc.ArtifactType != "":
		m.Kind = KindArtifact
	}
	if desc.Platform != nil {
		m.Platform = *desc.Platform
	}
	s.Members = append(s.Members, m)
}

// Role tells what a blob is to the image: "index", "manifest", "config" or "layer";
// empty for a blob that is not of it.
func (s *Summary) Role(d digest.Digest) string {
	for _, b := range s.documents {
		if b.Digest == d {
			return "index"
		}
	}
	for _, m := range s.Members {
		if m.Descriptor.Digest == d {
			return "manifest"
		}
		for i, b := range m.Blobs() {
			switch {
			case b.Digest != d:
			case i == 0:
				return "config"
			default:
				return "layer"
			}
		}
	}
	return ""
}
