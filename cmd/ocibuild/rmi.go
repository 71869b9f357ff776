package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

type rmiCommand struct {
	names []string
	force bool
}

func rmiDescription() *command {
	return &command{
		name: "rmi", args: "IMAGE...", short: "remove images",
		long: "Removes images. A name is taken from its image, which goes when it was the last one. An id removes the image " +
			"with its name; when it has several names --force is needed. Layers that other images or the build cache need stay.",
		examples: []example{
			{"ocibuild rmi app:v1", ""},
			{"ocibuild rmi $(ocibuild images -q --filter dangling=true)", "all images without a name, as `ocibuild prune` does"},
		},
		make: func() verb { return &rmiCommand{} },
	}
}

func (c *rmiCommand) Flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.force, "force", "f", false, "remove an image by its id though it has several names; do not mind missing images")
}

func (c *rmiCommand) Check(_ *stdio, args []string) error {
	c.names = args
	return count(args, 1, -1, "an IMAGE")
}

func (c *rmiCommand) Run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	r := &remover{s: s, store: st, force: c.force}
	var first error
	for _, name := range c.names {
		err := r.remove(ctx, name)
		if c.force && errors.Is(err, image.ErrNotFound) {
			continue
		}
		if err != nil && first != nil {
			fmt.Fprintf(s.err, "ocibuild: %s\n", message(first))
		}
		if err != nil {
			first = err
		}
	}
	if err := r.collect(ctx); err != nil {
		return err
	}
	return first
}

// remover takes names from images and deletes those that have none left.
type remover struct {
	s     *session
	store *image.Store
	force bool
	// gone are the images that have lost their last name.
	gone []removed
}

type removed struct {
	desc ocispec.Descriptor
	// id and manifest are those of the image for this machine, if it can be read.
	id, manifest digest.Digest
}

func (r *remover) remove(ctx context.Context, name string) error {
	desc, refs, err := r.find(ctx, name)
	if err != nil {
		return missingImage(name, err)
	}
	gone := removed{desc: desc, id: desc.Digest}
	if img, err := openImage(ctx, r.store, desc); err == nil {
		gone.id, gone.manifest = img.ID(), img.Descriptor.Digest
	}
	for _, ref := range refs {
		if err := r.store.Untag(ctx, ref); err != nil && !errors.Is(err, image.ErrNotFound) {
			return err
		}
		if _, err := fmt.Fprintf(r.s.out, "Untagged: %s\n", ref.Familiar()); err != nil {
			return err
		}
	}
	left, err := r.namesOf(ctx, desc.Digest)
	if err == nil && len(left) == 0 {
		r.gone = append(r.gone, gone)
	}
	return err
}

// find gives what name stands for and the names to take from it: name itself,
// or, for an id, all of them.
func (r *remover) find(ctx context.Context, name string) (ocispec.Descriptor, []image.Ref, error) {
	if ref, err := image.ParseRef(name); err == nil {
		ref = ref.WithDefaultTag()
		desc, err := r.store.Lookup(ctx, ref)
		if err == nil {
			return desc, []image.Ref{ref}, nil
		}
		if !errors.Is(err, image.ErrNotFound) {
			return desc, nil, err
		}
	}
	desc, err := r.store.Resolve(ctx, name)
	if err != nil {
		return desc, nil, err
	}
	refs, err := r.namesOf(ctx, desc.Digest)
	if err == nil && len(refs) > 1 && !r.force {
		names := make([]string, len(refs))
		for i, ref := range refs {
			names[i] = ref.Familiar()
		}
		err = &storeError{
			msg:  fmt.Sprintf("image %s has several names: %s", name, strings.Join(names, ", ")),
			hint: "remove them by name, or all with --force",
		}
	}
	return desc, refs, err
}

func (r *remover) namesOf(ctx context.Context, d digest.Digest) ([]image.Ref, error) {
	refs, err := r.store.References(ctx)
	if err != nil {
		return nil, err
	}
	var out []image.Ref
	for _, ref := range refs {
		if ref.Descriptor.Digest == d {
			out = append(out, ref.Ref)
		}
	}
	return out, nil
}

// collect deletes what only the removed images needed.
func (r *remover) collect(ctx context.Context) error {
	if len(r.gone) == 0 {
		return nil
	}
	_, err := r.store.Prune(ctx, image.PruneOptions{KeepMore: r.keep})
	if err != nil {
		return err
	}
	for _, g := range r.gone {
		if _, err := fmt.Fprintf(r.s.out, "Deleted: %s\n", g.id); err != nil {
			return err
		}
	}
	return nil
}

// keep lists the blobs that have no name and are to stay all the same: those
// of other images without a name and those of the build cache.
func (r *remover) keep(ctx context.Context) ([]digest.Digest, error) {
	out, err := cacheBlobs(ctx, r.s)
	if err != nil {
		return nil, err
	}
	named, err := listImages(ctx, r.s, false)
	if err != nil {
		return nil, err
	}
	var without []digest.Digest
	for _, g := range r.gone {
		without = append(without, g.desc.Digest, g.manifest)
	}
	others, err := danglingImages(ctx, r.store, named, without)
	if err != nil {
		return nil, err
	}
	for _, i := range others {
		out = append(out, imageBlobs(i)...)
	}
	return out, nil
}

// imageBlobs lists the blobs of an image.
func imageBlobs(i *stored) []digest.Digest {
	out := []digest.Digest{i.desc.Digest, i.img.Descriptor.Digest, i.id()}
	for _, l := range i.img.Layers {
		out = append(out, l.Descriptor.Digest)
	}
	return out
}

// cacheBlobs lists the blobs that the records of the build cache name.
func cacheBlobs(ctx context.Context, s *session) ([]digest.Digest, error) {
	c, err := s.cache()
	if err != nil {
		return nil, err
	}
	var out []digest.Digest
	for record, err := range c.Records(ctx) {
		if record == nil {
			if ctx.Err() != nil {
				return nil, err
			}
			continue
		}
		for _, b := range record.Blobs {
			out = append(out, b.Digest)
		}
	}
	return out, nil
}
