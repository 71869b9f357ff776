package image

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// LayerFile describes a layer beside its tar, where one was exported to.
type LayerFile struct {
	Descriptor ocispec.Descriptor `json:"descriptor"`
	DiffID     digest.Digest      `json:"diffID,omitempty"`
	ID         digest.Digest      `json:"chainID,omitempty"`
	Parent     digest.Digest      `json:"parent,omitempty"`
	Labels     map[string]string  `json:"labels,omitempty"`
}

// Describe gives the description of a layer for where it is exported to.
func (l *StoredLayer) Describe() LayerFile {
	return LayerFile{Descriptor: l.Descriptor, DiffID: l.DiffID, ID: l.ID, Parent: l.Parent, Labels: l.Labels}
}

// ExportLayer writes the blob of a layer, as it is stored. It is verified; after
// an error what was written is not to be used.
func (s *Store) ExportLayer(ctx context.Context, l *StoredLayer, w io.Writer) error {
	r, err := s.Blob(ctx, l.Descriptor)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, readSize))
	if err != nil {
		return fmt.Errorf("export layer %s: %w", l.ID, err)
	}
	return nil
}

// ImportLayer stores a layer, compressed or not, and keeps it. It must have the
// digest, and where they are said the size, the diff id and the chain id of want,
// and be a tar; a layer that is not, a *VerifyError, leaves nothing behind.
// Options go before what want says of the parent and the labels.
func (s *Store) ImportLayer(ctx context.Context, r io.Reader, want LayerFile, o LayerOptions, memo TOCs) (*StoredLayer, error) {
	lease, err := s.Lease(ctx)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	if want.Descriptor.Digest == "" {
		return nil, fmt.Errorf("import layer: %w", errNoDigest)
	}
	if o.Parent == "" {
		o.Parent = want.Parent.String()
	}
	below, err := s.below(ctx, o.Parent)
	if err != nil {
		return nil, err
	}
	ly, err := s.takeLayer(ctx, r, want, below, memo)
	if err != nil {
		return nil, fmt.Errorf("import layer: %w", err)
	}
	labels := maps.Clone(want.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	maps.Copy(labels, o.Labels)
	return s.keepLayer(ctx, append(below, ly), labels)
}

// takeLayer checks a layer before it becomes part of the store.
func (s *Store) takeLayer(ctx context.Context, r io.Reader, want LayerFile, below []Layer, memo TOCs) (Layer, error) {
	if err := checkDescriptor(want.Descriptor); err != nil {
		return Layer{}, err
	}
	w, err := s.createWith(want.Descriptor.Digest.Algorithm())
	if err != nil {
		return Layer{}, err
	}
	defer w.Abort()
	if err := w.fill(ctx, want.Descriptor, r); err != nil {
		return Layer{}, err
	}
	desc, path, err := w.seal(ocispec.Descriptor{Digest: want.Descriptor.Digest, Size: want.Descriptor.Size})
	if err != nil {
		return Layer{}, err
	}
	defer func() { _ = s.disk.remove(path) }() // it is gone where it was published
	diffID, toc, mediaType, err := scanLayerFile(ctx, path)
	if err != nil {
		return Layer{}, err
	}
	if want.DiffID != "" && diffID != want.DiffID {
		return Layer{}, &VerifyError{Want: want.DiffID, Got: diffID}
	}
	got := ChainID(append(slices.Clone(below), Layer{DiffID: diffID}))
	if want.ID != "" && got != want.ID {
		return Layer{}, fmt.Errorf("on this parent it is layer %s, and its description says %s", got, want.ID)
	}
	desc.MediaType = mediaType
	if err := s.publish(path, desc); err != nil {
		return Layer{}, s.explain("store layer", err)
	}
	return Layer{Descriptor: desc, DiffID: diffID}, memo.PutTOC(diffID, toc.Marshal())
}

// scanLayerFile reads the tar of a layer to its end.
func scanLayerFile(ctx context.Context, path string) (diffID digest.Digest, toc *layer.TOC, mediaType string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", nil, "", err
	}
	defer f.Close()
	plain, how, err := layer.Decompress(f)
	if err != nil {
		return "", nil, "", err
	}
	defer plain.Close()
	mediaType, ok := map[layer.Compression]string{
		layer.None: ocispec.MediaTypeImageLayer, layer.Gzip: ocispec.MediaTypeImageLayerGzip, layer.Zstd: ocispec.MediaTypeImageLayerZstd,
	}[how]
	if !ok {
		return "", nil, "", fmt.Errorf("layers compressed with %s are not supported (gzip and zstd are)", how)
	}
	digests, toc, err := layer.Scan(ctx, plain)
	return digests.DiffID, toc, mediaType, err
}
