package main

import (
	"context"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type manifestRmCommand struct{ refs []image.Ref }

func manifestRmDescription() *command {
	return &command{
		name: "manifest rm", args: "LIST[:TAG]...", short: "remove indexes",
		long: "Removes indexes from the store, as `ocibuild rmi` does. Images that have a name of their own stay. What is one image " +
			"is refused.",
		examples: []example{{"ocibuild manifest rm app:v1", ""}},
		make:     func() verb { return &manifestRmCommand{} },
	}
}

func (c *manifestRmCommand) flags(*pflag.FlagSet) {}

func (c *manifestRmCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, -1, "a LIST"); err != nil {
		return err
	}
	for _, name := range args {
		ref, err := parseNewRef(name)
		if err != nil {
			return err
		}
		c.refs = append(c.refs, ref)
	}
	return nil
}

func (c *manifestRmCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	var names []string
	for _, ref := range c.refs {
		desc, err := st.Lookup(ctx, ref)
		if err == nil && !image.IsIndex(desc.MediaType) {
			err = &image.NotIndexError{Name: ref.Familiar()}
		}
		if err != nil {
			return manifestError(ref.Familiar(), err)
		}
		names = append(names, ref.String())
	}
	return removeImages(ctx, s, names, image.RemoveOptions{})
}
