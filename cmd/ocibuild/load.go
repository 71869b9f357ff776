package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/spf13/pflag"
)

type loadCommand struct {
	input     string
	quiet     bool
	platforms platformsFlag
}

func loadDescription() *command {
	return &command{
		name: "load", short: "read images from an archive",
		long: "Reads the images of an archive that docker save, podman save, skopeo or ocibuild save wrote, in docker's " +
			"or in OCI's format, compressed or not, and keeps them under the names they have in it.",
		examples: []example{
			{"ocibuild load -i app.tar.gz", ""},
			{"ssh host docker save app:v1 | ocibuild load", ""},
			{"ocibuild load -i app.tar --platform linux/arm64", "of an archive for several platforms"},
		},
		grows: true,
		make:  func() verb { return &loadCommand{} },
	}
}

func (c *loadCommand) flags(fs *pflag.FlagSet) {
	fs.StringVarP(&c.input, "input", "i", "", "read this `FILE` in place of standard input")
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "print nothing")
	c.platforms.declare(fs, "take the image for this `OS/ARCH[/VARIANT]` alone")
}

func (c *loadCommand) accept(s *stdio, args []string) error {
	if len(args) > 0 {
		return &usageError{msg: "load takes no arguments, got " + args[0], hint: "name the archive with -i"}
	}
	if (c.input == "" || c.input == "-") && s.inTTY {
		return &usageError{msg: "an archive is not read from a terminal", hint: "name a file with -i, or redirect standard input"}
	}
	return c.platforms.check()
}

func (c *loadCommand) run(ctx context.Context, s *session) error {
	in, err := openInput(s.stdio, c.input)
	if err != nil {
		return err
	}
	defer in.Close()
	st, lease, err := s.leasedStore(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	plain, _, err := layer.Decompress(in)
	if err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	defer plain.Close()
	loaded, err := st.Load(ctx, plain, image.LoadOptions{Platforms: c.platforms.want})
	if err != nil {
		return archiveError(err)
	}
	s.keeper.silent = c.quiet
	for _, l := range loaded {
		s.keep(l.Descriptor.Digest)
	}
	return c.print(ctx, s, st, loaded)
}

func (c *loadCommand) print(ctx context.Context, s *session, st *image.Store, loaded []image.Loaded) error {
	if c.quiet {
		return nil
	}
	for _, l := range loaded {
		line := "Loaded image: " + l.Ref.Familiar()
		if l.Ref.IsZero() {
			info, err := st.Inspect(ctx, l.Descriptor.Digest.String(), nil)
			if err != nil {
				return err
			}
			line = "Loaded image ID: " + info.Id.String()
		}
		if _, err := fmt.Fprintln(s.out, line); err != nil {
			return err
		}
	}
	return nil
}

// archiveError words that an archive has no image for a platform.
func archiveError(err error) error {
	var platform *image.PlatformError
	if !errors.As(err, &platform) {
		return err
	}
	e := &storeError{msg: "the archive has no image for " + image.FormatPlatform(platform.Want), err: err}
	if list := formatPlatforms(platform.Have); list != "" {
		e.hint = "it has " + list
	}
	return e
}

// openInput opens a file, or standard input for "" and "-".
func openInput(s *stdio, path string) (io.ReadCloser, error) {
	if path == "" || path == "-" {
		return io.NopCloser(s.in), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, &contextError{msg: path, err: err}
	}
	return f, nil
}
