package main

import (
	"context"

	"github.com/spf13/pflag"
)

type registryCatalogCommand struct {
	listing
	host     string
	insecure []string
}

func registryCatalogDescription() *command {
	return &command{
		name: "registry catalog", args: "HOST", short: "list the repositories of a registry",
		long: "Prints the repositories of a registry, one a line, with its host before them, as far as it lets you see them. Many public " +
			"registries have no such list.\n" +
			"Fields of templates: .Name .Repository",
		examples: []example{
			{"ocibuild registry catalog localhost:5000", ""},
			{"ocibuild registry catalog localhost:5000 | xargs -n 1 ocibuild registry tags --format '{{.Name}}:{{.Tag}}'", "every tag of every repository"},
		},
		make: func() verb { return &registryCatalogCommand{} },
	}
}

func (c *registryCatalogCommand) flags(fs *pflag.FlagSet) {
	insecureFlag(fs, &c.insecure)
	c.declare(fs)
}

func (c *registryCatalogCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, 1, "one HOST"); err != nil {
		return err
	}
	var err error
	if c.host, err = parseRegistryHost(args[0]); err != nil {
		return err
	}
	return c.parse()
}

// repositoryLine is a line of the list, and what templates and JSON see.
type repositoryLine struct{ Name, Repository string }

func (c *registryCatalogCommand) run(ctx context.Context, s *session) error {
	names := s.client(c.insecure, noDisplay{}).Catalog(ctx, c.host)
	return writeNames(s, &c.listing, map[string]string{"Name": "NAME", "Repository": "REPOSITORY"}, names,
		func(name string) repositoryLine { return repositoryLine{c.host + "/" + name, name} }, func(l repositoryLine) string { return l.Name })
}
