package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// bases brings images into the store, for builds and for pull.
type bases struct {
	store  *image.Store
	client *registry.Client
	show   display
	later  bool // layers are fetched when something reads them
}

// Image gives the image of ref for a platform: the store's, or the registry's
// as policy wants. Several builds that want the same image fetch it once. An
// image for one other platform is taken, as BuildKit does; see otherPlatform.
func (b *bases) Image(ctx context.Context, ref image.Ref, p ocispec.Platform, policy build.PullPolicy) (*image.Image, error) {
	ref = ref.WithDefaultTag()
	img, err := b.accepted(ctx, ref, p, policy)
	if img != nil || err != nil {
		return img, err
	}
	unlock, err := b.store.Lock(ctx, "pull "+ref.String())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if policy == build.PullMissing || policy == build.PullNewer {
		if img, err := b.accepted(ctx, ref, p, policy); img != nil && err == nil {
			return img, nil
		}
	}
	desc, err := b.pull(ctx, ref, registry.PullRequest{Platforms: []ocispec.Platform{p}})
	if err != nil && policy != build.PullAlways && ctx.Err() == nil {
		return nil, &build.Hinted{Err: err, Hint: "the store has no " + ref.Familiar() + ", so its registry was asked: `ocibuild images` lists what is there"}
	}
	if err != nil {
		return nil, err
	}
	return b.store.Image(ctx, desc, &p)
}

// accepted gives the store's image if the policy is content with it, else nil.
func (b *bases) accepted(ctx context.Context, ref image.Ref, p ocispec.Platform, policy build.PullPolicy) (*image.Image, error) {
	if policy == build.PullAlways {
		return nil, nil
	}
	img, desc, err := b.stored(ctx, ref, p)
	switch {
	case err == nil && policy == build.PullNewer && b.newer(ctx, ref, desc):
		return nil, nil
	case err == nil || !errors.Is(err, image.ErrNotFound):
		return img, err
	case policy == build.PullNever:
		return nil, &build.Hinted{
			Err:  fmt.Errorf("%s is not in the store for %s, and the policy is never to fetch it: %w", ref.Familiar(), image.FormatPlatform(p), image.ErrNotFound),
			Hint: "`ocibuild pull " + ref.Familiar() + "` fetches it",
		}
	}
	return nil, nil
}

// newer reports whether the registry has another image under the name. One
// that gives no answer has not.
func (b *bases) newer(ctx context.Context, ref image.Ref, have ocispec.Descriptor) bool {
	if ref.Digest() != "" {
		return false
	}
	desc, err := b.client.Resolve(ctx, repository(ref), remoteReference(ref))
	return err == nil && desc.Digest != have.Digest
}

// otherPlatform words that an image is for another platform than the one that
// was asked for; it is empty when it is not. Builds have a rule for it.
func otherPlatform(img *image.Image, ref image.Ref, p ocispec.Platform) string {
	have := img.Config.Platform
	if have.OS == p.OS && have.Architecture == p.Architecture {
		return ""
	}
	return fmt.Sprintf("%s is for %s, not for %s", ref.Familiar(), image.FormatPlatform(have), image.FormatPlatform(p))
}

// stored gives the store's image of ref and what the name stands for, if it is
// there for the platform. Layers may be elsewhere.
func (b *bases) stored(ctx context.Context, ref image.Ref, p ocispec.Platform) (*image.Image, ocispec.Descriptor, error) {
	desc, err := b.store.Resolve(ctx, ref.String())
	if err != nil {
		return nil, desc, err
	}
	img, err := b.store.Image(ctx, desc, &p)
	if err != nil {
		return nil, desc, err
	}
	for _, l := range img.Layers {
		if !b.store.UseAnywhere(l.Descriptor.Digest) {
			return nil, desc, fmt.Errorf("layer %s of %s: %w", l.Descriptor.Digest, ref.Familiar(), image.ErrNotFound)
		}
	}
	return img, desc, nil
}

// pull fetches what is wanted of ref and names it.
func (b *bases) pull(ctx context.Context, ref image.Ref, want registry.PullRequest) (ocispec.Descriptor, error) {
	r := b.show.begin("pull "+ref.String(), repositoryName(ref))
	want.Repo, want.Reference, want.Later = repository(ref), remoteReference(ref), b.later
	desc, err := b.client.Pull(ctx, want, b.store)
	b.show.end(r, err)
	if err != nil {
		return desc, err
	}
	return desc, b.store.Tag(ctx, ref, desc)
}

// repository is where a registry keeps ref.
func repository(ref image.Ref) registry.Repository {
	return registry.Repository{Host: ref.Host(), Name: ref.Repository()}
}

// remoteReference is what to ask the registry for: the digest if there is one.
func remoteReference(ref image.Ref) string {
	if d := ref.Digest(); d != "" {
		return d.String()
	}
	return ref.Tag()
}
