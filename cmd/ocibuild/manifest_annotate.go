package main

import (
	"context"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type manifestAnnotateCommand struct {
	ref   image.Ref
	entry string
	index bool
	annotateFlags
}

func manifestAnnotateDescription() *command {
	return &command{
		name: "manifest annotate", args: "LIST[:TAG] [ENTRY]", short: "change what an index says of an image",
		long: "Changes the platform or the annotations of an entry of the index LIST. ENTRY is an image in the store, the digest of " +
			"a manifest or the beginning of one, or a platform. Prints the new digest of the index.",
		examples: []example{
			{"ocibuild manifest annotate --variant v8 app:v1 linux/arm64", ""},
			{"ocibuild manifest annotate --index --annotation org.opencontainers.image.vendor=me app:v1", "of the index itself"},
		},
		make: func() verb { return &manifestAnnotateCommand{} },
	}
}

func (c *manifestAnnotateCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&c.index, "index", false, "change the annotations of the index itself")
	c.declare(fs)
}

func (c *manifestAnnotateCommand) accept(_ *stdio, args []string) error {
	err := count(args, 1, 2, "a LIST and an ENTRY")
	switch {
	case err != nil:
		return err
	case c.index && len(args) > 1:
		return usagef("--index is about the LIST itself: leave %s out", args[1])
	case c.index && c.platform():
		return usagef("--index takes annotations only: an index has no platform")
	case !c.index && len(args) < 2:
		return &usageError{msg: "the ENTRY to change is missing", hint: "--index changes the index itself"}
	case !c.any():
		return usagef("nothing is to be changed: give --os, --arch, --variant, --os-version, --os-features or --annotation")
	}
	if len(args) == 2 {
		c.entry = args[1]
	}
	if c.ref, err = parseNewRef(args[0]); err != nil {
		return err
	}
	return c.check()
}

func (c *manifestAnnotateCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	desc, err := st.EditIndex(ctx, c.ref, func(e *image.IndexEdit) error { return e.Annotate(ctx, c.entry, c.annotation) })
	return printIndex(s, c.ref, desc, err)
}
