package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"sync"

	"github.com/ocibuild/ocibuild/build"
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
	show      progressFlag
	policy    string
	insecure  []string
}

func pullDescription() *command {
	return &command{
		name: "pull", args: "NAME[:TAG|@DIGEST]", short: "fetch an image from its registry",
		long: "Fetches an image from its registry and keeps it in the store under the same name. Layers that are there " +
			"already are not fetched again. Of an image for several platforms those of --platform are fetched, or this machine's; " +
			"what an earlier pull fetched of it stays, and others can come later. What an earlier pull left that was cut off, " +
			"or killed, is continued. Prints the full name.\n" +
			"\n" +
			"A build fetches of its base images only the layers that something reads; pull completes them.",
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

func (c *pullCommand) flags(fs *pflag.FlagSet) {
	c.platforms.declare(fs, "fetch the image for this `OS/ARCH[/VARIANT]`")
	fs.BoolVar(&c.all, "all-platforms", false, "fetch the images for all platforms, and what belongs to them")
	fs.BoolVarP(&c.allTags, "all-tags", "a", false, "fetch all tags of the repository")
	fs.BoolVar(&c.referrers, "referrers", false, "fetch the artifacts that are about the image too: signatures, bills of materials and the like")
	fs.StringVar(&c.policy, "policy", string(build.PullAlways), "`WHEN` to ask the registry: always, missing (if the store has no such image), newer (and mind it not if there is no answer) or never")
	c.show.declare(fs)
	insecureFlag(fs, &c.insecure)
}

func (c *pullCommand) accept(_ *stdio, args []string) error {
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
	if !slices.Contains(pullPolicies, c.policy) {
		return oneOf("--policy", c.policy, pullPolicies)
	}
	if err := c.show.check(); err != nil {
		return err
	}
	if c.policy != string(build.PullAlways) && (c.all || c.allTags || c.referrers) {
		return usagef("--policy=%s is about one image: it goes with none of --all-platforms, --all-tags and --referrers", c.policy)
	}
	if c.all && len(c.platforms.texts) > 0 {
		return usagef("--platform and --all-platforms exclude each other")
	}
	return c.platforms.check()
}

func (c *pullCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	s.keeper.silent = c.show.quiet
	lease, err := st.Lease(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	show := newDisplay(c.show.mode, s.stdio)
	b := &bases{store: st, client: s.client(c.insecure, show), show: show}
	s.bring.use(b.client, show)
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
		if !c.all && !c.show.quiet {
			warnPlatform(ctx, s, st, refs[i], desc, c.platforms.want)
		}
		if _, err := fmt.Fprintln(s.out, refs[i]); err != nil {
			return err
		}
	}
	return failed(ctx, show, err)
}

// pullPolicies are the values of --policy.
var pullPolicies = []string{string(build.PullAlways), string(build.PullMissing), string(build.PullNewer), string(build.PullNever)}

// kept gives the store's image where --policy is content with it. Layers that are
// elsewhere are fetched then, but with never.
func (c *pullCommand) kept(ctx context.Context, b *bases, ref image.Ref) (desc ocispec.Descriptor, ok bool, err error) {
	want := c.platforms.want
	if len(want) == 0 {
		want = []ocispec.Platform{image.HostPlatform()}
	}
	for _, p := range want {
		img, err := b.accepted(ctx, ref, p, build.PullPolicy(c.policy))
		if err != nil || img == nil {
			return desc, false, err
		}
	}
	if desc, err = b.store.Resolve(ctx, ref.String()); err != nil || c.policy == string(build.PullNever) {
		return desc, err == nil, err
	}
	return desc, true, b.store.Complete(ctx, desc, want...)
}

func (c *pullCommand) pull(ctx context.Context, b *bases, ref image.Ref) (ocispec.Descriptor, error) {
	if desc, ok, err := c.kept(ctx, b, ref); ok || err != nil {
		return desc, err
	}
	desc, err := b.pull(ctx, ref, registry.PullRequest{Platforms: c.platforms.want, All: c.all})
	if err == nil && c.referrers {
		err = b.pullReferrers(ctx, ref, desc, 0)
	}
	return desc, err
}

// listTag is a tag in which clients keep a list of referrers.
var listTag = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^sha(256|512)-[0-9a-f]{64,}$`) })

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
		if !listTag().MatchString(tag) {
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
