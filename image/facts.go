package image

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Kind tells what a manifest is.
type Kind string

// The kinds of manifests.
const (
	KindImage       Kind = "image"
	KindAttestation Kind = "attestation" // what a builder says of an image, beside it in an index
	KindArtifact    Kind = "artifact"    // anything else that is kept in the form of an image
)

// Facts are what lists say of a manifest. The manifest and its config say the
// same, so they stay true for as long as its digest.
type Facts struct {
	Kind Kind `json:"k"`
	// ID is the image id: the config's digest. What is no image has the digest
	// of its manifest.
	ID           digest.Digest     `json:"i"`
	ArtifactType string            `json:"a,omitempty"`
	Subject      digest.Digest     `json:"s,omitempty"`
	Platform     ocispec.Platform  `json:"p"`
	Created      *time.Time        `json:"c,omitempty"`
	Labels       map[string]string `json:"l,omitempty"` // of the config
	Annotations  map[string]string `json:"n,omitempty"` // of the manifest
	// Blobs are the config and the layers.
	Blobs []Blob `json:"b"`
}

// Blob is content with its size.
type Blob struct {
	Digest digest.Digest `json:"d"`
	Size   int64         `json:"s"`
}

func blobOf(d ocispec.Descriptor) Blob { return Blob{d.Digest, d.Size} }

// attestationType marks, in an index, what a builder says of another entry,
// attestationOf that entry.
const (
	attestationType = "vnd.docker.reference.type"
	attestationOf   = "vnd.docker.reference.digest"
)

// readFacts reads a manifest that has been decoded, and its config.
func readFacts(ctx context.Context, from blobReader, desc ocispec.Descriptor, m *ocispec.Manifest) (*Facts, error) {
	f := &Facts{Kind: KindArtifact, ID: desc.Digest, ArtifactType: orDefault(m.ArtifactType, m.Config.MediaType), Annotations: m.Annotations}
	for _, d := range (document{manifest: m}).children() {
		f.Blobs = append(f.Blobs, blobOf(d))
	}
	if m.Subject != nil {
		f.Subject = m.Subject.Digest
	}
	if !isConfigType(m.Config.MediaType) {
		return f, nil
	}
	text, err := from.ReadBlob(ctx, m.Config, maxConfig)
	if err != nil {
		return nil, err
	}
	cfg, err := decodeConfig(text)
	if err != nil {
		return nil, err
	}
	f.Platform, f.Created = cfg.Platform, cfg.Created
	for _, l := range m.Layers {
		switch {
		case layerType(l.MediaType) != "":
		case cfg.OS == "unknown" || cfg.OS == "":
			f.Kind = KindAttestation
			return f, nil
		default:
			return f, nil
		}
	}
	f.Kind, f.ID, f.ArtifactType, f.Labels = KindImage, m.Config.Digest, m.ArtifactType, cfg.Config.Labels
	return f, nil
}
