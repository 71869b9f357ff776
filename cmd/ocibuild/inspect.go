package main

import (
	"context"
	"text/template"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type inspectCommand struct {
	names       []string
	format      string
	template    *template.Template
	platform    platformFlag
	all         allFlag
	raw, config bool
}

func inspectDescription() *command {
	return &command{
		name: "inspect", args: "IMAGE...", short: "print everything about images",
		long: "Prints a JSON array with an object for each image, in the shape of docker image inspect. With --format a " +
			"Go template is printed for each image in its place. RepoDigests has the digests of manifests and indexes in the " +
			"store: those of images built here change when push compresses their layers. Of an image for several platforms " +
			"Manifests lists what it has and what of it is in the store; everything else is about the image for --platform, " +
			"or for this machine, or the first that is there. Referrers lists artifacts in the store that are about the image.",
		examples: []example{
			{"ocibuild inspect app:v1 | jq '.[0].Config.Env'", ""},
			{"ocibuild inspect -f '{{.Id}}' app:v1", "the image id"},
			{"ocibuild inspect -f '{{json .Config.Labels}}' app:v1", ""},
			{"ocibuild inspect --platform linux/arm64 app:v1", "the image for another machine"},
			{"ocibuild inspect -f '{{range .Manifests}}{{.Platform}} {{.Present}}\\n{{end}}' app:v1", "the platforms, and which of them are here"},
			{"ocibuild inspect --raw --config app:v1 | jq .history", "the whole config, byte by byte"},
		},
		make: func() verb { return &inspectCommand{} },
	}
}

func (c *inspectCommand) flags(fs *pflag.FlagSet) {
	fs.StringVarP(&c.format, "format", "f", "", "print this Go `TEMPLATE` for each image, or json")
	c.platform.declare(fs, "describe the image for this `OS/ARCH[/VARIANT]`")
	c.all.declare(fs, "describe every image in the store that the index has, one after the other")
	fs.BoolVar(&c.raw, "raw", false, "print the manifest or index as it is stored")
	fs.BoolVar(&c.config, "config", false, "with --raw: print the image's config")
}

func (c *inspectCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, -1, "an IMAGE"); err != nil {
		return err
	}
	c.names = args
	switch {
	case c.config && !c.raw:
		return usagef("--config needs --raw")
	case c.raw && c.format != "":
		return usagef("--raw and --format exclude each other")
	case c.raw && bool(c.all):
		return usagef("--raw and --all-platforms exclude each other")
	case bool(c.all) && c.platform.text != "":
		return usagef("--platform and --all-platforms exclude each other")
	}
	if err := c.platform.check(); err != nil {
		return err
	}
	if c.format == "" || c.format == "json" {
		return nil
	}
	var err error
	c.template, err = parseTemplate(c.format)
	return err
}

func (c *inspectCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	if c.raw {
		return c.printRaw(ctx, s, st)
	}
	found := []*image.Info{}
	var missing error
	for _, name := range c.names {
		infos, err := c.inspect(ctx, st, name)
		if err != nil {
			missing = missingImage(name, err)
			break
		}
		found = append(found, infos...)
	}
	if err := c.print(s, found); err != nil {
		return err
	}
	return missing
}

// inspect describes what a name stands for: of an index one image, or all.
func (c *inspectCommand) inspect(ctx context.Context, st *image.Store, name string) ([]*image.Info, error) {
	info, err := st.Inspect(ctx, name, c.platform.want)
	if err != nil || !bool(c.all) || len(info.Manifests) == 0 {
		return []*image.Info{info}, err
	}
	var all []*image.Info
	for _, m := range info.Manifests {
		if !m.Present || m.Kind != image.KindImage {
			continue
		}
		p, err := parsePlatform(m.Platform)
		if err != nil {
			return nil, err
		}
		one, err := st.Inspect(ctx, name, &p)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// printRaw prints documents as they are.
func (c *inspectCommand) printRaw(ctx context.Context, s *session, st *image.Store) error {
	for _, name := range c.names {
		text, err := st.Raw(ctx, name, c.platform.want, c.config)
		if err != nil {
			return missingImage(name, err)
		}
		if _, err := s.out.Write(text); err != nil {
			return err
		}
	}
	return nil
}

func (c *inspectCommand) print(s *session, found []*image.Info) error {
	switch c.format {
	case "":
		return writeJSON(s.out, found)
	case "json":
		for _, info := range found {
			if err := writeJSONLine(s.out, info); err != nil {
				return err
			}
		}
		return nil
	}
	for _, info := range found {
		if err := execute(s.out, c.template, info); err != nil {
			return err
		}
	}
	return nil
}
