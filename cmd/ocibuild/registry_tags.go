package main

import (
	"context"
	"fmt"
	"iter"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type registryTagsCommand struct {
	listing
	repo     image.Ref
	insecure []string
}

func registryTagsDescription() *command {
	return &command{
		name: "registry tags", args: "REPOSITORY", short: "list the tags of a repository",
		long: "Prints the tags of a repository, one a line, in the order in which its registry gives them.\n" +
			"Fields of templates: .Name .Tag",
		examples: []example{
			{"ocibuild registry tags alpine", "of docker.io/library/alpine"},
			{"ocibuild registry tags --format '{{.Name}}:{{.Tag}}' ghcr.io/me/app", "whole names"},
		},
		make: func() verb { return &registryTagsCommand{} },
	}
}

func (c *registryTagsCommand) flags(fs *pflag.FlagSet) {
	insecureFlag(fs, &c.insecure)
	c.declare(fs)
}

func (c *registryTagsCommand) accept(_ *stdio, args []string) error {
	err := count(args, 1, 1, "one REPOSITORY")
	if err == nil {
		c.repo, err = parseRepository(args[0])
	}
	if err == nil {
		err = c.parse()
	}
	return err
}

// tagLine is a line of the list, and what templates and JSON see.
type tagLine struct{ Name, Tag string }

func (c *registryTagsCommand) run(ctx context.Context, s *session) error {
	tags := s.client(c.insecure, noDisplay{}).Tags(ctx, repository(c.repo))
	return writeNames(s, &c.listing, map[string]string{"Name": "NAME", "Tag": "TAG"}, tags,
		func(tag string) tagLine { return tagLine{repositoryName(c.repo), tag} }, func(l tagLine) string { return l.Tag })
}

// writeNames prints a list that comes in pages, each name as it comes. What
// needs the whole list, a table with headers, waits for it.
func writeNames[T any](s *session, l *listing, headers map[string]string, names iter.Seq2[string, error], line func(string) T, plain func(T) string) error {
	var all []T
	for name, err := range names {
		if err != nil {
			return err
		}
		item := line(name)
		if l.table {
			all = append(all, item)
			continue
		}
		done, err := writeFormatted(s.out, l, headers, []T{item})
		if !done {
			_, err = fmt.Fprintln(s.out, sanitizeLine(plain(item)))
		}
		if err != nil {
			return err
		}
	}
	if !l.table {
		return nil
	}
	_, err := writeFormatted(s.out, l, headers, all)
	return err
}
