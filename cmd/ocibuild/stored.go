package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// stored is an image of the store with all its names.
type stored struct {
	// Desc is what the names stand for: the manifest, or an index.
	desc ocispec.Descriptor
	img  *image.Image
	refs []image.Ref
}

func (i *stored) id() digest.Digest { return i.img.ID() }

// size is what the image's layers take in the store.
func (i *stored) size() int64 {
	var n int64
	for _, l := range i.img.Layers {
		n += l.Descriptor.Size
	}
	return n
}

// openImage reads an image; of an index the image for this machine, or, when
// the store has it for other platforms only, the first of those.
func openImage(ctx context.Context, st *image.Store, desc ocispec.Descriptor) (*image.Image, error) {
	img, first := st.Image(ctx, desc, nil)
	if first == nil || !errors.Is(first, image.ErrNotFound) || !isIndex(desc.MediaType) {
		return img, first
	}
	text, err := st.ReadBlob(ctx, desc, maxManifest)
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, fmt.Errorf("read index %s: %w", desc.Digest, err)
	}
	for _, m := range index.Manifests {
		if img, err := st.Image(ctx, m, m.Platform); err == nil {
			return img, nil
		}
	}
	return nil, first
}

// maxManifest is how large a manifest or index may be.
const maxManifest = 4 << 20

const dockerList = "application/vnd.docker.distribution.manifest.list.v2+json"

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == dockerList
}

// listImages gives the images that have names and, with all, those without.
// Images that cannot be read are told on standard error and left out.
func listImages(ctx context.Context, s *session, all bool) ([]*stored, error) {
	st, err := s.store()
	if err != nil {
		return nil, err
	}
	refs, err := st.References(ctx)
	if err != nil {
		return nil, err
	}
	byDigest := map[digest.Digest]*stored{}
	var out []*stored
	for _, r := range refs {
		if known := byDigest[r.Descriptor.Digest]; known != nil {
			known.refs = append(known.refs, r.Ref)
			continue
		}
		img, err := openImage(ctx, st, r.Descriptor)
		if err != nil {
			fmt.Fprintf(s.err, "warning: %s: %s\n", r.Ref.Familiar(), message(err))
			continue
		}
		i := &stored{desc: r.Descriptor, img: img, refs: []image.Ref{r.Ref}}
		byDigest[r.Descriptor.Digest] = i
		out = append(out, i)
	}
	if !all {
		return out, nil
	}
	loose, err := danglingImages(ctx, st, out, nil)
	return append(out, loose...), err
}

// danglingImages gives the images that no name leads to, but not those in
// without: looking at an image marks it as used. They are found among the
// blobs, since nothing lists them.
func danglingImages(ctx context.Context, st *image.Store, named []*stored, without []digest.Digest) ([]*stored, error) {
	known := map[digest.Digest]bool{}
	for _, d := range without {
		known[d] = true
	}
	for _, i := range named {
		known[i.desc.Digest], known[i.img.Descriptor.Digest], known[i.id()] = true, true, true
		if isIndex(i.desc.MediaType) {
			markIndex(ctx, st, i.desc, known)
		}
	}
	dir := filepath.Join(st.Root(), ocispec.ImageBlobsDir, string(digest.SHA256))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	var out []*stored
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if d.Validate() != nil || known[d] {
			continue
		}
		desc, err := sniffManifest(filepath.Join(dir, e.Name()), d)
		if err != nil {
			return nil, err
		}
		if desc == nil {
			continue
		}
		img, err := st.Image(ctx, *desc, nil)
		if err != nil || known[img.ID()] {
			continue
		}
		known[img.ID()] = true
		out = append(out, &stored{desc: *desc, img: img})
	}
	return out, nil
}

// markIndex marks the manifests of an index, which are no images of their own.
func markIndex(ctx context.Context, st *image.Store, desc ocispec.Descriptor, known map[digest.Digest]bool) {
	text, err := st.ReadBlob(ctx, desc, maxManifest)
	if err != nil {
		return
	}
	var index ocispec.Index
	if json.Unmarshal(text, &index) != nil {
		return
	}
	for _, m := range index.Manifests {
		known[m.Digest] = true
	}
}

// sniffManifest gives the descriptor of a blob that is an image manifest, nil
// for any other blob.
func sniffManifest(path string, d digest.Digest) (*ocispec.Descriptor, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() > maxManifest {
		return nil, err
	}
	var first [1]byte
	if _, err := f.ReadAt(first[:], 0); err != nil || first[0] != '{' {
		return nil, nil
	}
	var m struct {
		MediaType string             `json:"mediaType"`
		Config    ocispec.Descriptor `json:"config"`
	}
	if json.NewDecoder(f).Decode(&m) != nil || m.Config.Digest.Validate() != nil {
		return nil, nil
	}
	if m.MediaType == "" {
		m.MediaType = ocispec.MediaTypeImageManifest
	}
	return &ocispec.Descriptor{MediaType: m.MediaType, Digest: d, Size: info.Size()}, nil
}

// sortByAge puts the newest image first.
func sortByAge(images []*stored) {
	slices.SortStableFunc(images, func(a, b *stored) int {
		return unixTime(b.img) - unixTime(a.img)
	})
}

func unixTime(img *image.Image) int {
	if img.Config.Created == nil {
		return 0
	}
	return int(img.Config.Created.Unix())
}
