package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

type layerRmCommand struct{ names []string }

func layerRmDescription() *command {
	return &command{
		name: "layer rm", args: "LAYER...", short: "remove layers",
		long: "Removes layers that are kept on their own. One that an image needs, or that another layer is on, is refused. Prints the " +
			"ids.",
		examples: []example{{"ocibuild layer rm 3f2a9c", ""}},
		make:     func() verb { return &layerRmCommand{} },
	}
}

func (c *layerRmCommand) flags(*pflag.FlagSet) {}

func (c *layerRmCommand) accept(_ *stdio, args []string) error {
	c.names = args
	return count(args, 1, -1, "a LAYER")
}

func (c *layerRmCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	for _, name := range c.names {
		l, err := st.RemoveLayer(ctx, name, func(ctx context.Context) ([]digest.Digest, error) { return cacheBlobs(ctx, s) })
		if err != nil {
			return layerError(name, err)
		}
		if _, err := fmt.Fprintf(s.out, "Deleted: %s\n", l.ID); err != nil {
			return err
		}
	}
	return nil
}

type layerExistsCommand struct{ names []string }

func layerExistsDescription() *command {
	return &command{
		name: "layer exists", args: "LAYER...", short: "tell by the exit code whether layers are in the store",
		long: "Prints nothing. The exit code is 0 when the store has every LAYER, 1 when it has not, another one when that could not be " +
			"found out.",
		examples: []example{{"ocibuild layer exists 3f2a9c || ocibuild layer import base.tar", ""}},
		make:     func() verb { return &layerExistsCommand{} },
	}
}

func (c *layerExistsCommand) flags(*pflag.FlagSet) {}

func (c *layerExistsCommand) accept(_ *stdio, args []string) error {
	c.names = args
	return count(args, 1, -1, "a LAYER")
}

func (c *layerExistsCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	for _, name := range c.names {
		_, err := st.FindLayer(ctx, name)
		if errors.Is(err, image.ErrNotFound) {
			return &exitError{exitOther}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
