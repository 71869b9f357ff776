package main

import (
	"context"
	"errors"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type existsCommand struct {
	names    []string
	platform platformFlag
}

func existsDescription() *command {
	return &command{
		name: "exists", args: "IMAGE...", short: "tell by the exit code whether images are in the store",
		long: "Prints nothing. The exit code is 0 when the store has every IMAGE, a name or an id or the beginning of one; 1 when it has " +
			"not; another one when that could not be found out.",
		examples: []example{
			{"ocibuild exists app:v1 || ocibuild -t app:v1 .", ""},
			{"ocibuild exists --platform linux/arm64 app:v1", "for another machine"},
		},
		make: func() verb { return &existsCommand{} },
	}
}

func (c *existsCommand) flags(fs *pflag.FlagSet) {
	c.platform.declare(fs, "ask for the image for this `OS/ARCH[/VARIANT]`")
}

func (c *existsCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, -1, "an IMAGE"); err != nil {
		return err
	}
	c.names = args
	for _, name := range args {
		var bad *image.RefError
		if _, err := image.ParseRef(name); errors.As(err, &bad) && !looksLikeID(name) {
			return &usageError{msg: bad.Error()}
		}
	}
	return c.platform.check()
}

// looksLikeID reports whether a word that is no name can be an image id.
func looksLikeID(word string) bool { return len(word) == 64 }

func (c *existsCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	for _, name := range c.names {
		desc, err := st.Resolve(ctx, name)
		if err == nil && c.platform.want != nil {
			_, err = st.Select(ctx, desc, c.platform.want)
		}
		if errors.Is(err, image.ErrNotFound) {
			return &exitError{exitOther}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
