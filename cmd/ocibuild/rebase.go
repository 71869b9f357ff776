package main

import (
	"context"
	"errors"

	"github.com/ocibuild/ocibuild/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

type rebaseCommand struct {
	name, old, fresh string
	tags             []string
	refs             []image.Ref
	platform         platformFlag
}

func rebaseDescription() *command {
	return &command{
		name: "rebase", args: "IMAGE", short: "put an image on another base without a build",
		long: "Makes a copy of an image in which the layers of --new-base take the place of those of --old-base, and gives it the " +
			"names of --tag. What the config has from the old base unchanged it has from the new one. No step runs again: it is for " +
			"bases that differ in what the image does not look into, such as security updates. Of an image for several platforms all " +
			"are put on the bases for theirs. Without --old-base it is the image that annotations say IMAGE was made on. Prints " +
			"the image id.",
		examples: []example{
			{"ocibuild rebase --old-base debian:12.1 --new-base debian:12.2 -t app:v2 app:v1", ""},
			{"ocibuild rebase --new-base debian:12.3 -t app:v3 app:v2", "rebase notes the base, so it need not be named again"},
		},
		grows: true,
		make:  func() verb { return &rebaseCommand{} },
	}
}

func (c *rebaseCommand) flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.old, "old-base", "", "the `IMAGE` that it was made on")
	fs.StringVar(&c.fresh, "new-base", "", "the `IMAGE` to put it on")
	fs.StringArrayVarP(&c.tags, "tag", "t", nil, "give the copy this `NAME[:TAG]` (may be repeated)")
	c.platform.declare(fs, "take the image for this `OS/ARCH[/VARIANT]` alone, without the index")
}

func (c *rebaseCommand) accept(_ *stdio, args []string) error {
	err := count(args, 1, 1, "one IMAGE")
	switch {
	case err != nil:
		return err
	case c.fresh == "":
		return usagef("--new-base is missing: the image to put %s on", args[0])
	}
	c.name = args[0]
	if c.refs, err = parseTags(c.tags); err != nil {
		return err
	}
	return c.platform.check()
}

func (c *rebaseCommand) run(ctx context.Context, s *session) error {
	return makeCopy(ctx, s, c.name, c.platform.want, c.refs, func(st *image.Store, desc ocispec.Descriptor) (ocispec.Descriptor, error) {
		old, err := c.oldBase(ctx, st, desc)
		if err != nil {
			return desc, err
		}
		fresh, err := base(ctx, st, c.fresh)
		if err != nil {
			return desc, err
		}
		made, err := st.Rebase(ctx, desc, old, fresh)
		return made, rebaseError(err)
	})
}

// base finds an image that another is made on.
func base(ctx context.Context, st *image.Store, name string) (image.Base, error) {
	desc, err := st.Resolve(ctx, name)
	if err != nil {
		return image.Base{}, missingImage(name, err)
	}
	if ref, refErr := image.ParseRef(name); refErr == nil {
		name = ref.WithDefaultTag().String()
	}
	return image.Base{Descriptor: desc, Name: name}, nil
}

// oldBase finds the old base by its name, or by what the image says of it.
func (c *rebaseCommand) oldBase(ctx context.Context, st *image.Store, desc ocispec.Descriptor) (image.Base, error) {
	if c.old != "" {
		return base(ctx, st, c.old)
	}
	img, err := st.Select(ctx, desc, nil)
	if err != nil {
		return image.Base{}, err
	}
	d := img.Manifest.Annotations[ocispec.AnnotationBaseImageDigest]
	if d == "" {
		return image.Base{}, &usageError{msg: c.name + " does not say which base it was made on", hint: "name it with --old-base"}
	}
	found, err := base(ctx, st, d)
	if errors.Is(err, image.ErrNotFound) {
		name := img.Manifest.Annotations[ocispec.AnnotationBaseImageName]
		return found, &storeError{
			msg:  "the base that " + c.name + " says it was made on, " + sanitizeText(name+" "+d) + ", is not in the store",
			hint: "pull it, or name another with --old-base", err: err,
		}
	}
	return found, err
}

func rebaseError(err error) error {
	var not *image.NotBaseError
	if errors.As(err, &not) {
		return &storeError{msg: err.Error(), hint: "name the base that it was made on with --old-base", err: err}
	}
	return err
}
