package image

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// lifeOfParts is what happens to an image whose layer is at a registry: it is
// named, the layer comes in two attempts, and with it the image is whole.
func lifeOfParts(ctx context.Context, s *Store, body []byte) error {
	there := &away{body: body}
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(body), Size: int64(len(body))}
	s.SetRemote(&bringer{blobs: map[digest.Digest]*away{layer.Digest: there}})
	for _, repository := range []string{"one", "two"} {
		if err := s.Seen(layer, "registry.example", repository); err != nil {
			return err
		}
	}
	desc, err := s.Assemble(ctx, testConfig("lazy"), []Layer{{Descriptor: layer, DiffID: layer.Digest}})
	if err == nil {
		err = s.Tag(ctx, mustParse("lazy:v1"), desc)
	}
	if err == nil {
		err = s.Lost(layer.Digest, "registry.example", "one")
	}
	if err != nil {
		return err
	}
	if err := makeOld(s); err != nil {
		return err
	}
	if err := s.prunePlaces(ctx, map[digest.Digest]bool{layer.Digest: true}, s.now()); err != nil {
		return err
	}
	there.cut = len(body) / 2
	if err := s.Fetch(ctx, layer, there.open); err != nil && !errors.Is(err, errCut) {
		return err
	}
	there.cut = 0
	if err := s.Complete(ctx, desc); err != nil {
		return err
	}
	return s.Sync(ctx, layer.Digest)
}

func TestPartsCrashAtEveryPoint(t *testing.T) {
	body := tarOf(t, file{"hello", strings.Repeat("a layer that is elsewhere ", 20_000)})
	l := settledLife{name: "lazy:v1", live: func(ctx context.Context, s *Store) error { return lifeOfParts(ctx, s, body) }}
	atEveryPoint(t, crashes, 1, l.crash)
}
