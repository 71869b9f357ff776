package main

import (
	"context"
	"fmt"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type untagCommand struct{ names []image.Ref }

func untagDescription() *command {
	return &command{
		name: "untag", args: "NAME[:TAG]...", short: "take names from images",
		long: "Takes names from images. The images stay in the store, also those that have no name left: " +
			"`ocibuild prune` removes them, `ocibuild rmi` removes name and image at once.",
		examples: []example{{"ocibuild untag app:v1", "the image is still there by its id"}},
		make:     func() verb { return &untagCommand{} },
	}
}

func (c *untagCommand) flags(*pflag.FlagSet) {}

func (c *untagCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, -1, "a NAME"); err != nil {
		return err
	}
	for _, name := range args {
		ref, err := parseRef(name)
		if err != nil {
			return err
		}
		c.names = append(c.names, ref.WithDefaultTag())
	}
	return nil
}

func (c *untagCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	for _, ref := range c.names {
		if err := st.Untag(ctx, ref); err != nil {
			return missingImage(ref.Familiar(), err)
		}
		if _, err := fmt.Fprintf(s.out, "Untagged: %s\n", ref.Familiar()); err != nil {
			return err
		}
	}
	return nil
}
