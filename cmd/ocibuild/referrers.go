package main

import (
	"context"
	"fmt"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxAbout is how far artifacts about artifacts are followed.
const maxAbout = 4

// subjects are what artifacts may be about: an image, or an index and each image
// in it that is there.
func subjects(ctx context.Context, st *image.Store, desc ocispec.Descriptor) ([]digest.Digest, error) {
	list := []digest.Digest{desc.Digest}
	info, err := st.Inspect(ctx, desc.Digest.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, m := range info.Manifests {
		if m.Present && m.Kind == image.KindImage {
			list = append(list, m.Digest)
		}
	}
	return list, nil
}

// pullReferrers fetches what a registry has about an image, and keeps it.
func (b *bases) pullReferrers(ctx context.Context, ref image.Ref, desc ocispec.Descriptor, depth int) error {
	if depth >= maxAbout {
		return nil
	}
	about, err := subjects(ctx, b.store, desc)
	if err != nil {
		return err
	}
	for _, subject := range about {
		list, err := b.client.Referrers(ctx, repository(ref), subject)
		if err != nil {
			return err
		}
		for _, d := range list {
			got, err := b.client.Pull(ctx, registry.PullRequest{Repo: repository(ref), Reference: d.Digest.String(), All: true}, b.store)
			if err == nil {
				d.Platform = nil
				err = b.store.Keep(ctx, d)
			}
			if err == nil {
				err = b.pullReferrers(ctx, ref, got, depth+1)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// pushReferrers sends what the store has about an image. Where the image has
// another digest at the registry, what is about it here is not about it there.
func (p *pusher) pushReferrers(ctx context.Context, ref image.Ref, desc ocispec.Descriptor, pushed digest.Digest) error {
	return p.pushAbout(ctx, ref, desc, desc.Digest == pushed, 0)
}

func (p *pusher) pushAbout(ctx context.Context, ref image.Ref, desc ocispec.Descriptor, same bool, depth int) error {
	if depth >= maxAbout {
		return nil
	}
	about, err := subjects(ctx, p.store, desc)
	if err != nil {
		return err
	}
	for _, subject := range about {
		list, err := p.store.Referrers(ctx, subject)
		if err != nil {
			return err
		}
		if len(list) > 0 && !same {
			return &storeError{
				msg:  fmt.Sprintf("%s was pushed with another digest, and %s about it in the store: none was pushed", ref.Familiar(), plural(len(list), "artifact")),
				hint: "an image that was built here changes its digest when its layers are compressed: pull it and attach them to that",
			}
		}
		for _, d := range list {
			_, err := p.client.Push(ctx, registry.PushRequest{Repo: repository(ref), Descriptor: d}, p.store)
			if err == nil {
				err = p.pushAbout(ctx, ref, d, true, depth+1)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
