package main

import (
	"context"
	"fmt"
	"regexp"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

type pullCommand struct {
	ref       image.Ref
	platforms platformsFlag
	all       bool
	allTags   bool
	referrers bool
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
			{"ocibuild pull --all-tags ghcr.io/me/app", ""},
			{"ocibuild pull --platform linux/arm64 ghcr.io/me/app:v1", "for another machine"},
			{"ocibuild pull --all-platforms --referrers ghcr.io/me/app:v1", "everything, attestations and signatures included"},
		},
		grows: true,
		make:  func() verb { return &pullCommand{} },
	}
}

func (c *pullCommand) Flags(fs *pflag.FlagSet) {
	c.platforms.declare(fs, "fetch the image for this `OS/ARCH[/VARIANT]`")
	fs.BoolVar(&c.all, "all-platforms", false, "fetch the images for all platforms, and what belongs to them")
	fs.BoolVarP(&c.allTags, "all-tags", "a", false, "fetch all tags of the repository")
	fs.BoolVar(&c.referrers, "referrers", false, "fetch the artifacts that are about the image too: signatures, bills of materials and the like")
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
	if c.allTags && (ref.Tag() != "" || ref.Digest() != "") {
		return usagef("--all-tags is about a repository: leave the tag of %s out", args[0])
	}
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
	s.keeper.silent = c.quiet
	lease, err := st.Lease(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	show := newDisplay(c.progress(), s.stdio)
	b := &bases{store: st, client: s.client(c.insecure, show), show: show}
	refs, err := c.refs(ctx, b)
	var pulled []ocispec.Descriptor
	for _, ref := range refs {
		desc, pullErr := c.pull(ctx, b, ref)
		if err = pullErr; err != nil {
			break
		}
		pulled = append(pulled, desc)
	}
	show.close()
	for i, desc := range pulled {
		if !c.all && !c.quiet {
			warnPlatform(ctx, s, st, refs[i], desc, c.platforms.want)
		}
		if _, err := fmt.Fprintln(s.out, refs[i]); err != nil {
			return err
		}
	}
	return err
}

func (c *pullCommand) pull(ctx context.Context, b *bases, ref image.Ref) (ocispec.Descriptor, error) {
	desc, err := b.pull(ctx, ref, registry.PullRequest{Platforms: c.platforms.want, All: c.all})
	if err == nil && c.referrers {
		err = b.pullReferrers(ctx, ref, desc, 0)
	}
	return desc, err
}

// listTag is a tag in which clients keep a list of referrers.
var listTag = regexp.MustCompile(`^sha(256|512)-[0-9a-f]{64,}$`)

// refs are the names to pull.
func (c *pullCommand) refs(ctx context.Context, b *bases) ([]image.Ref, error) {
	if !c.allTags {
		return []image.Ref{c.ref}, nil
	}
	var refs []image.Ref
	for tag, err := range b.client.Tags(ctx, repository(c.ref)) {
		if err != nil {
			return nil, err
		}
		ref, err := c.ref.WithTag(tag)
		if err != nil {
			return nil, fmt.Errorf("tag of %s: %w", c.ref.FamiliarName(), err)
		}
		if !listTag.MatchString(tag) {
			refs = append(refs, ref)
		}
	}
	return refs, nil
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
