package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

type pullCommand struct {
	ref      image.Ref
	platform string
	want     ocispec.Platform
	quiet    bool
	insecure []string
}

func pullDescription() *command {
	return &command{
		name: "pull", args: "NAME[:TAG|@DIGEST]", short: "fetch an image from its registry",
		long: "Fetches an image from its registry and keeps it in the store under the same name. Layers that are there " +
			"already are not fetched again. Of an image for several platforms one is fetched. Prints the full name.",
		examples: []example{
			{"ocibuild pull alpine:3.20", "from docker.io"},
			{"ocibuild pull --platform linux/arm64 ghcr.io/me/app:v1", "for another machine"},
		},
		make: func() verb { return &pullCommand{} },
	}
}

func (c *pullCommand) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.platform, "platform", "", "fetch the image for this `OS/ARCH[/VARIANT]` (default: this machine's)")
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
	c.want, err = parsePlatform(c.platform)
	return err
}

// parsePlatform reads a --platform flag; empty is this machine's.
func parsePlatform(text string) (ocispec.Platform, error) {
	if text == "" {
		return image.HostPlatform(), nil
	}
	if strings.Contains(text, ",") {
		return ocispec.Platform{}, &usageError{msg: "--platform=" + text + ": one platform at a time", hint: "run the command once for each platform"}
	}
	p, err := build.ParsePlatform(text)
	if err != nil {
		return p, &usageError{msg: "--platform: " + err.Error(), hint: "write it as linux/amd64 or linux/arm64"}
	}
	return p, nil
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
	img, err := b.Image(ctx, c.ref, c.want, build.PullAlways)
	show.close()
	if err != nil {
		return err
	}
	if other := otherPlatform(img, c.ref, c.want); other != "" && !c.quiet {
		fmt.Fprintln(s.err, "warning: "+other)
	}
	_, err = fmt.Fprintln(s.out, c.ref)
	return err
}

func (c *pullCommand) progress() string {
	if c.quiet {
		return "quiet"
	}
	return "auto"
}
