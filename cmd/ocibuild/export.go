package main

import (
	"context"
	"io"

	"github.com/spf13/pflag"
)

type exportCommand struct {
	name, output string
	platform     platformFlag
}

func exportDescription() *command {
	return &command{
		name: "export", args: "IMAGE", short: "write the files of an image to a tar",
		long: "Writes the root filesystem of an image, all layers merged, to a tar archive.",
		examples: []example{
			{"ocibuild export -o rootfs.tar app:v1", ""},
			{"ocibuild export app:v1 | tar -t", "list the files"},
			{"ocibuild export --platform linux/arm64 app:v1 | tar -t", "of the image for another machine"},
		},
		make: func() verb { return &exportCommand{} },
	}
}

func (c *exportCommand) flags(fs *pflag.FlagSet) {
	fs.StringVarP(&c.output, "output", "o", "", "write to this `FILE` in place of standard output")
	c.platform.declare(fs, "write the image for this `OS/ARCH[/VARIANT]`")
}

func (c *exportCommand) accept(s *stdio, args []string) error {
	if err := count(args, 1, 1, "one IMAGE"); err != nil {
		return err
	}
	c.name = args[0]
	if err := c.platform.check(); err != nil {
		return err
	}
	return checkOutput(s, c.output)
}

func (c *exportCommand) run(ctx context.Context, s *session) error {
	img, err := selectImage(ctx, s, c.name, c.platform.want)
	if err != nil {
		return err
	}
	files, err := s.files(ctx, img)
	if err != nil {
		return err
	}
	return writeFile(s.stdio, c.output, func(w io.Writer) error { return files.WriteTar(ctx, w) })
}
