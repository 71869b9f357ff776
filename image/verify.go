package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Verification is what Verify found.
type Verification struct {
	// Indexes, Manifests, Configs and Layers count what was read; Bytes is the
	// size of all of it in the store. Absent counts manifests that an index
	// names and the store has not, Away layers that are at registries alone.
	Indexes, Manifests, Configs, Layers, Absent, Away int
	Bytes                                             int64
	Claims                                            int // how many claims were checked
	Faults                                            []Fault
}

// Verify reads an image whole and recomputes what it claims: the digest and the
// size of every blob; of layers what they are compressed with and the digest of
// what is in them; that manifest, config, history and index agree. Of an index
// it does so for every image that is in the store, or for those of platforms.
// The error is about the check itself, not about what it found.
func (s *Store) Verify(ctx context.Context, desc ocispec.Descriptor, platforms []ocispec.Platform) (*Verification, error) {
	without, err := leaveOut(ctx, s, desc, platforms)
	if err != nil {
		return nil, err
	}
	v := verifier{store: s, without: without, read: make(map[digest.Digest]bool), diffIDs: make(map[digest.Digest]digest.Digest)}
	if err := v.document(ctx, desc, 0); err != nil {
		return nil, err
	}
	if v.result.Manifests == 0 && len(v.result.Faults) == 0 && v.result.Absent > 0 {
		v.fault(desc, fmt.Errorf("every image of it is %w", ErrNotFound))
	}
	return &v.result, nil
}

type verifier struct {
	store *Store
	// mere leaves out what is true or false of an image wherever it is: claims that no
	// damage of the store can make false.
	mere    bool
	without map[digest.Digest]bool
	read    map[digest.Digest]bool
	diffIDs map[digest.Digest]digest.Digest // of layers that have been read
	result  Verification
}

// claim counts a claim, and notes a fault when it does not hold.
func (v *verifier) claim(of ocispec.Descriptor, holds bool, format string, args ...any) {
	v.result.Claims++
	if !holds {
		v.fault(of, fmt.Errorf(format, args...))
	}
}

func (v *verifier) fault(of ocispec.Descriptor, err error) {
	v.result.Faults = append(v.result.Faults, Fault{Digest: of.Digest, Err: fmt.Errorf("%s: %w", of.Digest, err)})
}

// failed notes an error about a blob; only one about the check itself is given
// back.
func (v *verifier) failed(of ocispec.Descriptor, err error) error {
	v.result.Claims++
	if err == nil || ctxDone(err) {
		return err
	}
	var bad *VerifyError
	if errors.As(err, &bad) {
		bad.Stored = false // the fault is told with the image, not with a hint
	}
	v.fault(of, err)
	return nil
}

// document checks a manifest or an index and all below it.
func (v *verifier) document(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	if v.read[desc.Digest] || v.without[desc.Digest] {
		return nil
	}
	if depth > 0 && !v.store.there(desc.Digest) {
		v.result.Absent++
		return nil
	}
	v.read[desc.Digest] = true
	if depth > maxDepth {
		return v.failed(desc, fmt.Errorf("more than %d indexes within each other", maxDepth))
	}
	if depth > 0 && !isIndexType(desc.MediaType) && !isManifestType(desc.MediaType) {
		return v.failed(desc, v.store.verifyBlob(ctx, desc))
	}
	doc, err := readDocument(ctx, v.store, desc)
	if err != nil {
		return v.failed(desc, err)
	}
	v.result.Claims++
	v.result.Bytes += desc.Size
	if doc.index == nil {
		v.result.Manifests++
		return v.manifest(ctx, desc, doc.manifest)
	}
	v.result.Indexes++
	for _, child := range doc.index.Manifests {
		if err := v.document(ctx, child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) manifest(ctx context.Context, desc ocispec.Descriptor, m *ocispec.Manifest) error {
	facts, err := readFacts(ctx, v.store, desc, m)
	if err != nil {
		return v.failed(m.Config, err)
	}
	v.result.Claims++
	if facts.Kind != KindImage {
		return v.blobs(ctx, append([]ocispec.Descriptor{m.Config}, m.Layers...))
	}
	text, err := v.store.ReadBlob(ctx, m.Config, maxConfig)
	if err != nil {
		return v.failed(m.Config, err)
	}
	cfg, err := decodeConfig(text)
	if err != nil {
		return v.failed(m.Config, err)
	}
	if !v.read[m.Config.Digest] {
		v.read[m.Config.Digest] = true
		v.result.Configs++
		v.result.Bytes += m.Config.Size
	}
	if !v.mere {
		v.agreement(desc, m, &cfg)
	}
	for i, l := range m.Layers {
		want := digest.Digest("")
		if i < len(cfg.RootFS.DiffIDs) {
			want = cfg.RootFS.DiffIDs[i]
		}
		if err := v.layer(ctx, l, want); err != nil {
			return err
		}
	}
	return nil
}

// agreement checks that what is said of an image in several places is the same.
func (v *verifier) agreement(desc ocispec.Descriptor, m *ocispec.Manifest, cfg *Config) {
	v.claim(m.Config, cfg.OS != "" && cfg.Architecture != "", "the config names no platform")
	v.claim(desc, len(m.Layers) == len(cfg.RootFS.DiffIDs), "the manifest has %d layers and the config %d", len(m.Layers), len(cfg.RootFS.DiffIDs))
	if len(cfg.History) > 0 {
		n := countLayers(cfg.History)
		v.claim(m.Config, n == len(cfg.RootFS.DiffIDs), "the history has %d layers and the image %d", n, len(cfg.RootFS.DiffIDs))
	}
	if p := desc.Platform; p != nil {
		said, is := NormalPlatform(*p), NormalPlatform(cfg.Platform)
		same := said.OS == is.OS && said.Architecture == is.Architecture && (is.Variant == "" || said.Variant == is.Variant)
		v.claim(desc, same, "the index says it is for %s, its config says %s", FormatPlatform(said), FormatPlatform(is))
	}
}

// blobs checks content that is no file system.
func (v *verifier) blobs(ctx context.Context, list []ocispec.Descriptor) error {
	for _, d := range list {
		if v.read[d.Digest] {
			continue
		}
		v.read[d.Digest] = true
		v.result.Bytes += d.Size
		if err := v.failed(d, v.store.verifyBlob(ctx, d)); err != nil {
			return err
		}
	}
	return nil
}

// verifyBlob reads a blob to its end.
func (s *Store) verifyBlob(ctx context.Context, desc ocispec.Descriptor) error {
	r, err := s.localBlob(ctx, desc)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, make([]byte, readSize))
	return err
}

// layer checks a layer's blob, its compression and what is in it.
func (v *verifier) layer(ctx context.Context, l ocispec.Descriptor, want digest.Digest) error {
	got, known := v.diffIDs[l.Digest]
	if !known {
		if !v.store.there(l.Digest) {
			if len(l.URLs) > 0 {
				return nil // it is to be fetched from elsewhere
			}
			if v.store.away(l.Digest) {
				v.result.Away++
				return nil
			}
		}
		v.result.Layers++
		v.result.Bytes += l.Size
		var err error
		got, err = v.readLayer(ctx, l)
		if err != nil {
			return v.failed(l, err)
		}
		v.result.Claims += 2 // the blob's digest and its being a tar
		v.diffIDs[l.Digest] = got
	}
	if want != "" {
		v.claim(l, got == want, "the layer holds %s, its config says %s", got, want)
	}
	return nil
}

// readLayer gives the diff id of a layer.
func (v *verifier) readLayer(ctx context.Context, l ocispec.Descriptor) (digest.Digest, error) {
	blob, err := v.store.localBlob(ctx, l)
	if err != nil {
		return "", err
	}
	defer blob.Close()
	plain, how, err := layer.Decompress(blob)
	if err != nil {
		return "", err
	}
	defer plain.Close()
	v.claim(l, how == layerCompression(l.MediaType), "the layer's media type is %s and it is compressed with %q", l.MediaType, string(how))
	digests, _, err := layer.Scan(ctx, plain)
	if err != nil {
		// A damaged blob is told as such, not as what that does to its tar.
		if damage := v.store.verifyBlob(ctx, l); damage != nil {
			err = damage
		}
		return "", err
	}
	_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{blob}, make([]byte, readSize))
	return digests.DiffID, err
}

// layerCompression is what a layer's media type says it is compressed with.
func layerCompression(mediaType string) layer.Compression {
	switch layerType(mediaType) {
	case ocispec.MediaTypeImageLayerGzip, nondistributableGzip:
		return layer.Gzip
	case ocispec.MediaTypeImageLayerZstd, nondistributableZstd:
		return layer.Zstd
	}
	return layer.None
}
