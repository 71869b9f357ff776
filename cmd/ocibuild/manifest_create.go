package main

import (
	"context"
	"fmt"

	"github.com/ocibuild/ocibuild/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

type manifestCreateCommand struct {
	ref             image.Ref
	images          []string
	amend           bool
	annotationTexts []string
	annotations     map[string]string
	platforms       platformsFlag
}

func manifestCreateDescription() *command {
	return &command{
		name: "manifest create", also: []string{"create"}, args: "LIST[:TAG] [IMAGE...]", short: "make an index of images",
		long: "Makes an index of images that are in the store, or an empty one, and calls it LIST. Of an IMAGE that is an index " +
			"itself all entries are taken. Prints the digest of the index.",
		examples: []example{
			{"ocibuild manifest create app:v1 app:v1-amd64 app:v1-arm64", "of the results of two builds"},
			{"ocibuild manifest create --amend app:v1 app:v1-riscv64", "and of a third one, later"},
			{"ocibuild push --all-platforms ghcr.io/me/app:v1", "sends all of it"},
		},
		make: func() verb { return &manifestCreateCommand{} },
	}
}

func (c *manifestCreateCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.amend, "amend", "a", false, "add to an index that has the name already")
	fs.StringArrayVar(&c.annotationTexts, "annotation", nil, "set an annotation of the index, `KEY=VALUE` (may be repeated)")
	c.platforms.declare(fs, "of each IMAGE take the one for this `OS/ARCH[/VARIANT]`")
}

func (c *manifestCreateCommand) accept(_ *stdio, args []string) error {
	err := count(args, 1, -1, "a name for the LIST")
	if err != nil {
		return err
	}
	if c.ref, err = parseNewRef(args[0]); err != nil {
		return err
	}
	c.images = args[1:]
	if c.annotations, err = keyValues("--annotation", c.annotationTexts); err != nil {
		return err
	}
	return c.platforms.check()
}

func (c *manifestCreateCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	desc, err := st.CreateIndex(ctx, c.ref, image.CreateIndexOptions{
		Images: c.images, Platforms: c.platforms.want, Annotations: c.annotations, Amend: c.amend,
	})
	return printIndex(s, c.ref, desc, err)
}

// printIndex prints the digest of an index that was made or changed.
func printIndex(s *session, ref image.Ref, desc ocispec.Descriptor, err error) error {
	if err != nil {
		return manifestError(ref.Familiar(), err)
	}
	_, err = fmt.Fprintln(s.out, desc.Digest)
	return err
}
