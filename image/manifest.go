package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's media types, which are read and never written.
const (
	dockerIndex        = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifest1    = "application/vnd.docker.distribution.manifest.v1+json"
	dockerManifest1Sig = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	dockerConfig       = "application/vnd.docker.container.image.v1+json"
	dockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	octetStream        = "application/octet-stream" // configs of the first schema 2 images
)

const (
	nondistributable     = "application/vnd.oci.image.layer.nondistributable.v1.tar"
	nondistributableGzip = nondistributable + "+gzip"
	nondistributableZstd = nondistributable + "+zstd"
)

// IsIndex reports whether a media type is that of an index, OCI's or Docker's.
func IsIndex(mediaType string) bool { return isIndexType(mediaType) }

func isIndexType(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == dockerIndex
}

func isManifestType(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == dockerManifest
}

func isConfigType(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == dockerConfig || mediaType == octetStream
}

// layerType gives the OCI media type of a file system layer, OCI's or
// Docker's; empty for everything else.
func layerType(mediaType string) string {
	switch mediaType {
	case ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		nondistributable, nondistributableGzip, nondistributableZstd:
		return mediaType
	case dockerLayer:
		return ocispec.MediaTypeImageLayer
	case dockerLayer + ".gzip":
		return ocispec.MediaTypeImageLayerGzip
	case dockerLayer + ".zstd":
		return ocispec.MediaTypeImageLayerZstd
	case dockerForeignLayer:
		return nondistributable
	case dockerForeignLayer + ".gzip":
		return nondistributableGzip
	}
	return ""
}

// document is a manifest or an index.
type document struct {
	manifest *ocispec.Manifest
	index    *ocispec.Index
}

// children are the descriptors a document names: config before layers.
func (d document) children() []ocispec.Descriptor {
	if d.index != nil {
		return d.index.Manifests
	}
	return append([]ocispec.Descriptor{d.manifest.Config}, d.manifest.Layers...)
}

var errSchema1 = errors.New("image manifests of schema version 1 are not supported (let a current Docker or skopeo push the image again)")

// decodeDocument reads a manifest or index. The media type may be empty; if it
// is not, the document must agree with it.
func decodeDocument(mediaType string, text []byte) (document, error) {
	var head struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []json.RawMessage `json:"manifests"`
		Config        json.RawMessage   `json:"config"`
		Layers        []json.RawMessage `json:"layers"`
		FSLayers      json.RawMessage   `json:"fsLayers"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return document{}, err
	}
	if head.SchemaVersion == 1 || head.FSLayers != nil || mediaType == dockerManifest1 || mediaType == dockerManifest1Sig {
		return document{}, errSchema1
	}
	if head.SchemaVersion != 2 {
		return document{}, fmt.Errorf("schema version %d is not supported", head.SchemaVersion)
	}
	if mediaType == "" {
		mediaType = head.MediaType
	}
	if head.MediaType != "" && head.MediaType != mediaType {
		return document{}, fmt.Errorf("it says media type %q where %q is expected", head.MediaType, mediaType)
	}
	many, single := head.Manifests != nil, head.Config != nil || head.Layers != nil
	if many && single {
		return document{}, errors.New("it is a manifest and an index at once")
	}
	return decodeKind(mediaType, many, text)
}

func decodeKind(mediaType string, many bool, text []byte) (document, error) {
	var doc document
	var into any
	switch {
	case isIndexType(mediaType) || mediaType == "" && many:
		doc.index = new(ocispec.Index)
		into = doc.index
	case isManifestType(mediaType) || mediaType == "":
		if many {
			return document{}, errors.New("it is an index where a manifest is expected")
		}
		doc.manifest = new(ocispec.Manifest)
		into = doc.manifest
	default:
		return document{}, fmt.Errorf("media type %q is neither a manifest nor an index", mediaType)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return document{}, err
	}
	for i, c := range doc.children() {
		if err := checkDescriptor(c); err != nil {
			return document{}, fmt.Errorf("descriptor %d: %w", i, err)
		}
	}
	return doc, nil
}

func checkDescriptor(d ocispec.Descriptor) error {
	if err := checkDigest(d.Digest); err != nil {
		return fmt.Errorf("digest %q: %w", string(d.Digest), err)
	}
	if d.Size < 0 {
		return fmt.Errorf("blob %s has size %d", d.Digest, d.Size)
	}
	return nil
}

// blobReader is where documents are read from: the store, or an archive that
// is being loaded into it.
type blobReader interface {
	ReadBlob(ctx context.Context, desc ocispec.Descriptor, limit int64) ([]byte, error)
}

func readDocument(ctx context.Context, from blobReader, desc ocispec.Descriptor) (document, error) {
	text, err := from.ReadBlob(ctx, desc, maxManifest)
	if err != nil {
		return document{}, err
	}
	doc, err := decodeDocument(desc.MediaType, text)
	if err != nil {
		return document{}, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	return doc, nil
}

// maxDepth bounds indexes within indexes.
const maxDepth = 4

// closure collects everything an image needs.
type closure struct {
	from    blobReader
	present func(digest.Digest) bool

	// problem is told of what is missing or unreadable, and the walk goes on.
	// Where it is nil the first problem ends the walk.
	problem func(desc ocispec.Descriptor, err error)

	// away tells whether a layer that is not present is at a registry, so that
	// the image can do without it. Nil says no.
	away func(digest.Digest) bool

	found     []ocispec.Descriptor // everything present, once, parents first
	absent    []ocispec.Descriptor // the layers that are away; perhaps several times
	seen      map[digest.Digest]bool
	manifests int // how many of found are no indexes
}

// add walks desc and what it names. Layers that are foreign (they have URLs)
// may be missing; so may images of an index and of the indexes in it, though
// not all of them.
func (c *closure) add(ctx context.Context, desc ocispec.Descriptor) error {
	_, err := c.walk(ctx, desc, 0)
	return err
}

// walk reports whether desc itself is there.
func (c *closure) walk(ctx context.Context, desc ocispec.Descriptor, depth int) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if c.seen[desc.Digest] {
		return true, nil
	}
	if checkDigest(desc.Digest) != nil || !c.present(desc.Digest) {
		return false, nil
	}
	if c.seen == nil {
		c.seen = make(map[digest.Digest]bool)
	}
	c.seen[desc.Digest] = true
	c.found = append(c.found, desc)
	if depth > 0 && !isIndexType(desc.MediaType) && !isManifestType(desc.MediaType) {
		return true, nil
	}
	if depth > maxDepth {
		return true, c.fail(desc, fmt.Errorf("index %s: more than %d indexes within each other", desc.Digest, maxDepth))
	}
	doc, err := readDocument(ctx, c.from, desc)
	if err != nil {
		return true, c.fail(desc, err)
	}
	return true, c.walkChildren(ctx, doc, desc, depth)
}

func (c *closure) walkChildren(ctx context.Context, doc document, parent ocispec.Descriptor, depth int) error {
	if doc.index == nil {
		c.manifests++
	}
	for i, child := range doc.children() {
		there, err := c.walk(ctx, child, depth+1)
		if err != nil {
			return err
		}
		if there || doc.index != nil || len(child.URLs) > 0 {
			continue
		}
		if i > 0 && c.away != nil && c.away(child.Digest) { // not the config
			c.absent = append(c.absent, child)
			continue
		}
		if err := c.fail(child, missing(child.Digest)); err != nil {
			return err
		}
	}
	if depth == 0 && c.manifests == 0 && len(doc.children()) > 0 {
		return c.fail(parent, fmt.Errorf("index %s: every image of it is %w", parent.Digest, ErrNotFound))
	}
	return nil
}

func (c *closure) fail(desc ocispec.Descriptor, err error) error {
	if c.problem == nil || ctxDone(err) {
		return err
	}
	c.problem(desc, err)
	return nil
}

func ctxDone(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// needs is what an image needs: blobs that are here, and layers that are at a
// registry alone.
type needs struct{ here, away []digest.Digest }

// useAll marks everything an image needs as used, and lists it.
func (s *Store) useAll(ctx context.Context, desc ocispec.Descriptor) (needs, error) {
	c := closure{from: s, present: s.Use, away: s.useAway}
	there, err := c.walk(ctx, desc, 0)
	if err == nil && !there {
		err = missing(desc.Digest)
	}
	if err != nil {
		return needs{}, err
	}
	return needs{digestsOf(c.found), digestsOf(c.absent)}, nil
}

// whole says that nothing of the image is at a registry alone.
func (n needs) whole() bool { return len(n.away) == 0 }

// sync makes all of it durable.
func (n needs) sync(ctx context.Context, s *Store) error {
	if err := s.Sync(ctx, n.here...); err != nil {
		return err
	}
	return s.syncAway(n.away)
}

// use marks all of it as used once more.
func (n needs) use(s *Store) error {
	for _, d := range n.here {
		if !s.Use(d) {
			return missing(d)
		}
	}
	for _, d := range n.away {
		if !s.UseAnywhere(d) {
			return missing(d)
		}
	}
	return nil
}
