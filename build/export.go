package build

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WriteTar writes an image's root filesystem as one tar: what its layers come
// to, without whiteouts.
func (b *Builder) WriteTar(ctx context.Context, desc ocispec.Descriptor, w io.Writer) error {
	img, err := b.Store.Image(ctx, desc, nil)
	if err != nil {
		return err
	}
	files, err := b.Store.Files(ctx, img.Layers, b.Cache)
	if err != nil {
		return err
	}
	return files.WriteTar(ctx, w)
}

// WriteDir writes an image's root filesystem into a directory, which is made
// if it is missing. What is there stays, unless the image has the same path.
func (b *Builder) WriteDir(ctx context.Context, desc ocispec.Descriptor, dir string) error {
	img, err := b.Store.Image(ctx, desc, nil)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, ly := range img.Layers {
		if err := b.writeLayer(ctx, ly, dir); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) writeLayer(ctx context.Context, ly image.Layer, dir string) error {
	r, err := b.Store.LayerTar(ctx, ly)
	if err != nil {
		return err
	}
	defer r.Close()
	_, _, err = layer.Apply(ctx, r, dir, b.applyOptions(layer.Merge))
	if err != nil {
		return fmt.Errorf("unpack layer %s: %w", ly.DiffID, err)
	}
	return nil
}
