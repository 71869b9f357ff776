package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type saveCommand struct {
	names  []string
	output string
	format string

	compression compressionFlags
	platforms   platformsFlag
	all         allFlag
}

func saveDescription() *command {
	return &command{
		name: "save", args: "IMAGE...", short: "write images to an archive",
		long: "Writes one or more images to a tar archive that `ocibuild load`, docker, podman and skopeo read. " +
			"The docker format is an OCI image layout with docker's manifest.json beside it; the oci format has the layout alone. " +
			"A name without a tag stands for all tags of its repository. Of an image for several platforms all that are in the " +
			"store are written; its index stays as it is whatever is left out.",
		examples: []example{
			{"ocibuild save -o app.tar app:v1", ""},
			{"ocibuild save app:v1 app:v2 | zstd > apps.tar.zst", "layers that both have are in it once"},
			{"ocibuild save --platform linux/amd64,linux/arm64 -o app.tar app:v1", "of an image for more platforms than these"},
			{"ocibuild save --compression zstd -o app.tar app:v1", "with compressed layers, as push sends them"},
			{"ocibuild save --format oci -o app.tar app:v1", "for `skopeo copy oci-archive:app.tar ...`"},
		},
		grows: true,
		sends: true,
		make:  func() verb { return &saveCommand{} },
	}
}

func (c *saveCommand) flags(fs *pflag.FlagSet) {
	fs.StringVarP(&c.output, "output", "o", "", "write to this `FILE` in place of standard output")
	fs.StringVar(&c.format, "format", "docker", "`FORMAT` of the archive: docker or oci")
	c.compression.declare(fs, "none", "others leave as they are")
	c.platforms.declare(fs, "write the image for this `OS/ARCH[/VARIANT]` alone")
	c.all.declare(fs, "refuse to write an index without some of its images")
}

func (c *saveCommand) accept(s *stdio, args []string) error {
	if err := count(args, 1, -1, "an IMAGE"); err != nil {
		return err
	}
	c.names = args
	if err := errors.Join(c.platforms.check(), c.all.check(c.platforms.texts...)); err != nil {
		return err
	}
	switch c.format {
	case string(image.DockerArchive), string(image.OCIArchive):
	default:
		return usagef("--format=%s: the formats are docker and oci", c.format)
	}
	if err := c.compression.check("--compression"); err != nil {
		return err
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

func (c *saveCommand) run(ctx context.Context, s *session) error {
	st, release, err := s.readingLease(ctx)
	if err != nil {
		return err
	}
	defer release()
	var images []image.Reference
	for _, name := range c.names {
		found, err := c.find(ctx, st, name)
		if err != nil {
			return missingImage(name, err)
		}
		images = append(images, found...)
	}
	return writeFile(s.stdio, c.output, func(w io.Writer) error {
		return st.SaveReferences(ctx, w, images, image.SaveOptions{Format: image.ArchiveFormat(c.format), Platforms: c.platforms.want})
	})
}

// find gives the images that a name stands for, with their layers compressed
// where that is wanted.
func (c *saveCommand) find(ctx context.Context, st *image.Store, name string) ([]image.Reference, error) {
	found, err := st.Named(ctx, name)
	if err != nil {
		return nil, err
	}
	for i := range found {
		if c.all {
			if err := wantWhole(ctx, st, found[i]); err != nil {
				return nil, err
			}
		}
		for _, p := range c.platforms.want {
			if _, err := st.Select(ctx, found[i].Descriptor, &p); err != nil {
				return nil, err
			}
		}
		found[i].Descriptor, err = st.Portable(ctx, found[i].Descriptor, c.compression.how)
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// wantWhole wants all images of an index to be in the store.
func wantWhole(ctx context.Context, st *image.Store, found image.Reference) error {
	info, err := st.Inspect(ctx, found.Descriptor.Digest.String(), nil)
	if err != nil {
		return err
	}
	for _, m := range info.Manifests {
		if !m.Present && m.Kind == image.KindImage {
			return &storeError{
				msg:  fmt.Sprintf("%s: the image for %s is not in the store", found.Ref.Familiar(), m.Platform),
				hint: "`ocibuild pull --all-platforms` fetches it; without --all-platforms what is there is written",
			}
		}
	}
	return nil
}
