package main

import (
	"context"
	"fmt"
	"strings"
	"text/template"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type resolveCommand struct {
	names    []string
	format   string
	json     bool
	remote   bool
	insecure []string
	template *template.Template
}

func resolveDescription() *command {
	return &command{
		name: "resolve", args: "REF...", short: "print what a reference stands for",
		long: "Prints what a name, an image id or the beginning of one stands for: the full name as docker understands it, with its " +
			"registry, repository and tag, and the image of the store that has it, if one does. With --remote its registry is " +
			"asked for the digest in place of the store. A malformed reference is told what is wrong with it.\n" +
			"Fields of templates: .Name .Familiar .Registry .Repository .Tag .Present .Digest .MediaType .Id .Names .Platforms",
		examples: []example{
			{"ocibuild resolve app", "docker.io/library/app:latest, and what the store has of it"},
			{"ocibuild resolve -f '{{.Name}}@{{.Digest}}' ghcr.io/me/app:v1", "a name that stays the same image"},
			{"ocibuild resolve --remote alpine:3.20", "the digest that its registry has now"},
		},
		make: func() verb { return &resolveCommand{} },
	}
}

func (c *resolveCommand) flags(fs *pflag.FlagSet) {
	fs.StringVarP(&c.format, "format", "f", "", "print this Go `TEMPLATE` for each reference, or json")
	fs.BoolVar(&c.json, "json", false, "print a JSON object a line, as --format=json does")
	fs.BoolVar(&c.remote, "remote", false, "ask the registry, not the store")
	insecureFlag(fs, &c.insecure)
}

func (c *resolveCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, -1, "a REF"); err != nil {
		return err
	}
	c.names = args
	if c.format == "json" {
		c.json, c.format = true, ""
	}
	if c.format == "" {
		return nil
	}
	var err error
	c.template, err = parseTemplate(c.format)
	return err
}

func (c *resolveCommand) run(ctx context.Context, s *session) error {
	for i, name := range c.names {
		r, err := c.resolve(ctx, s, name)
		if err != nil {
			return missingImage(name, err)
		}
		if err := c.print(s, r, i > 0); err != nil {
			return err
		}
	}
	return nil
}

func (c *resolveCommand) resolve(ctx context.Context, s *session, name string) (*image.Resolution, error) {
	if !c.remote {
		st, err := s.store()
		if err != nil {
			return nil, err
		}
		return st.Explain(ctx, name)
	}
	ref, err := image.ParseRef(name)
	if err != nil {
		return nil, err
	}
	ref = ref.WithDefaultTag()
	desc, err := s.client(c.insecure, noDisplay{}).Resolve(ctx, repository(ref), remoteReference(ref))
	return &image.Resolution{
		Name: ref.String(), Familiar: ref.Familiar(), Registry: ref.Host(), Repository: ref.Repository(), Tag: ref.Tag(),
		Digest: desc.Digest, MediaType: desc.MediaType,
	}, err
}

func (c *resolveCommand) print(s *session, r *image.Resolution, more bool) error {
	switch {
	case c.json:
		return writeJSONLine(s.out, r)
	case c.template != nil:
		return execute(s.out, c.template, r)
	}
	var b strings.Builder
	if more {
		b.WriteString("\n")
	}
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-11s %s\n", key, sanitizeText(value))
		}
	}
	line("name", r.Name)
	line("registry", r.Registry)
	line("repository", r.Repository)
	line("tag", r.Tag)
	line("digest", r.Digest.String())
	line("type", r.MediaType)
	line("id", r.Id.String())
	line("names", strings.Join(r.Names, ", "))
	line("platforms", strings.Join(r.Platforms, ", "))
	if !r.Present && !c.remote {
		line("store", "it is not there")
	}
	_, err := fmt.Fprint(s.out, b.String())
	return err
}
