package image

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ArchiveFormat is a kind of archive that Save writes.
type ArchiveFormat string

const (
	// DockerArchive is what docker save of Docker 25 and later writes: an OCI
	// image layout with manifest.json and repositories beside it.
	DockerArchive ArchiveFormat = "docker"

	// OCIArchive is an OCI image layout as a tar.
	OCIArchive ArchiveFormat = "oci"
)

// SaveOptions says what Save writes.
type SaveOptions struct {
	Format ArchiveFormat
	// Platforms are those whose images are written; none means all that the
	// store has. An index is written as it is, whatever of it is left out.
	Platforms []ocispec.Platform
}

// Save writes images as one tar. The names are those that Resolve takes; one
// without tag or digest stands for all tags of the repository. The same images
// under the same names give the same bytes. What is read is verified; after an
// error the tar is incomplete.
func (s *Store) Save(ctx context.Context, w io.Writer, names []string, o SaveOptions) error {
	lease, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	var images []Reference
	for _, name := range names {
		found, err := s.Named(ctx, name)
		if err != nil {
			return err
		}
		images = append(images, found...)
	}
	return s.SaveReferences(ctx, w, images, o)
}

// Named finds an image as Resolve does, and all tags of the repository when name
// is its bare name.
func (s *Store) Named(ctx context.Context, name string) ([]Reference, error) {
	table, err := s.References(ctx)
	if err != nil {
		return nil, err
	}
	ref, err := ParseRef(name)
	if err == nil && ref.tag == "" && ref.digest == "" {
		var list []Reference
		for _, r := range table {
			if r.Ref.name() == ref.name() {
				list = append(list, r)
			}
		}
		if len(list) > 0 {
			return list, nil
		}
	}
	found, err := s.find(ctx, name)
	return []Reference{found}, err
}

// SaveReferences writes images as one tar, under the names they are given; a
// zero Ref is an image without a name. It is Save for images that Portable
// made. Hold a lease.
func (s *Store) SaveReferences(ctx context.Context, w io.Writer, images []Reference, o SaveOptions) error {
	a, err := s.planArchive(ctx, images, o)
	if err == nil {
		err = a.write(ctx, w)
	}
	if err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	return nil
}

// archiveEntry is one member of the tar: text, or a blob.
type archiveEntry struct {
	name string
	dir  bool
	text []byte
	blob ocispec.Descriptor
}

type archivePlan struct {
	store   *Store
	entries []archiveEntry
}

func (s *Store) planArchive(ctx context.Context, images []Reference, o SaveOptions) (*archivePlan, error) {
	f := o.Format
	if f != DockerArchive && f != OCIArchive {
		return nil, fmt.Errorf("archive format %q is not known (docker and oci are)", string(f))
	}
	if len(images) == 0 {
		return nil, errors.New("no image is named")
	}
	images = uniqueReferences(images)
	a := &archivePlan{store: s}
	index := newIndex()
	for _, r := range images {
		if err := a.addImage(ctx, r.Descriptor, o.Platforms); err != nil {
			return nil, err
		}
		index.Manifests = append(index.Manifests, archiveName(r, f))
	}
	layout, _ := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	a.addText(ocispec.ImageLayoutFile, layout)
	a.addText(ocispec.ImageIndexFile, encodeIndex(index))
	if f == DockerArchive {
		if err := a.addDockerFiles(ctx, images, o.Platforms); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(a.entries, func(x, y archiveEntry) int { return cmp.Compare(x.name, y.name) })
	a.entries = slices.CompactFunc(a.entries, func(x, y archiveEntry) bool { return x.name == y.name })
	return a, nil
}

// addImage adds all that the image needs, or what it needs for some platforms.
func (a *archivePlan) addImage(ctx context.Context, desc ocispec.Descriptor, platforms []ocispec.Platform) error {
	if err := a.store.Complete(ctx, desc, platforms...); err != nil {
		return err
	}
	found, err := needed(ctx, a.store, a.store.Use, desc, platforms)
	a.addBlobs(found)
	return err
}

// needed lists everything that an image needs for some platforms, or for all.
func needed(ctx context.Context, from blobReader, present func(digest.Digest) bool, desc ocispec.Descriptor, platforms []ocispec.Platform) ([]ocispec.Descriptor, error) {
	without, err := leaveOut(ctx, from, desc, platforms)
	if err != nil {
		return nil, err
	}
	c := closure{from: from, present: func(d digest.Digest) bool { return !without[d] && present(d) }}
	there, err := c.walk(ctx, desc, 0)
	if err == nil && !there {
		err = missing(desc.Digest)
	}
	return c.found, err
}

func uniqueReferences(list []Reference) []Reference {
	type key struct {
		ref    Ref
		digest digest.Digest
	}
	seen := make(map[key]bool)
	var unique []Reference
	for _, r := range list {
		k := key{r.Ref.WithDefaultTag(), r.Descriptor.Digest}
		if !seen[k] {
			seen[k] = true
			unique = append(unique, Reference{k.ref, withoutName(r.Descriptor)})
		}
	}
	return unique
}

// archiveName is the image's line in the archive's index.json. Docker writes
// the tag alone as the layout's name.
func archiveName(r Reference, f ArchiveFormat) ocispec.Descriptor {
	switch {
	case r.Ref.IsZero():
		return r.Descriptor
	case f == DockerArchive:
		return withName(r.Descriptor, r.Ref.tag, r.Ref.String())
	}
	return withName(r.Descriptor, r.Ref.Familiar(), r.Ref.String())
}

func (a *archivePlan) addText(name string, text []byte) {
	a.entries = append(a.entries, archiveEntry{name: name, text: text})
}

func (a *archivePlan) addBlobs(list []ocispec.Descriptor) {
	dirs := map[string]bool{"blobs/": true}
	for _, d := range list {
		dirs["blobs/"+d.Digest.Algorithm().String()+"/"] = true
		a.entries = append(a.entries, archiveEntry{name: blobName(d.Digest), blob: d})
	}
	for dir := range dirs {
		a.entries = append(a.entries, archiveEntry{name: dir, dir: true})
	}
}

func blobName(d digest.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
}

// dockerImage is one element of manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// addDockerFiles adds what Docker before 25 reads: manifest.json, one element
// an image, and repositories. Of an index they have one image: the first of the
// wanted platforms.
func (a *archivePlan) addDockerFiles(ctx context.Context, images []Reference, platforms []ocispec.Platform) error {
	var want *ocispec.Platform
	if len(platforms) > 0 {
		want = &platforms[0]
	}
	list := []dockerImage{}
	place := make(map[digest.Digest]int)
	repositories := make(map[string]map[string]string)
	for _, r := range images {
		img, err := a.store.selectImage(ctx, r.Descriptor, want)
		var other *NotImageError
		if errors.As(err, &other) {
			continue // the layout beside it has it
		}
		if err != nil {
			return err
		}
		at, ok := place[img.Descriptor.Digest]
		if !ok {
			at = len(list)
			place[img.Descriptor.Digest] = at
			list = append(list, describeImage(img))
		}
		if r.Ref.tag == "" {
			continue
		}
		list[at].RepoTags = append(list[at].RepoTags, r.Ref.Familiar())
		tags := repositories[r.Ref.familiarName()]
		if tags == nil {
			tags = make(map[string]string)
			repositories[r.Ref.familiarName()] = tags
		}
		tags[r.Ref.tag] = topDigest(img).Encoded()
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	a.addText("manifest.json", text)
	if len(repositories) > 0 {
		if text, err = json.Marshal(repositories); err != nil {
			return err
		}
		a.addText("repositories", text)
	}
	return nil
}

func describeImage(img *Image) dockerImage {
	d := dockerImage{Config: blobName(img.ID()), Layers: []string{}}
	for _, l := range img.Layers {
		d.Layers = append(d.Layers, blobName(l.Descriptor.Digest))
	}
	return d
}

func topDigest(img *Image) digest.Digest {
	if n := len(img.Layers); n > 0 {
		return img.Layers[n-1].Descriptor.Digest
	}
	return img.ID()
}

func (a *archivePlan) write(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	buf := make([]byte, readSize)
	for _, e := range a.entries {
		if err := a.writeEntry(ctx, tw, e, buf); err != nil {
			return fmt.Errorf("write %s: %w", e.name, err)
		}
	}
	return tw.Close()
}

func (a *archivePlan) writeEntry(ctx context.Context, tw *tar.Writer, e archiveEntry, buf []byte) error {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: e.name, Mode: 0o644, Size: int64(len(e.text)),
		ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
	}
	switch {
	case e.dir:
		h.Typeflag, h.Mode = tar.TypeDir, 0o755
		return tw.WriteHeader(h)
	case e.blob.Digest == "":
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err := tw.Write(e.text)
		return err
	}
	r, err := a.store.Blob(ctx, e.blob)
	if err != nil {
		return err
	}
	defer r.Close()
	h.Size = e.blob.Size
	if h.Size > 8<<30-1 {
		h.Format = tar.FormatGNU
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{tw}, r, buf)
	return err
}
