package main

import (
	"context"

	"github.com/ocibuild/ocibuild/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

// annotateFlags are what an index says of an entry.
type annotateFlags struct {
	os, arch, variant, osVersion string
	osFeatures                   []string
	annotationTexts              []string
	annotation                   image.Annotation
}

func (a *annotateFlags) declare(fs *pflag.FlagSet) {
	fs.StringVar(&a.os, "os", "", "set the operating system to this `OS`")
	fs.StringVar(&a.arch, "arch", "", "set the architecture to this `ARCH`")
	fs.StringVar(&a.variant, "variant", "", "set the architecture's `VARIANT`")
	fs.StringVar(&a.osVersion, "os-version", "", "set the operating system's `VERSION`")
	fs.StringSliceVar(&a.osFeatures, "os-features", nil, "set the `FEATURES` of the operating system that it needs")
	fs.StringArrayVar(&a.annotationTexts, "annotation", nil, "set an annotation, `KEY=VALUE`; without a value it is taken away (may be repeated)")
}

func (a *annotateFlags) check() (err error) {
	a.annotation.Annotations, err = keyValues("--annotation", a.annotationTexts)
	a.annotation.Platform = ocispec.Platform{
		OS: a.os, Architecture: a.arch, Variant: a.variant, OSVersion: a.osVersion, OSFeatures: a.osFeatures,
	}
	return err
}

// any reports whether anything is to be set.
func (a *annotateFlags) any() bool {
	return a.platform() || len(a.annotationTexts) > 0
}

func (a *annotateFlags) platform() bool {
	return a.os+a.arch+a.variant+a.osVersion != "" || a.osFeatures != nil
}

type manifestAddCommand struct {
	ref       image.Ref
	images    []string
	platforms platformsFlag
	annotateFlags
}

func manifestAddDescription() *command {
	return &command{
		name: "manifest add", also: []string{"manifest append", "append"}, args: "LIST[:TAG] IMAGE...", short: "add images to an index",
		long: "Adds images that are in the store to the index LIST. One that is in it already is replaced. The other flags " +
			"set what the index says of the image, where it is one alone. Prints the new digest of the index.",
		examples: []example{
			{"ocibuild manifest add app:v1 app:v1-riscv64", ""},
			{"ocibuild manifest add --arch arm --variant v6 app:v1 app:v1-pi", "with a platform that the image does not say"},
		},
		make: func() verb { return &manifestAddCommand{} },
	}
}

func (c *manifestAddCommand) flags(fs *pflag.FlagSet) {
	c.platforms.declare(fs, "of each IMAGE take the one for this `OS/ARCH[/VARIANT]`")
	c.declare(fs)
}

func (c *manifestAddCommand) accept(_ *stdio, args []string) error {
	err := count(args, 2, -1, "a LIST and an IMAGE")
	if err != nil {
		return err
	}
	if c.ref, err = parseNewRef(args[0]); err != nil {
		return err
	}
	c.images = args[1:]
	if err := c.platforms.check(); err != nil {
		return err
	}
	if c.any() && len(c.images) > 1 {
		return usagef("what an index says of an image is set for one IMAGE at a time, got %d", len(c.images))
	}
	return c.check()
}

func (c *manifestAddCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	desc, err := st.EditIndex(ctx, c.ref, func(e *image.IndexEdit) error {
		for _, name := range c.images {
			entries, err := st.IndexEntries(ctx, name, c.platforms.want)
			if err != nil {
				return &image.EntryError{Name: name, Err: err}
			}
			if entries, err = c.describe(name, entries); err != nil {
				return err
			}
			if err := e.Add(ctx, entries...); err != nil {
				return err
			}
		}
		return nil
	})
	return printIndex(s, c.ref, desc, err)
}

// describe sets what the flags say of an image.
func (c *manifestAddCommand) describe(name string, entries []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	switch {
	case !c.any():
		return entries, nil
	case len(entries) > 1:
		return nil, usagef("%s is an index of %d manifests: choose one with --platform to say more of it", name, len(entries))
	}
	return []ocispec.Descriptor{c.annotation.Of(entries[0])}, nil
}
