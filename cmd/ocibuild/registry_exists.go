package main

import (
	"context"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type registryExistsCommand struct {
	refs     []image.Ref
	insecure []string
}

func registryExistsDescription() *command {
	return &command{
		name: "registry exists", args: "REF...", short: "tell whether tags are there",
		long: "Ends with exit code 0 if the registries have all the tags or digests, and 1 if one has not; with another one when that could " +
			"not be found out.",
		examples: []example{
			{"ocibuild registry exists ghcr.io/me/app:v1 || ocibuild --push -t ghcr.io/me/app:v1 .", "build only what is not there"},
		},
		make: func() verb { return &registryExistsCommand{} },
	}
}

func (c *registryExistsCommand) flags(fs *pflag.FlagSet) { insecureFlag(fs, &c.insecure) }

func (c *registryExistsCommand) accept(_ *stdio, args []string) error {
	err := count(args, 1, -1, "a REF")
	if err == nil {
		c.refs, err = parseRemote(args)
	}
	return err
}

func (c *registryExistsCommand) run(ctx context.Context, s *session) error {
	client := s.client(c.insecure, noDisplay{})
	for _, ref := range c.refs {
		there, err := client.Exists(ctx, repository(ref), remoteReference(ref))
		if err != nil {
			return err
		}
		if !there {
			return &exitError{exitOther}
		}
	}
	return nil
}
