package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// images finds what the archive holds. A layout's index goes before Docker's
// manifest.json; archives with both say the same in both, the index more.
func (a *archive) images(ctx context.Context) ([]Loaded, error) {
	_, layout := a.text[ocispec.ImageLayoutFile]
	table, indexed := a.text[ocispec.ImageIndexFile]
	list, docker := a.text["manifest.json"]
	switch {
	case indexed && (layout || !docker):
		images, err := a.layoutImages(table)
		if err != nil || len(images) > 0 || !docker {
			return images, err
		}
		return a.dockerImages(ctx, list)
	case docker:
		return a.dockerImages(ctx, list)
	case len(a.members) > 0 && a.hasVersion1():
		return nil, errors.New("it was saved by Docker before 1.10 and has no manifest.json (load and save it with a Docker in between)")
	}
	return nil, errors.New("it holds neither index.json nor manifest.json: it is not an image (a root file system is imported, not loaded)")
}

func (a *archive) hasVersion1() bool {
	for name := range a.members {
		if strings.HasSuffix(name, "/layer.tar") {
			return true
		}
	}
	return false
}

func (a *archive) layoutImages(table []byte) ([]Loaded, error) {
	index, err := decodeTable(table)
	if err != nil {
		return nil, err
	}
	var list []Loaded
	for _, m := range index.Manifests {
		list = append(list, Loaded{archiveRef(m), withoutName(m)})
	}
	if len(list) == 0 {
		return nil, errors.New("its index.json names no image")
	}
	return list, nil
}

// archiveRef is the image's name. A layout made by Docker or containerd has
// the mere tag as the layout's own name, which is no name of an image.
func archiveRef(m ocispec.Descriptor) Ref {
	if m.Annotations[annotationName] == "" && !strings.ContainsAny(m.Annotations[ocispec.AnnotationRefName], ":/") {
		return Ref{}
	}
	ref, _ := entryRef(m)
	return ref
}

// dockerImages makes manifests of what manifest.json names. The configs stay
// as they are, and with them the image ids.
func (a *archive) dockerImages(ctx context.Context, text []byte) ([]Loaded, error) {
	var list []dockerImage
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read manifest.json: %w", err)
	}
	if len(list) == 0 {
		return nil, errors.New("its manifest.json names no image")
	}
	var images []Loaded
	for i, d := range list {
		desc, err := a.dockerImage(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("image %d of manifest.json: %w", i, err)
		}
		if len(d.RepoTags) == 0 {
			images = append(images, Loaded{Descriptor: desc})
		}
		for _, tag := range d.RepoTags {
			ref, err := ParseRef(tag)
			if err != nil {
				return nil, fmt.Errorf("image %d of manifest.json: %w", i, err)
			}
			images = append(images, Loaded{ref.WithDefaultTag(), desc})
		}
	}
	return images, nil
}

func (a *archive) dockerImage(ctx context.Context, d dockerImage) (ocispec.Descriptor, error) {
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Layers:    []ocispec.Descriptor{},
	}
	cfgDesc, err := a.lookup(d.Config)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("config: %w", err)
	}
	cfgDesc.MediaType = ocispec.MediaTypeImageConfig
	manifest.Config = cfgDesc
	text, err := a.ReadBlob(ctx, cfgDesc, maxConfig)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	cfg, err := decodeConfig(text)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(cfg.RootFS.DiffIDs) != len(d.Layers) {
		return ocispec.Descriptor{}, fmt.Errorf("it has %d layers and its config %d", len(d.Layers), len(cfg.RootFS.DiffIDs))
	}
	for i, name := range d.Layers {
		layer, err := a.dockerLayer(name, cfg.RootFS.DiffIDs[i])
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("layer %d: %w", i, err)
		}
		manifest.Layers = append(manifest.Layers, layer)
	}
	return a.addManifest(ctx, manifest)
}

// dockerLayer finds a layer and how it is compressed. An uncompressed one must
// be what the config says; what a compressed one unpacks to is checked by
// whoever unpacks it.
func (a *archive) dockerLayer(name string, diffID digest.Digest) (ocispec.Descriptor, error) {
	desc, err := a.lookup(name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	head, err := a.head(desc.Digest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		desc.MediaType = ocispec.MediaTypeImageLayerGzip
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		desc.MediaType = ocispec.MediaTypeImageLayerZstd
	case bytes.HasPrefix(head, []byte("BZh")), bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return ocispec.Descriptor{}, errors.New("layers compressed with bzip2 or xz are not supported")
	default:
		desc.MediaType = ocispec.MediaTypeImageLayer
		if desc.Digest != diffID {
			return ocispec.Descriptor{}, &VerifyError{Want: diffID, Got: desc.Digest, GotSize: desc.Size}
		}
	}
	return desc, nil
}

// addManifest makes a document part of the archive.
func (a *archive) addManifest(ctx context.Context, manifest ocispec.Manifest) (ocispec.Descriptor, error) {
	text, err := json.MarshalIndent(manifest, "", "  ")
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode manifest: %w", err)
	}
	desc, err := a.keep(ctx, digest.FromBytes(text), bytes.NewReader(text))
	desc.MediaType = manifest.MediaType
	return desc, err
}
