package main

import (
	"context"
	"fmt"
	"os"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

// layerFlags say what a new layer is on, and what is said of it.
type layerFlags struct {
	parent     string
	labelTexts []string
	options    image.LayerOptions
}

func (f *layerFlags) declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.parent, "parent", "", "put it on this `LAYER`")
	fs.StringArrayVar(&f.labelTexts, "label", nil, "say this of it, `KEY=VALUE` (may be repeated)")
}

func (f *layerFlags) check() (err error) {
	f.options.Parent = f.parent
	f.options.Labels, err = keyValues("--label", f.labelTexts)
	return err
}

type layerCreateCommand struct {
	dir string
	layerFlags
}

func layerCreateDescription() *command {
	return &command{
		name: "layer create", args: "DIR", short: "make a layer of a directory",
		long: "Makes a layer of all files of a directory, keeps it, and prints its id. The same files on the same parent give the same " +
			"layer.",
		examples: []example{
			{"ocibuild layer create --label kind=certificates ./certs", ""},
			{"ocibuild layer create --parent 3f2a9c ./app", "on top of another layer"},
		},
		enters: true,
		grows:  true,
		make:   func() verb { return &layerCreateCommand{} },
	}
}

func (c *layerCreateCommand) flags(fs *pflag.FlagSet) { c.declare(fs) }

func (c *layerCreateCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, 1, "one DIR"); err != nil {
		return err
	}
	c.dir = args[0]
	return c.check()
}

func (c *layerCreateCommand) run(ctx context.Context, s *session) error {
	info, err := os.Stat(c.dir)
	if err != nil {
		return &contextError{msg: c.dir, err: err}
	}
	if !info.IsDir() {
		return &contextError{msg: c.dir + " is not a directory", hint: "`ocibuild layer import` takes a tar"}
	}
	st, err := s.store()
	if err != nil {
		return err
	}
	memory, err := s.cache()
	if err != nil {
		return err
	}
	l, err := st.CreateLayer(ctx, c.dir, c.options, memory)
	return printLayerID(s, c.parent, l, err)
}

// printLayerID prints the id of a layer that was made or kept.
func printLayerID(s *session, name string, l *image.StoredLayer, err error) error {
	if err != nil {
		return layerError(name, err)
	}
	_, err = fmt.Fprintln(s.out, l.ID)
	return err
}

type layerKeepCommand struct {
	name string
	layerFlags
}

func layerKeepDescription() *command {
	return &command{
		name: "layer keep", args: "LAYER", short: "keep a layer when its images go",
		long: "Keeps a layer of an image, with all below it, until `layer rm`. Of one that is kept already the labels change. Prints its " +
			"id.",
		examples: []example{{"ocibuild layer keep --label kind=base 3f2a9c", ""}},
		make:     func() verb { return &layerKeepCommand{} },
	}
}

func (c *layerKeepCommand) flags(fs *pflag.FlagSet) {
	fs.StringArrayVar(&c.labelTexts, "label", nil, "say this of it, `KEY=VALUE` (may be repeated)")
}

func (c *layerKeepCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, 1, "one LAYER"); err != nil {
		return err
	}
	c.name = args[0]
	return c.check()
}

func (c *layerKeepCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	l, err := st.KeepLayer(ctx, c.name, c.options.Labels)
	return printLayerID(s, c.name, l, err)
}
