package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/image/usage"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Compression says how layers are compressed when an image leaves. Its zero value leaves all as they are.
type Compression struct {
	Algorithm layer.Compression // None, Gzip, Zstd or EStargz
	Level     int               // 0 is the algorithm's default
	// Force also compresses anew what is compressed in another way.
	Force bool
}

// Check says what is wrong with a compression.
func (c Compression) Check() error { return layer.CheckLevel(c.Algorithm, c.Level) }

// name is what tells the results of compressions apart.
func (c Compression) name() string {
	algorithm, level := string(c.Algorithm), c.Level
	switch {
	case c.Algorithm == layer.None:
		algorithm = "none"
	case level == 0 && c.Algorithm == layer.Zstd:
		level = layer.DefaultZstdLevel
	case level == 0:
		level = layer.DefaultGzipLevel
	}
	return fmt.Sprintf("%s-%d", algorithm, level)
}

// stargzAnnotation has the digest of an eStargz layer's table of contents, stargzSize the length of its tar.
const (
	stargzAnnotation = "containerd.io/snapshot/stargz/toc.digest"
	stargzSize       = "io.containers.estargz.uncompressed-size"
)

// compressionOf is how a layer is compressed, as its descriptor says.
func compressionOf(l ocispec.Descriptor) layer.Compression {
	how := layerCompression(l.MediaType)
	if how == layer.Gzip && l.Annotations[stargzAnnotation] != "" {
		how = layer.EStargz
	}
	return how
}

// changes reports whether a layer leaves in another form than it has. What is no layer, and what is fetched from somewhere else,
// does not.
func (c Compression) changes(l ocispec.Descriptor) bool {
	how := compressionOf(l)
	return layerType(l.MediaType) != "" && len(l.URLs) == 0 && how != c.Algorithm && (c.Force || how == layer.None)
}

// mediaType is that of a layer in this form.
func (c Compression) mediaType(from string) string {
	suffix := map[layer.Compression]string{layer.Gzip: "gzip", layer.EStargz: "gzip", layer.Zstd: "zstd"}[c.Algorithm]
	separator := "+"
	base, _, _ := strings.Cut(from, separator)
	if strings.HasPrefix(from, dockerLayer) || strings.HasPrefix(from, dockerForeignLayer) {
		separator = "."
		base = strings.TrimSuffix(strings.TrimSuffix(from, ".gzip"), ".zstd")
	}
	if suffix == "" {
		return base
	}
	return base + separator + suffix
}

// compressed is what a layer was compressed to, as cache/blobs remembers it.
type compressed struct {
	ocispec.Descriptor
	// DiffID is that of the tar inside where it is not the layer's.
	DiffID digest.Digest `json:"diffID,omitempty"`
}

// compressedDir remembers compressions: a file each, with the descriptor.
const compressedDir = "cache/blobs"

// compressed finds the remembered form, if it is still there.
func (s *Store) compressed(name string) (compressed, bool) {
	done, err := readMemo(s.path(compressedDir, name))
	if err != nil || s.detours.Recompress {
		return done, false
	}
	_, ok := s.have(done.Descriptor)
	return done, ok
}

func readMemo(path string) (done compressed, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return done, err
	}
	if err := json.Unmarshal(text, &done); err != nil {
		return done, err
	}
	return done, checkDescriptor(done.Descriptor)
}

// rememberCompressed writes what a crash may take: then the work is done again.
func (s *Store) rememberCompressed(name string, done compressed) error {
	text, err := json.Marshal(done)
	if err != nil {
		return err
	}
	dir := s.path(compressedDir)
	return s.explain("remember compressed layer", s.disk.replaceSoon(dir, dir+"/"+name, text))
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
	all, err := s.compressions()
	var list []CompressedLayer
	for _, c := range all {
		if c.err == nil {
			list = append(list, CompressedLayer{c.path, c.layer, c.done.Digest, usage.Of(c.info), s.lastUse(c.done.Digest, c.info.ModTime())})
		}
	}
	return list, err
}

// compression is a file that remembers a compression, good or bad.
type compression struct {
	path  string // within the store
	layer digest.Digest
	done  compressed
	info  fs.FileInfo
	err   error
}

func (s *Store) compressions() ([]compression, error) {
	entries, err := os.ReadDir(s.path(compressedDir))
	if err != nil {
		return nil, err
	}
	var list []compression
	for _, e := range entries {
		d, ok := compressedName(e.Name())
		info, err := e.Info()
		if !ok || err != nil {
			continue
		}
		c := compression{path: filepath.Join(compressedDir, e.Name()), layer: d, info: info}
		c.done, c.err = readMemo(s.path(c.path))
		list = append(list, c)
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

// Portable is Press.Portable for one image.
func (s *Store) Portable(ctx context.Context, desc ocispec.Descriptor, c Compression) (ocispec.Descriptor, error) {
	p := s.Press(ctx, c)
	defer p.Close()
	return p.Portable(ctx, desc)
}

// Portable gives the image as it leaves the machine: its layers in the form
// that they are to have, in a new manifest or index that is stored and
// has no name. An image of which no layer changes is given back as it is,
// digest and all. What an index names and the store has not, stays named in the
// new index. Hold a lease until the result is used.
func (p *Press) Portable(ctx context.Context, desc ocispec.Descriptor) (ocispec.Descriptor, error) {
	out, err := p.portable(ctx, desc, 0)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("make image portable: %w", err)
	}
	return out, nil
}

func (p *Press) portable(ctx context.Context, desc ocispec.Descriptor, depth int) (ocispec.Descriptor, error) {
	doc, err := readDocument(ctx, p.store, desc)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	p.store.Use(desc.Digest)
	if doc.index != nil {
		if depth > maxDepth {
			return ocispec.Descriptor{}, fmt.Errorf("index %s: more than %d indexes within each other", desc.Digest, maxDepth)
		}
		return p.portableIndex(ctx, desc, doc.index, depth)
	}
	return p.portableManifest(ctx, desc, doc.manifest)
}

func (p *Press) portableManifest(ctx context.Context, desc ocispec.Descriptor, m *ocispec.Manifest) (ocispec.Descriptor, error) {
	s := p.store
	s.Use(m.Config.Digest)
	if !isConfigType(m.Config.MediaType) || m.ArtifactType != "" {
		return desc, nil // an artifact leaves as it is, whatever it is made of
	}
	for _, l := range m.Layers {
		s.Use(l.Digest)
	}
	if !slices.ContainsFunc(m.Layers, p.how.changes) {
		return desc, nil
	}
	list, err := s.manifestLayers(ctx, m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	made := make([]*Pressing, len(list))
	for i, l := range list {
		made[i] = p.Layer(l)
	}
	layers, diffIDs := make([]ocispec.Descriptor, len(made)), make([]digest.Digest, len(made))
	for i := range made {
		l, err := made[i].Wait(ctx)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		layers[i], diffIDs[i] = l.Descriptor, l.DiffID
	}
	m.Layers = layers
	if slices.ContainsFunc(diffIDs, func(d digest.Digest) bool { return d != "" }) && !slices.EqualFunc(diffIDs, list, func(d digest.Digest, l Layer) bool { return d == l.DiffID }) {
		if m.Config, err = s.replaceDiffIDs(ctx, m.Config, diffIDs); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	return s.replaceDocument(ctx, desc, m)
}

// replaceDiffIDs stores a config that says of the root filesystem that it is made of other tars, and of everything else the same.
func (s *Store) replaceDiffIDs(ctx context.Context, config ocispec.Descriptor, diffIDs []digest.Digest) (ocispec.Descriptor, error) {
	text, err := s.ReadBlob(ctx, config, maxConfig)
	if err != nil {
		return config, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return config, err
	}
	root, err := json.Marshal(ocispec.RootFS{Type: "layers", DiffIDs: diffIDs})
	if err != nil {
		return config, err
	}
	fields["rootfs"] = root
	if text, err = json.Marshal(fields); err != nil {
		return config, err
	}
	stored, err := s.putBytes(ctx, config.MediaType, text)
	config.Digest, config.Size = stored.Digest, stored.Size
	return config, err
}

// replaceDocument stores doc and gives desc with its digest and size.
func (s *Store) replaceDocument(ctx context.Context, desc ocispec.Descriptor, doc any) (ocispec.Descriptor, error) {
	stored, err := s.putDocument(ctx, desc.MediaType, doc)
	desc.Digest, desc.Size = stored.Digest, stored.Size
	return desc, err
}

func (p *Press) portableIndex(ctx context.Context, desc ocispec.Descriptor, index *ocispec.Index, depth int) (ocispec.Descriptor, error) {
	moved := make(map[string]string)
	images := slices.Clone(index.Manifests)
	changed := false
	for i, child := range images {
		if !p.store.Use(child.Digest) || !isIndexType(child.MediaType) && !isManifestType(child.MediaType) {
			continue
		}
		out, err := p.portable(ctx, child, depth+1)
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
	return p.store.replaceDocument(ctx, desc, index)
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
