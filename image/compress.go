package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image/usage"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Compressor wraps a writer in a compressing one. The same input must give the
// same output on every machine.
type Compressor func(io.Writer) (io.WriteCloser, error)

// Compression is an algorithm, its level, and the function that does it.
type Compression struct {
	Algorithm string // "gzip" or "zstd"
	Level     int
	New       Compressor
}

// compressedType is the media type of a layer after compression; empty when
// the layer is compressed already or is no layer.
func (c Compression) compressedType(mediaType string) (string, error) {
	if c.Algorithm != "gzip" && c.Algorithm != "zstd" {
		return "", fmt.Errorf("compression %q is not known (gzip and zstd are)", c.Algorithm)
	}
	switch mediaType {
	case ocispec.MediaTypeImageLayer, nondistributable:
		return mediaType + "+" + c.Algorithm, nil
	case dockerLayer:
		return mediaType + "." + c.Algorithm, nil
	}
	return "", nil
}

// Compress gives the compressed form of an uncompressed layer; of any other
// descriptor, the same. What it gave is remembered, so that the work is done
// once for all processes.
func (s *Store) Compress(ctx context.Context, layer ocispec.Descriptor, c Compression) (ocispec.Descriptor, error) {
	mediaType, err := c.compressedType(layer.MediaType)
	if err != nil || mediaType == "" {
		return layer, err
	}
	name := fmt.Sprintf("%s.%s-%d", layer.Digest.Encoded(), c.Algorithm, c.Level)
	unlock, err := s.Lock(ctx, "compress-"+name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer unlock()
	done, ok := s.compressed(name)
	if !ok {
		if done, err = s.compressBlob(ctx, layer, c); err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("compress layer %s: %w", layer.Digest, err)
		}
		if err := s.rememberCompressed(name, done); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	layer.MediaType, layer.Digest, layer.Size = mediaType, done.Digest, done.Size
	return layer, nil
}

// compressedDir remembers compressions: a file each, with the descriptor.
const compressedDir = "cache/blobs"

// compressed finds the remembered form, if it is still there.
func (s *Store) compressed(name string) (ocispec.Descriptor, bool) {
	desc, err := readMemo(s.path(compressedDir, name))
	if err != nil {
		return ocispec.Descriptor{}, false
	}
	return s.have(desc)
}

func readMemo(path string) (ocispec.Descriptor, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var desc ocispec.Descriptor
	if err := json.Unmarshal(text, &desc); err != nil {
		return ocispec.Descriptor{}, err
	}
	return desc, checkDescriptor(desc)
}

func (s *Store) rememberCompressed(name string, desc ocispec.Descriptor) error {
	text, err := json.Marshal(ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size})
	if err != nil {
		return err
	}
	dir := s.path(compressedDir)
	return s.explain("remember compressed layer", s.disk.replace(dir, dir+"/"+name, text))
}

func (s *Store) compressBlob(ctx context.Context, layer ocispec.Descriptor, c Compression) (ocispec.Descriptor, error) {
	in, err := s.Blob(ctx, layer)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer in.Close()
	out, err := s.Create()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer out.Abort()
	z, err := c.New(out)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{z}, in, make([]byte, readSize))
	if closeErr := z.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return out.Commit(ocispec.Descriptor{})
}

// CompressedLayer is one remembered compression.
type CompressedLayer struct {
	Path  string        // of what remembers it, within the store
	Layer digest.Digest // uncompressed
	Blob  digest.Digest
	Bytes int64 // what the memory of it takes on the disk, without the blob
	Used  time.Time
}

// CompressedLayers lists what Compress remembers. What cannot be read is left
// out: it is as good as forgotten.
func (s *Store) CompressedLayers() ([]CompressedLayer, error) {
	entries, err := os.ReadDir(s.path(compressedDir))
	if err != nil {
		return nil, err
	}
	var list []CompressedLayer
	for _, e := range entries {
		d, ok := compressedName(e.Name())
		info, err := e.Info()
		if !ok || err != nil {
			continue
		}
		path := filepath.Join(compressedDir, e.Name())
		if desc, err := readMemo(s.path(path)); err == nil {
			list = append(list, CompressedLayer{path, d, desc.Digest, usage.Of(info), s.lastUse(desc.Digest, info.ModTime())})
		}
	}
	return list, nil
}

// lastUse is that of a blob, or other if there is none.
func (s *Store) lastUse(d digest.Digest, other time.Time) time.Time {
	if info, err := os.Lstat(s.blobPath(d)); err == nil && info.ModTime().After(other) {
		return info.ModTime()
	}
	return other
}

// compressedName reads the name of a file that remembers a compression.
func compressedName(name string) (layer digest.Digest, ok bool) {
	hex, how, _ := strings.Cut(name, ".")
	algorithm, level, _ := strings.Cut(how, "-")
	_, err := strconv.Atoi(level)
	layer = digest.NewDigestFromEncoded(digest.SHA256, hex)
	return layer, err == nil && algorithm != "" && layer.Validate() == nil
}

// PortableOptions says how Portable compresses.
type PortableOptions struct {
	Compression Compression
}

// Portable gives the image as it leaves the machine: its uncompressed layers
// replaced by compressed ones, in a new manifest or index that is stored and
// has no name. An image without uncompressed layers is given back as it is,
// digest and all. What an index names and the store has not, stays named in the
// new index. Hold a lease until the result is used.
func (s *Store) Portable(ctx context.Context, desc ocispec.Descriptor, o PortableOptions) (ocispec.Descriptor, error) {
	out, err := s.portable(ctx, desc, o, 0)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("make image portable: %w", err)
	}
	return out, nil
}

func (s *Store) portable(ctx context.Context, desc ocispec.Descriptor, o PortableOptions, depth int) (ocispec.Descriptor, error) {
	doc, err := readDocument(ctx, s, desc)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	s.Use(desc.Digest)
	if doc.index != nil {
		if depth > maxDepth {
			return ocispec.Descriptor{}, fmt.Errorf("index %s: more than %d indexes within each other", desc.Digest, maxDepth)
		}
		return s.portableIndex(ctx, desc, doc.index, o, depth)
	}
	return s.portableManifest(ctx, desc, doc.manifest, o)
}

func (s *Store) portableManifest(ctx context.Context, desc ocispec.Descriptor, m *ocispec.Manifest, o PortableOptions) (ocispec.Descriptor, error) {
	s.Use(m.Config.Digest)
	if !isConfigType(m.Config.MediaType) || m.ArtifactType != "" {
		return desc, nil // an artifact leaves as it is, whatever it is made of
	}
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(2) // the compressor is parallel in itself
	layers := make([]ocispec.Descriptor, len(m.Layers))
	for i, l := range m.Layers {
		g.Go(func() (err error) {
			s.Use(l.Digest)
			layers[i], err = s.Compress(groupCtx, l, o.Compression)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return ocispec.Descriptor{}, err
	}
	same := true
	for i := range layers {
		same = same && layers[i].Digest == m.Layers[i].Digest
	}
	if same {
		return desc, nil
	}
	m.Layers = layers
	return s.replaceDocument(ctx, desc, m)
}

// replaceDocument stores doc and gives desc with its digest and size.
func (s *Store) replaceDocument(ctx context.Context, desc ocispec.Descriptor, doc any) (ocispec.Descriptor, error) {
	stored, err := s.putDocument(ctx, desc.MediaType, doc)
	desc.Digest, desc.Size = stored.Digest, stored.Size
	return desc, err
}

func (s *Store) portableIndex(ctx context.Context, desc ocispec.Descriptor, index *ocispec.Index, o PortableOptions, depth int) (ocispec.Descriptor, error) {
	moved := make(map[string]string)
	images := slices.Clone(index.Manifests)
	changed := false
	for i, child := range images {
		if !s.Use(child.Digest) || !isIndexType(child.MediaType) && !isManifestType(child.MediaType) {
			continue
		}
		out, err := s.portable(ctx, child, o, depth+1)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		if out.Digest != child.Digest {
			images[i], changed = out, true
			moved[child.Digest.String()] = out.Digest.String()
		}
	}
	if !changed {
		return desc, nil
	}
	index.Manifests = redirectAttestations(images, moved)
	return s.replaceDocument(ctx, desc, index)
}

// redirectAttestations lets attestations name the manifests that took the
// place of those they were made for.
func redirectAttestations(list []ocispec.Descriptor, moved map[string]string) []ocispec.Descriptor {
	for i, d := range list {
		to, ok := moved[d.Annotations[attestationOf]]
		if !ok {
			continue
		}
		list[i].Annotations = make(map[string]string, len(d.Annotations))
		for k, v := range d.Annotations {
			list[i].Annotations[k] = v
		}
		list[i].Annotations[attestationOf] = to
	}
	return list
}
