package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of the manifest that keeps a layer which no image needs. It is an
// OCI artifact of the layer and those below it, and the table has it without a
// name: so a prune keeps it, fsck checks it, and other programs carry it along.
const (
	layerArtifact = "application/vnd.ocibuild.layer.v1"
	layerConfig   = "application/vnd.ocibuild.layer.config.v1+json"
)

// layerRecord is the config of such a manifest.
type layerRecord struct {
	DiffIDs []digest.Digest   `json:"diff_ids"` // bottom first
	Labels  map[string]string `json:"labels,omitempty"`
}

// StoredLayer is a layer in the store, together with all below it: the same
// difference on another parent is another layer.
type StoredLayer struct {
	// ID is the chain id, Parent that of the layer below; empty at the bottom.
	ID, Parent digest.Digest
	Layer
	// Chain are the layers up to this one, bottom first.
	Chain []Layer
	// Images are the names or ids of the images that need it.
	Images []string
	// Kept says that it stays without an image, and Labels are what was said of
	// it then.
	Kept   bool
	Labels map[string]string

	record digest.Digest // of the manifest that keeps it
}

// Layers lists the layers of all images that have names, and those that are kept
// without one, parents before children.
func (s *Store) Layers(ctx context.Context) ([]StoredLayer, error) {
	m := s.openMemo()
	defer m.save()
	table, err := s.tableSummaries(ctx, m)
	if err != nil {
		return nil, err
	}
	c := layerCollector{store: s, at: make(map[digest.Digest]int)}
	for i := range table {
		if err := c.addEntry(ctx, &table[i]); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(c.list, func(a, b StoredLayer) int {
		return cmp.Or(cmp.Compare(len(a.Chain), len(b.Chain)), strings.Compare(a.ID.String(), b.ID.String()))
	})
	return c.list, nil
}

// layerCollector makes one list of the layers of many images.
type layerCollector struct {
	store *Store
	list  []StoredLayer
	at    map[digest.Digest]int // by chain id
}

func (c *layerCollector) addEntry(ctx context.Context, s *Summary) error {
	for _, m := range s.Members {
		switch {
		case !m.Present:
		case m.ArtifactType == layerArtifact:
			if err := c.addRecord(ctx, m.Descriptor); err != nil {
				return err
			}
		case m.Kind == KindImage:
			img, err := imageFrom(ctx, c.store, m.Descriptor, m.Platform)
			if err != nil {
				return fmt.Errorf("image %s: %w", s.title(), err)
			}
			c.addChain(img.Layers, func(l *StoredLayer) {
				if name := s.title(); !slices.Contains(l.Images, name) {
					l.Images = append(l.Images, name)
				}
			})
		}
	}
	return ctx.Err()
}

func (c *layerCollector) addRecord(ctx context.Context, desc ocispec.Descriptor) error {
	layers, record, err := c.store.readRecord(ctx, desc)
	if err != nil {
		return err
	}
	at := c.addChain(layers, func(*StoredLayer) {})
	if at >= 0 {
		l := &c.list[at]
		l.Kept, l.Labels, l.record = true, record.Labels, desc.Digest
	}
	return nil
}

// addChain adds a stack of layers, and calls with for each. It gives the place of
// the uppermost.
func (c *layerCollector) addChain(layers []Layer, with func(*StoredLayer)) int {
	ids := make([]digest.Digest, len(layers))
	for i, l := range layers {
		ids[i] = l.DiffID
	}
	at := -1
	for i, id := range ChainIDs(ids) {
		known, ok := c.at[id]
		if !ok {
			known = len(c.list)
			c.at[id] = known
			l := StoredLayer{ID: id, Layer: layers[i], Chain: slices.Clone(layers[:i+1])}
			if i > 0 {
				l.Parent = c.list[at].ID
			}
			c.list = append(c.list, l)
		}
		at = known
		with(&c.list[at])
	}
	return at
}

// readRecord reads the manifest that keeps a layer.
func (s *Store) readRecord(ctx context.Context, desc ocispec.Descriptor) ([]Layer, layerRecord, error) {
	var record layerRecord
	doc, err := readDocument(ctx, s, desc)
	if err != nil {
		return nil, record, err
	}
	text, err := s.ReadBlob(ctx, doc.manifest.Config, maxConfig)
	if err == nil {
		err = json.Unmarshal(text, &record)
	}
	if err != nil {
		return nil, record, fmt.Errorf("read layer record %s: %w", desc.Digest, err)
	}
	layers, err := pairLayers(doc.manifest.Layers, ocispec.RootFS{DiffIDs: record.DiffIDs})
	if err != nil {
		err = fmt.Errorf("layer record %s: %w", desc.Digest, err)
	}
	return layers, record, err
}

// FindLayer finds a layer by its chain id, or by its diff id or the digest of its
// blob where that stands for one layer alone; the beginning of any will do, with
// or without "sha256:". The errors are ErrNotFound and *AmbiguousError.
func (s *Store) FindLayer(ctx context.Context, name string) (*StoredLayer, error) {
	list, err := s.Layers(ctx)
	if err != nil {
		return nil, err
	}
	return findLayer(list, name)
}

func findLayer(list []StoredLayer, name string) (*StoredLayer, error) {
	hex := strings.TrimPrefix(name, "sha256:")
	if !isHexID(hex) {
		return nil, fmt.Errorf("layer %s: it is no digest: %w", name, ErrNotFound)
	}
	for _, digests := range []func(*StoredLayer) []digest.Digest{
		func(l *StoredLayer) []digest.Digest { return []digest.Digest{l.ID} },
		func(l *StoredLayer) []digest.Digest { return []digest.Digest{l.DiffID, l.Descriptor.Digest} },
	} {
		var found []int
		var matches []digest.Digest
		for i := range list {
			if slices.ContainsFunc(digests(&list[i]), func(d digest.Digest) bool { return strings.HasPrefix(d.Encoded(), hex) }) {
				found, matches = append(found, i), append(matches, list[i].ID)
			}
		}
		switch {
		case len(found) == 1:
			return &list[found[0]], nil
		case len(found) > 1:
			return nil, &AmbiguousError{Name: name, Matches: matches}
		}
	}
	return nil, fmt.Errorf("layer %s: %w", name, ErrNotFound)
}

// LayerChain gives a layer that FindLayer finds, and all below it, the bottom
// first.
func (s *Store) LayerChain(ctx context.Context, name string) ([]StoredLayer, error) {
	list, err := s.Layers(ctx)
	if err != nil {
		return nil, err
	}
	l, err := findLayer(list, name)
	if err != nil {
		return nil, err
	}
	byID := make(map[digest.Digest]*StoredLayer, len(list))
	for i := range list {
		byID[list[i].ID] = &list[i]
	}
	chain := []StoredLayer{*l}
	for l.Parent != "" {
		l = byID[l.Parent]
		chain = append(chain, *l)
	}
	slices.Reverse(chain)
	return chain, nil
}

// LayerOptions says what KeepLayer and its like are told of a layer.
type LayerOptions struct {
	// Parent is the layer below, as FindLayer finds it; empty for none.
	Parent string
	Labels map[string]string
}

// CreateLayer makes a layer of a directory, and keeps it. The table of contents
// goes to memo.
func (s *Store) CreateLayer(ctx context.Context, dir string, o LayerOptions, memo TOCs) (*StoredLayer, error) {
	lease, err := s.Lease(ctx)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	below, err := s.below(ctx, o.Parent)
	if err != nil {
		return nil, err
	}
	ly, err := s.WriteLayer(memo, func(w *layer.Writer) error { return layer.Diff(ctx, dir, w) })
	if err != nil {
		return nil, fmt.Errorf("create layer of %s: %w", dir, err)
	}
	return s.keepLayer(ctx, append(below, ly), o.Labels)
}

// below gives the layers that a new one is on.
func (s *Store) below(ctx context.Context, parent string) ([]Layer, error) {
	if parent == "" {
		return nil, nil
	}
	p, err := s.FindLayer(ctx, parent)
	if err != nil {
		return nil, fmt.Errorf("parent: %w", err)
	}
	return slices.Clone(p.Chain), nil
}

// KeepLayer keeps a layer of an image when the image goes. Of one that is kept
// already the labels change.
func (s *Store) KeepLayer(ctx context.Context, name string, labels map[string]string) (*StoredLayer, error) {
	l, err := s.FindLayer(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.keepLayer(ctx, l.Chain, labels)
}

// keepLayer writes the manifest that keeps a layer, and puts it into the table in
// the place of an earlier one.
func (s *Store) keepLayer(ctx context.Context, chain []Layer, labels map[string]string) (*StoredLayer, error) {
	record := layerRecord{Labels: labels}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: layerArtifact,
	}
	for i, l := range chain {
		desc, err := manifestLayer(l)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		m.Layers, record.DiffIDs = append(m.Layers, desc), append(record.DiffIDs, l.DiffID)
	}
	text, err := json.Marshal(record)
	if err != nil {
		return nil, err
	}
	if m.Config, err = s.putBytes(ctx, layerConfig, text); err != nil {
		return nil, err
	}
	desc, err := s.putDocument(ctx, m.MediaType, m)
	if err != nil {
		return nil, err
	}
	desc.ArtifactType = layerArtifact
	id := ChainID(chain)
	if err := s.replaceRecord(ctx, id, desc); err != nil {
		return nil, err
	}
	return s.FindLayer(ctx, id.String())
}

func (s *Store) replaceRecord(ctx context.Context, id digest.Digest, desc ocispec.Descriptor) error {
	unlock, err := s.Lock(ctx, "layer "+id.String())
	if err != nil {
		return err
	}
	defer unlock()
	list, err := s.Layers(ctx)
	if err != nil {
		return err
	}
	var earlier digest.Digest
	if at := slices.IndexFunc(list, func(l StoredLayer) bool { return l.ID == id }); at >= 0 {
		earlier = list[at].record
	}
	return s.keep(ctx, desc, earlier)
}

// RemoveLayer lets a layer go that was kept. One that an image or another layer
// needs is refused with an *InUseError. KeepMore is as in RemoveOptions.
func (s *Store) RemoveLayer(ctx context.Context, name string, keepMore func(context.Context) ([]digest.Digest, error)) (*StoredLayer, error) {
	list, err := s.Layers(ctx)
	if err != nil {
		return nil, err
	}
	l, err := findLayer(list, name)
	if err != nil {
		return nil, err
	}
	if len(l.Images) > 0 {
		return nil, &InUseError{What: "layer", Name: name, By: "image " + l.Images[0] + " needs it"}
	}
	for i := range list {
		if list[i].Parent == l.ID {
			return nil, &InUseError{What: "layer", Name: name, By: "layer " + list[i].ID.String() + " is on it"}
		}
	}
	if err := s.forget(ctx, l.record); err != nil {
		return nil, err
	}
	r := remover{store: s, options: RemoveOptions{KeepMore: keepMore}}
	_, err = s.Prune(ctx, PruneOptions{KeepMore: r.keep})
	return l, err
}

// isLayerRecord reports whether a summary is the manifest that keeps a layer.
func (s *Summary) isLayerRecord() bool {
	return !s.IsIndex && len(s.Members) == 1 && s.Members[0].ArtifactType == layerArtifact
}

var errNoDigest = errors.New("neither a digest nor a descriptor says what it must be")
