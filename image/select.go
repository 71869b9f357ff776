package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Select reads the image that desc names, as Image does, but is strict about
// the platform and marks nothing as used. With want nil it is this machine's
// image of an index, else the first that is in the store. With want set a
// manifest for another platform is a *PlatformError too.
func (s *Store) Select(ctx context.Context, desc ocispec.Descriptor, want *ocispec.Platform) (*Image, error) {
	img, err := s.selectImage(ctx, desc, want)
	if err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	return img, nil
}

func (s *Store) selectImage(ctx context.Context, desc ocispec.Descriptor, want *ocispec.Platform) (*Image, error) {
	if want != nil {
		img, err := imageFrom(ctx, s, desc, *want)
		if err != nil {
			return nil, err
		}
		if _, fits := platformDistance(*want, img.Config.Platform); !fits && img.Descriptor.Digest == desc.Digest {
			return nil, &PlatformError{Image: desc.Digest, Want: *want, Have: []ocispec.Platform{img.Config.Platform}}
		}
		return img, nil
	}
	img, err := imageFrom(ctx, s, desc, HostPlatform())
	var none *PlatformError
	if !errors.As(err, &none) {
		return img, err
	}
	images, listErr := indexImages(ctx, s, desc, 0)
	if listErr != nil {
		return nil, err
	}
	for _, m := range images {
		if other, otherErr := imageFrom(ctx, s, m, *m.Platform); otherErr == nil {
			return other, nil
		}
	}
	return nil, err
}

// leaveOut lists what of an index is not wanted when only the images for some
// platforms are: other manifests, what builders say of them, and indexes that
// have none of the wanted ones. Without platforms everything is wanted.
func leaveOut(ctx context.Context, from blobReader, desc ocispec.Descriptor, platforms []ocispec.Platform) (map[digest.Digest]bool, error) {
	if len(platforms) == 0 {
		return nil, nil
	}
	keep := make(map[digest.Digest]bool)
	for _, p := range platforms {
		img, err := imageFrom(ctx, from, desc, p)
		if err != nil {
			return nil, err
		}
		if _, fits := platformDistance(p, img.Config.Platform); !fits && img.Descriptor.Digest == desc.Digest {
			return nil, &PlatformError{Image: desc.Digest, Want: p, Have: []ocispec.Platform{img.Config.Platform}}
		}
		keep[img.Descriptor.Digest] = true
	}
	out := make(map[digest.Digest]bool)
	_, err := markUnwanted(ctx, from, desc, keep, out, 0)
	return out, err
}

// markUnwanted reports whether desc is or holds something wanted, and puts into
// out what is not.
func markUnwanted(ctx context.Context, from blobReader, desc ocispec.Descriptor, keep, out map[digest.Digest]bool, depth int) (wanted bool, err error) {
	wanted = keep[desc.Digest] || keep[digest.Digest(desc.Annotations[attestationOf])]
	if depth == 0 || isIndexType(desc.MediaType) {
		doc, err := readDocument(ctx, from, desc)
		if err != nil && !errors.Is(err, ErrNotFound) || depth > maxDepth {
			return false, err
		}
		if doc.index != nil {
			for _, child := range doc.index.Manifests {
				holds, err := markUnwanted(ctx, from, child, keep, out, depth+1)
				if err != nil {
					return false, err
				}
				wanted = wanted || holds
			}
		}
	}
	if !wanted {
		out[desc.Digest] = true
	}
	return wanted, nil
}
