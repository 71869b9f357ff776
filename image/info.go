package image

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Info is everything about one image, in the shape of docker image inspect and
// with more fields after its.
type Info struct {
	Id           digest.Digest
	RepoTags     []string
	RepoDigests  []string
	Comment      string
	Created      *time.Time `json:",omitempty"`
	Author       string
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	OsVersion    string `json:",omitempty"`
	// Size is what the image takes in the store when it is whole; of an index all
	// that is there. Away of that is at registries alone.
	Size   int64
	Away   int64 `json:",omitempty"`
	RootFS InfoRootFS
	Config *RunConfig `json:",omitempty"`
	// Descriptor is what the names stand for, an index or a manifest; Manifest
	// is the one that everything else here is about.
	Descriptor   ocispec.Descriptor
	Manifest     ocispec.Descriptor
	ConfigDigest digest.Digest
	ArtifactType string        `json:",omitempty"`
	Subject      digest.Digest `json:",omitempty"`
	Layers       []InfoLayer
	Annotations  map[string]string `json:",omitempty"`
	// Manifests are those of an index.
	Manifests []InfoManifest `json:",omitempty"`
	// Referrers are what the store has about the image: manifests that have it
	// for their subject.
	Referrers []InfoManifest `json:",omitempty"`
}

// InfoRootFS is Docker's list of the diff ids.
type InfoRootFS struct {
	Type   string
	Layers []digest.Digest
}

// InfoLayer is a layer of an image. ChainID identifies it together with all
// below it.
type InfoLayer struct {
	Digest    digest.Digest
	MediaType string
	Size      int64
	DiffID    digest.Digest `json:",omitempty"`
	ChainID   digest.Digest `json:",omitempty"`
	// At names the repositories that have a layer which is not in the store.
	At []string `json:",omitempty"`
}

// InfoManifest is a manifest that an index names, or that is about an image.
type InfoManifest struct {
	Digest       digest.Digest
	Kind         Kind
	Platform     string `json:",omitempty"`
	Present      bool
	Size         int64         `json:",omitempty"` // of it, its config and its layers
	Id           digest.Digest `json:",omitempty"`
	ArtifactType string        `json:",omitempty"`
	Subject      digest.Digest `json:",omitempty"`
}

// Inspect tells everything about the image that name stands for, as Resolve
// finds it. Of an index the fields about one image are those of want's, or with
// nil of the one that Select gives; the id is the index's own unless want is
// set. Nothing is marked as used.
func (s *Store) Inspect(ctx context.Context, name string, want *ocispec.Platform) (*Info, error) {
	m := s.openMemo()
	defer m.save()
	found, err := s.resolveIn(ctx, m, name)
	if err != nil {
		return nil, err
	}
	summary := m.summarise(ctx, found.Descriptor)
	if summary.Err != nil {
		return nil, summary.Err
	}
	info := &Info{Id: summary.ID(), Size: summary.Size(), Descriptor: found.Descriptor, RepoTags: []string{}, RepoDigests: []string{}, Layers: []InfoLayer{}}
	img, err := s.Select(ctx, found.Descriptor, want)
	var other *NotImageError
	switch {
	case err == nil:
		info.addImage(img)
	case errors.As(err, &other) && want == nil:
		err = info.addArtifact(ctx, s, found.Descriptor)
	}
	if err != nil {
		return nil, err
	}
	if summary.IsIndex {
		info.addMembers(&summary, img, want != nil)
	}
	info.addPlaces(s)
	return info, info.addTable(ctx, m)
}

func (i *Info) addImage(img *Image) {
	i.Created, i.Author, i.Config = img.Config.Created, img.Config.Author, &img.Config.Config
	i.Architecture, i.Variant = img.Config.Architecture, img.Config.Variant
	i.Os, i.OsVersion = img.Config.OS, img.Config.OSVersion
	i.RootFS = InfoRootFS{Type: img.Config.RootFS.Type, Layers: img.Config.RootFS.DiffIDs}
	if n := len(img.Config.History); n > 0 {
		i.Comment = img.Config.History[n-1].Comment
	}
	i.addManifest(img.Descriptor, &img.Manifest)
	for n, chain := range ChainIDs(img.Config.RootFS.DiffIDs) {
		i.Layers[n].DiffID, i.Layers[n].ChainID = img.Config.RootFS.DiffIDs[n], chain
	}
}

func (i *Info) addManifest(desc ocispec.Descriptor, m *ocispec.Manifest) {
	i.Manifest = ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
	i.ConfigDigest, i.ArtifactType, i.Annotations = m.Config.Digest, m.ArtifactType, m.Annotations
	if m.Subject != nil {
		i.Subject = m.Subject.Digest
	}
	for _, l := range m.Layers {
		i.Layers = append(i.Layers, InfoLayer{Digest: l.Digest, MediaType: l.MediaType, Size: l.Size})
	}
}

// addPlaces tells where layers are that are not in the store.
func (i *Info) addPlaces(s *Store) {
	seen := make(map[digest.Digest]bool)
	for n, l := range i.Layers {
		if s.there(l.Digest) {
			continue
		}
		for host, name := range s.Places(l.Digest) {
			i.Layers[n].At = append(i.Layers[n].At, Place{host, name}.String())
		}
		if len(i.Layers[n].At) > 0 && !seen[l.Digest] {
			seen[l.Digest] = true
			i.Away += l.Size
		}
	}
}

func (i *Info) addArtifact(ctx context.Context, s *Store, desc ocispec.Descriptor) error {
	doc, err := readDocument(ctx, s, desc)
	if err != nil || doc.manifest == nil {
		return err
	}
	i.addManifest(desc, doc.manifest)
	i.ArtifactType = orDefault(i.ArtifactType, doc.manifest.Config.MediaType)
	return nil
}

// addMembers tells what an index has. When one platform is asked for, the id
// and the size are those of its image.
func (i *Info) addMembers(s *Summary, img *Image, one bool) {
	for _, m := range s.Members {
		i.Manifests = append(i.Manifests, m.info())
		if one && img != nil && m.Descriptor.Digest == img.Descriptor.Digest {
			i.Id, i.Size = m.ID, m.Size
		}
	}
}

func (m *Member) info() InfoManifest {
	i := InfoManifest{
		Digest: m.Descriptor.Digest, Kind: m.Kind, Present: m.Present, Id: m.ID,
		ArtifactType: m.ArtifactType, Subject: orDigest(digest.Digest(m.Descriptor.Annotations[attestationOf]), m.Subject),
	}
	if m.Platform.OS != "" {
		i.Platform = FormatPlatform(m.Platform)
	}
	if m.Present {
		i.Size = m.Size
	}
	return i
}

func orDigest(a, b digest.Digest) digest.Digest {
	if a != "" {
		return a
	}
	return b
}

// addTable fills in what the table says: the names that lead to the image, and
// what is about it.
func (i *Info) addTable(ctx context.Context, m *memo) error {
	entries, err := m.entries(ctx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Descriptor.Digest == i.Descriptor.Digest && !e.Ref.IsZero() {
			i.addName(e.Ref)
		}
	}
	about, err := m.referrers(ctx, i.Descriptor.Digest, i.Manifest.Digest)
	for _, r := range about {
		i.Referrers = append(i.Referrers, r.info())
	}
	return err
}

// Referrers gives the manifests of the store that are about another: whose
// subject it is.
func (s *Store) Referrers(ctx context.Context, subject digest.Digest) ([]ocispec.Descriptor, error) {
	m := s.openMemo()
	defer m.save()
	about, err := m.referrers(ctx, subject)
	var list []ocispec.Descriptor
	for _, r := range about {
		r.Descriptor.Platform = nil
		list = append(list, r.Descriptor)
	}
	return list, err
}

// referrers looks through the table for what has one of the subjects, each once.
func (m *memo) referrers(ctx context.Context, subjects ...digest.Digest) ([]Member, error) {
	entries, err := m.entries(ctx)
	if err != nil {
		return nil, err
	}
	var list []Member
	seen := make(map[digest.Digest]bool)
	for _, e := range entries {
		d := e.Descriptor.Digest
		if seen[d] || !isManifestType(e.Descriptor.MediaType) || !m.mayMention(d, subjects...) {
			continue
		}
		seen[d] = true
		about := m.summarise(ctx, e.Descriptor)
		for _, r := range about.Members {
			if r.Subject != "" && slices.Contains(subjects, r.Subject) {
				list = append(list, r)
			}
		}
	}
	return list, ctx.Err()
}

func (i *Info) addName(ref Ref) {
	if ref.tag != "" {
		i.RepoTags = append(i.RepoTags, ref.Familiar())
	}
	if name := ref.FamiliarName() + "@" + i.Descriptor.Digest.String(); !slices.Contains(i.RepoDigests, name) {
		i.RepoDigests = append(i.RepoDigests, name)
	}
}

// Raw gives the bytes of the manifest or index that name stands for, or of the
// manifest for a platform of it, or, with config, of the image's config.
func (s *Store) Raw(ctx context.Context, name string, want *ocispec.Platform, config bool) ([]byte, error) {
	desc, err := s.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	if want == nil && !config {
		return s.ReadBlob(ctx, desc, maxManifest)
	}
	img, err := s.Select(ctx, desc, want)
	if err != nil {
		return nil, err
	}
	if config {
		return s.ReadBlob(ctx, img.Manifest.Config, maxConfig)
	}
	return s.ReadBlob(ctx, img.Descriptor, maxManifest)
}
