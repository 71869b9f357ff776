package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func layerDescription() *command {
	return &command{
		name: "layer", short: "make, list, carry and keep single layers",
		long: "A layer is a difference together with all below it. Its id is the chain id; a diff id or the digest of its blob will do " +
			"where that stands for one layer alone, and so will the beginning of any. The layers of an image stay for as long " +
			"as the image. Those that these verbs make stay on their own, until `layer rm`: the store's index.json has an OCI " +
			"artifact without a name for each, which `ocibuild prune` leaves alone (`prune --all` does not).",
		subs: []*command{
			layerCreateDescription(), layerKeepDescription(), layerLsDescription(), layerInspectDescription(), layerChainDescription(),
			layerExistsDescription(), layerExportDescription(), layerImportDescription(), layerRmDescription(),
		},
	}
}

// layerLine is a line of a list of layers, and what templates and JSON see.
type layerLine struct {
	ID         digest.Digest
	DiffID     digest.Digest
	Parent     digest.Digest `json:",omitempty"`
	Digest     digest.Digest
	MediaType  string
	Size       int64
	Kept       bool
	Labels     map[string]string  `json:",omitempty"`
	Images     []string           `json:",omitempty"`
	Descriptor ocispec.Descriptor `json:"-"`
}

func newLayerLine(l *image.StoredLayer) layerLine {
	return layerLine{
		ID: l.ID, DiffID: l.DiffID, Parent: l.Parent, Digest: l.Descriptor.Digest, MediaType: l.Descriptor.MediaType,
		Size: l.Descriptor.Size, Kept: l.Kept, Labels: l.Labels, Images: l.Images, Descriptor: l.Descriptor,
	}
}

// findLayer finds a layer by the argument of a verb.
func findLayer(ctx context.Context, s *session, name string) (*image.Store, *image.StoredLayer, error) {
	st, err := s.store()
	if err != nil {
		return nil, nil, err
	}
	l, err := st.FindLayer(ctx, name)
	return st, l, layerError(name, err)
}

// layerError words what the store says of a layer.
func layerError(name string, err error) error {
	var many *image.AmbiguousError
	var used *image.InUseError
	var bad *image.VerifyError
	switch {
	case errors.As(err, &many):
		return err
	case errors.As(err, &used):
		return &storeError{msg: used.Error(), hint: "remove that first", err: err}
	case errors.As(err, &bad) && !bad.Stored:
		return &contextError{msg: err.Error(), hint: "it was damaged on its way, or is another layer: nothing of it was kept"}
	case errors.Is(err, image.ErrNotFound):
		what := "layer"
		if strings.Contains(err.Error(), "parent: ") {
			what = "parent layer"
		}
		return &storeError{
			msg:  fmt.Sprintf("no such %s: %s", what, sanitizeText(name)),
			hint: "`ocibuild layer ls` lists what is there", err: err,
		}
	}
	return err
}
