package main

import (
	"context"
	"fmt"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

type registryResolveCommand struct {
	listing
	refs     []image.Ref
	insecure []string
}

func registryResolveDescription() *command {
	return &command{
		name: "registry resolve", args: "REF...", short: "print the digest that a tag has",
		long: "Asks registries what tags stand for, and prints NAME@DIGEST for each. Nothing is fetched.\n" +
			"Fields of templates: .Name .Tag .Digest .MediaType .Size",
		examples: []example{
			{"ocibuild registry resolve alpine:3.20", "docker.io/library/alpine@sha256:..."},
			{"ocibuild registry resolve --format '{{.Digest}}' ghcr.io/me/app:v1", ""},
		},
		make: func() verb { return &registryResolveCommand{} },
	}
}

func (c *registryResolveCommand) flags(fs *pflag.FlagSet) {
	insecureFlag(fs, &c.insecure)
	c.declare(fs)
}

func (c *registryResolveCommand) accept(_ *stdio, args []string) error {
	err := count(args, 1, -1, "a REF")
	if err == nil {
		c.refs, err = parseRemote(args)
	}
	if err == nil {
		err = c.parse()
	}
	return err
}

// resolvedLine is what templates and JSON see of a reference.
type resolvedLine struct {
	Name, Tag string
	Digest    digest.Digest
	MediaType string
	Size      int64
}

func (c *registryResolveCommand) run(ctx context.Context, s *session) error {
	client := s.client(c.insecure, noDisplay{})
	var lines []resolvedLine
	for _, ref := range c.refs {
		desc, err := client.Resolve(ctx, repository(ref), remoteReference(ref))
		if err != nil {
			return err
		}
		lines = append(lines, resolvedLine{repositoryName(ref), ref.Tag(), desc.Digest, desc.MediaType, desc.Size})
	}
	headers := map[string]string{"Name": "NAME", "Tag": "TAG", "Digest": "DIGEST", "MediaType": "MEDIA TYPE", "Size": "SIZE"}
	if done, err := writeFormatted(s.out, &c.listing, headers, lines); done {
		return err
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(s.out, "%s@%s\n", l.Name, l.Digest); err != nil {
			return err
		}
	}
	return nil
}
