package main

import (
	"context"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type manifestRemoveCommand struct {
	ref     image.Ref
	entries []string
}

func manifestRemoveDescription() *command {
	return &command{
		name: "manifest remove", args: "LIST[:TAG] ENTRY...", short: "take images out of an index",
		long: "Takes entries out of the index LIST, with what builders say of them. An ENTRY is an image in the store, the digest of " +
			"a manifest or the beginning of one, or a platform. The images stay in the store. Prints the new digest of the index.",
		examples: []example{{"ocibuild manifest remove app:v1 linux/s390x", ""}},
		make:     func() verb { return &manifestRemoveCommand{} },
	}
}

func (c *manifestRemoveCommand) flags(*pflag.FlagSet) {}

func (c *manifestRemoveCommand) accept(_ *stdio, args []string) error {
	err := count(args, 2, -1, "a LIST and an ENTRY")
	if err != nil {
		return err
	}
	c.entries = args[1:]
	c.ref, err = parseNewRef(args[0])
	return err
}

func (c *manifestRemoveCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	desc, err := st.EditIndex(ctx, c.ref, func(e *image.IndexEdit) error {
		for _, entry := range c.entries {
			if err := e.Remove(ctx, entry); err != nil {
				return err
			}
		}
		return nil
	})
	return printIndex(s, c.ref, desc, err)
}
