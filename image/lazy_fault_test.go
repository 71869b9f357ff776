package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	for _, kind := range []string{"kill", "power failure, bytes lost", "power failure, names lost"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := scratch(t)
			for n := 1; ; n += shortStep() {
				if crashParts(t, filepath.Join(dir, fmt.Sprint(n)), kind, n) {
					return
				}
			}
		})
	}
}

// crashParts stops a life at its nth change, and wants what is left to be whole
// and good enough to live it again.
func crashParts(t *testing.T, root, kind string, n int) (done bool) {
	body := tarOf(t, file{"hello", strings.Repeat("a layer that is elsewhere ", 20_000)})
	boot := "1"
	p := &tape{}
	s := openTest(t, root, disk{before: p.before, boot: func() string { return boot }, flush: noFlush})
	p.mu.Lock()
	p.count, p.stopAt = 0, n
	p.mu.Unlock()
	err := lifeOfParts(t.Context(), s, body)
	if p.stopped == "" {
		if err != nil {
			t.Fatalf("without a crash: %v", err)
		}
		mustBeClean(t, s)
		mustHave(t, s, "lazy:v1")
		return true
	}
	switch kind {
	case "power failure, bytes lost":
		p.loseBytes(t)
		boot = "2"
	case "power failure, names lost":
		p.loseNames(t)
		boot = "2"
	}
	after := openTest(t, root, disk{boot: func() string { return boot }, flush: noFlush})
	mustBeClean(t, after)
	if err := lifeOfParts(t.Context(), after, body); err != nil {
		t.Errorf("the same again: %v", err)
	}
	mustBeClean(t, after)
	mustHave(t, after, "lazy:v1")
	if t.Failed() {
		t.Fatalf("after a crash at %d (%s)", n, p.stopped)
	}
	os.RemoveAll(root)
	return false
}
