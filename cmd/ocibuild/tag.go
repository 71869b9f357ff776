package main

import (
	"context"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type tagCommand struct {
	source string
	target []image.Ref
}

func tagDescription() *command {
	return &command{
		name: "tag", args: "IMAGE NAME[:TAG]...", short: "give an image more names",
		long: "Gives an image that is in the store more names. IMAGE is a name, an image id or the beginning of one. " +
			"A name that another image has moves; that image keeps its other names and its id.",
		examples: []example{
			{"ocibuild tag app:v1 ghcr.io/me/app:v1", "name it for a registry"},
			{"ocibuild tag 1a2b3c app:old", "name an image by its id"},
		},
		make: func() verb { return &tagCommand{} },
	}
}

func (c *tagCommand) flags(*pflag.FlagSet) {}

func (c *tagCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 2, -1, "an IMAGE and a new NAME"); err != nil {
		return err
	}
	c.source = args[0]
	for _, name := range args[1:] {
		ref, err := parseNewRef(name)
		if err != nil {
			return err
		}
		c.target = append(c.target, ref)
	}
	return nil
}

func (c *tagCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	desc, err := st.Resolve(ctx, c.source)
	if err != nil {
		return missingImage(c.source, err)
	}
	return st.TagAll(ctx, c.target, desc)
}
