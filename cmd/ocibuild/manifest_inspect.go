package main

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"
)

type manifestInspectCommand struct {
	name     string
	verbose  bool
	insecure []string
}

func manifestInspectDescription() *command {
	return &command{
		name: "manifest inspect", args: "IMAGE", short: "print a manifest or an index",
		long: "Prints the index or the manifest of an image as it is stored. What is not in the store is asked of the registry that " +
			"its name says, and not kept.",
		examples: []example{
			{"ocibuild manifest inspect app:v1", ""},
			{"ocibuild manifest inspect alpine:3.20 | jq -r '.manifests[].platform.architecture'", "of docker.io"},
			{"ocibuild manifest inspect -v app:v1", "with the manifests of an index"},
		},
		make: func() verb { return &manifestInspectCommand{} },
	}
}

func (c *manifestInspectCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.verbose, "verbose", "v", false, "print a JSON array of all manifests that it names, with their descriptors")
	insecureFlag(fs, &c.insecure)
}

func (c *manifestInspectCommand) accept(_ *stdio, args []string) error {
	err := count(args, 1, 1, "one IMAGE")
	if err == nil {
		c.name = args[0]
	}
	return err
}

func (c *manifestInspectCommand) run(ctx context.Context, s *session) error {
	from, err := c.source(ctx, s)
	if err != nil {
		return err
	}
	desc, text, err := from.top(ctx)
	if err != nil {
		return err
	}
	if c.verbose {
		list, err := verboseManifests(ctx, from, desc, text)
		if err != nil {
			return err
		}
		return writeJSON(s.out, list)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	_, err = fmt.Fprintf(s.out, "%s", text)
	return err
}
