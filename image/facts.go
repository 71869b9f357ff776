package image

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
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
	ID           digest.Digest    `json:"i"`
	ArtifactType string           `json:"a,omitempty"`
	Subject      digest.Digest    `json:"s,omitempty"`
	Platform     ocispec.Platform `json:"p"`
	Created      *time.Time       `json:"c,omitempty"`
	// Size is that of the manifest, its config and its layers, each once.
	Size int64 `json:"z"`

	details *details
}

// details are the facts that few lists need. They are kept apart and read when
// they are asked for.
type details struct {
	Labels      map[string]string `json:"l,omitempty"`
	Annotations map[string]string `json:"n,omitempty"`
	Blobs       []Blob            `json:"b"`

	raw  []byte // JSON of the above, until it has been read
	once sync.Once
}

func (f Facts) detail() *details {
	if f.details == nil {
		return new(details)
	}
	f.details.once.Do(func() {
		if f.details.raw != nil {
			_ = json.Unmarshal(f.details.raw, f.details) // the line's checksum was right
		}
	})
	return f.details
}

// Labels are those of the config.
func (f Facts) Labels() map[string]string { return f.detail().Labels }

// Annotations are those of the manifest.
func (f Facts) Annotations() map[string]string { return f.detail().Annotations }

// Blobs are the config and the layers, each once.
func (f Facts) Blobs() []Blob { return f.detail().Blobs }

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
	f := &Facts{Kind: KindArtifact, ID: desc.Digest, ArtifactType: orDefault(m.ArtifactType, m.Config.MediaType), Size: desc.Size}
	f.details = &details{Annotations: m.Annotations}
	for _, d := range (document{manifest: m}).children() {
		if b := blobOf(d); !slices.Contains(f.details.Blobs, b) {
			f.details.Blobs = append(f.details.Blobs, b)
			f.Size += b.Size
		}
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
	f.Kind, f.ID, f.ArtifactType, f.details.Labels = KindImage, m.Config.Digest, m.ArtifactType, cfg.Config.Labels
	return f, nil
}
