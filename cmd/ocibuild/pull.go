package main

import (
	"context"
	"fmt"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

type pullCommand struct {
	ref       image.Ref
	platforms platformsFlag
	all       bool
	quiet     bool
	insecure  []string
}

func pullDescription() *command {
	return &command{
		name: "pull", args: "NAME[:TAG|@DIGEST]", short: "fetch an image from its registry",
		long: "Fetches an image from its registry and keeps it in the store under the same name. Layers that are there " +
			"already are not fetched again. Of an image for several platforms those of --platform are fetched, or this machine's; " +
			"what an earlier pull fetched of it stays, and others can come later. Prints the full name.",
		examples: []example{
			{"ocibuild pull alpine:3.20", "from docker.io"},
			{"ocibuild pull --platform linux/arm64 ghcr.io/me/app:v1", "for another machine"},
			{"ocibuild pull --all-platforms ghcr.io/me/app:v1", "everything, attestations included"},
		},
		make: func() verb { return &pullCommand{} },
	}
}

func (c *pullCommand) Flags(fs *pflag.FlagSet) {
	c.platforms.declare(fs, "fetch the image for this `OS/ARCH[/VARIANT]`")
	fs.BoolVar(&c.all, "all-platforms", false, "fetch the images for all platforms, and what belongs to them")
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "show no progress")
	insecureFlag(fs, &c.insecure)
}

func (c *pullCommand) Check(_ *stdio, args []string) error {
	if err := count(args, 1, 1, "one NAME"); err != nil {
		return err
	}
	ref, err := parseRef(args[0])
	if err != nil {
		return err
	}
	c.ref = ref.WithDefaultTag()
	if c.all && len(c.platforms.texts) > 0 {
		return usagef("--platform and --all-platforms exclude each other")
	}
	return c.platforms.check()
}

func (c *pullCommand) Run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	lease, err := st.Lease(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	show := newDisplay(c.progress(), s.stdio)
	b := &bases{store: st, client: s.client(c.insecure, show), show: show}
	desc, err := b.pull(ctx, c.ref, registry.PullRequest{Platforms: c.platforms.want, All: c.all})
	show.close()
	if err != nil {
		return err
	}
	if !c.all && !c.quiet {
		warnPlatform(ctx, s, st, c.ref, desc, c.platforms.want)
	}
	_, err = fmt.Fprintln(s.out, c.ref)
	return err
}

// warnPlatform tells that an image which is for one platform alone is not for
// the one that was asked for.
func warnPlatform(ctx context.Context, s *session, st *image.Store, ref image.Ref, desc ocispec.Descriptor, wanted []ocispec.Platform) {
	if len(wanted) == 0 {
		wanted = []ocispec.Platform{image.HostPlatform()}
	}
	img, err := st.Select(ctx, desc, nil)
	if err != nil || img.Descriptor.Digest != desc.Digest {
		return
	}
	for _, want := range wanted {
		if other := otherPlatform(img, ref, want); other != "" {
			fmt.Fprintln(s.err, "warning: "+other)
		}
	}
}

func (c *pullCommand) progress() string {
	if c.quiet {
		return "quiet"
	}
	return "auto"
}
