package main

import (
	"context"
	"io"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type saveCommand struct {
	names  []string
	output string
	format string
}

func saveDescription() *command {
	return &command{
		name: "save", args: "IMAGE...", short: "write images to an archive",
		long: "Writes one or more images to a tar archive that `ocibuild load`, docker, podman and skopeo read. " +
			"The docker format is an OCI image layout with docker's manifest.json beside it; the oci format has the layout alone.",
		examples: []example{
			{"ocibuild save -o app.tar app:v1", ""},
			{"ocibuild save app:v1 app:v2 | zstd > apps.tar.zst", "layers that both have are in it once"},
			{"ocibuild save --format oci -o app.tar app:v1", "for `skopeo copy oci-archive:app.tar ...`"},
		},
		make: func() verb { return &saveCommand{} },
	}
}

func (c *saveCommand) Flags(fs *pflag.FlagSet) {
	fs.StringVarP(&c.output, "output", "o", "", "write to this `FILE` in place of standard output")
	fs.StringVar(&c.format, "format", "docker", "`FORMAT` of the archive: docker or oci")
}

func (c *saveCommand) Check(s *stdio, args []string) error {
	if err := count(args, 1, -1, "an IMAGE"); err != nil {
		return err
	}
	c.names = args
	switch c.format {
	case string(image.DockerArchive), string(image.OCIArchive):
	default:
		return usagef("--format=%s: the formats are docker and oci", c.format)
	}
	return checkOutput(s, c.output)
}

// checkOutput refuses to write an archive to a terminal.
func checkOutput(s *stdio, path string) error {
	if (path == "" || path == "-") && s.outTTY {
		return &usageError{msg: "an archive is not written to a terminal", hint: "name a file with -o, or redirect standard output"}
	}
	return nil
}

func (c *saveCommand) Run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	for _, name := range c.names {
		if _, err := st.Resolve(ctx, name); err != nil {
			return missingImage(name, err)
		}
	}
	return writeFile(s.stdio, c.output, func(w io.Writer) error {
		return st.Save(ctx, w, c.names, image.ArchiveFormat(c.format))
	})
}
