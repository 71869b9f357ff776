package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

// descriptionSuffix is what is added to the name of a layer's file for that of
// its description.
const descriptionSuffix = ".json"

type layerExportCommand struct {
	name, output, description string
}

func layerExportDescription() *command {
	return &command{
		name: "layer export", args: "LAYER", short: "write a layer to a file, with its description",
		long: "Writes the tar of a layer as it is stored, compressed or not, and beside it FILE.json: its descriptor, diff id, chain id, " +
			"parent and labels, by which `layer import` checks it. The layers below are not in it.",
		examples: []example{
			{"ocibuild layer export -o certs.tar 3f2a9c", "certs.tar and certs.tar.json"},
			{"ocibuild layer export 3f2a9c | tar -t", "the tar alone"},
		},
		make: func() verb { return &layerExportCommand{} },
	}
}

func (c *layerExportCommand) flags(fs *pflag.FlagSet) {
	fs.StringVarP(&c.output, "output", "o", "", "write to this `FILE` in place of standard output")
	fs.StringVar(&c.description, "descriptor", "", "write the description to this `FILE` (default: that of --output with .json after it)")
}

func (c *layerExportCommand) accept(s *stdio, args []string) error {
	if err := count(args, 1, 1, "one LAYER"); err != nil {
		return err
	}
	c.name = args[0]
	if c.description == "" && c.output != "" && c.output != "-" {
		c.description = c.output + descriptionSuffix
	}
	return checkOutput(s, c.output)
}

func (c *layerExportCommand) run(ctx context.Context, s *session) error {
	st, l, err := findLayer(ctx, s, c.name)
	if err != nil {
		return err
	}
	err = writeFile(s.stdio, c.output, func(w io.Writer) error { return st.ExportLayer(ctx, l, w) })
	if err != nil || c.description == "" {
		return err
	}
	return writeFile(s.stdio, c.description, func(w io.Writer) error { return writeJSON(w, l.Describe()) })
}

type layerImportCommand struct {
	input, description, digest string
	want                       image.LayerFile
	layerFlags
}

func layerImportDescription() *command {
	return &command{
		name: "layer import", args: "FILE|-", short: "read a layer from a file",
		long: "Reads the tar of a layer, compressed with gzip or zstd or not, keeps it, and prints its id. It must be what its " +
			"description FILE.json, or --digest, says; else it is refused and nothing of it is kept. Its parent must be in the " +
			"store.",
		examples: []example{
			{"ocibuild layer import certs.tar", "as certs.tar.json describes it"},
			{"ocibuild layer import --descriptor certs.json - < certs.tar", ""},
			{"ocibuild layer import --digest $(cat certs.digest) --label kind=certificates certs.tar", ""},
		},
		grows: true,
		make:  func() verb { return &layerImportCommand{} },
	}
}

func (c *layerImportCommand) flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.description, "descriptor", "", "read the description from this `FILE`")
	fs.StringVar(&c.digest, "digest", "", "take nothing but a layer with this `DIGEST`")
	c.declare(fs)
}

func (c *layerImportCommand) accept(s *stdio, args []string) error {
	if err := count(args, 1, 1, "one FILE"); err != nil {
		return err
	}
	c.input = args[0]
	switch {
	case c.input == "-" && s.inTTY:
		return &usageError{msg: "a layer is not read from a terminal", hint: "name a file, or redirect standard input"}
	case c.input == "-" && c.description == "" && c.digest == "":
		return &usageError{msg: "nothing says which layer standard input must be", hint: "give --descriptor or --digest"}
	case c.description == "" && c.digest == "":
		c.description = c.input + descriptionSuffix
	}
	if c.digest != "" {
		c.want.Descriptor.Digest = digest.Digest(c.digest)
		if err := c.want.Descriptor.Digest.Validate(); err != nil {
			return usagef("--digest=%s: %v", c.digest, err)
		}
	}
	return c.check()
}

func (c *layerImportCommand) run(ctx context.Context, s *session) error {
	if err := c.readDescription(); err != nil {
		return err
	}
	in, err := openInput(s.stdio, c.input)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := s.store()
	if err != nil {
		return err
	}
	memory, err := s.cache()
	if err != nil {
		return err
	}
	l, err := st.ImportLayer(ctx, in, c.want, c.options, memory)
	parent := c.parent
	if parent == "" {
		parent = c.want.Parent.String()
	}
	return printLayerID(s, parent, l, err)
}

// maxDescription is how large the description of a layer may be.
const maxDescription = 1 << 20

// readDescription reads FILE.json.
func (c *layerImportCommand) readDescription() error {
	if c.description == "" {
		return nil
	}
	f, err := os.Open(c.description)
	if errors.Is(err, fs.ErrNotExist) {
		return &contextError{msg: "the description " + c.description + " is not there", hint: "name another with --descriptor, or give --digest"}
	}
	if err != nil {
		return &contextError{msg: c.description, err: err}
	}
	defer f.Close()
	want := c.want.Descriptor.Digest
	if err := json.NewDecoder(io.LimitReader(f, maxDescription)).Decode(&c.want); err != nil {
		return &contextError{msg: fmt.Sprintf("%s is no description of a layer: %v", c.description, err)}
	}
	if want != "" {
		c.want.Descriptor.Digest = want
	}
	if c.want.Descriptor.Digest.Validate() != nil {
		return &contextError{msg: c.description + " is no description of a layer: it names no digest"}
	}
	return nil
}
