package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

type pushCommand struct {
	ref      image.Ref
	platform platformFlag
	all      bool
	quiet    bool
	insecure []string
}

func pushDescription() *command {
	return &command{
		name: "push", args: "NAME[:TAG]", short: "send an image to its registry",
		long: "Sends an image from the store to the registry that its name says. Layers are compressed once, the result is " +
			"remembered, and what the registry has already is not sent. Prints NAME@DIGEST of what was pushed.\n" +
			"\n" +
			"Of an image for several platforms, those that are in the store or at the registry already are pushed; where some " +
			"are nowhere, the new image is without them and a note says so, or, with --all-platforms, nothing is pushed.",
		examples: []example{
			{"ocibuild push ghcr.io/me/app:v1", ""},
			{"ocibuild push localhost:5000/app", "registries on this machine may speak plain http"},
			{"ocibuild push --platform linux/arm64 ghcr.io/me/app:v1-arm64", "the image for one platform, without the index"},
		},
		make: func() verb { return &pushCommand{} },
	}
}

func (c *pushCommand) Flags(fs *pflag.FlagSet) {
	c.platform.declare(fs, "send the image for this `OS/ARCH[/VARIANT]` alone, without the index")
	fs.BoolVar(&c.all, "all-platforms", false, "refuse to send an index without some of its images")
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "show no progress")
	insecureFlag(fs, &c.insecure)
}

func (c *pushCommand) Check(_ *stdio, args []string) error {
	if err := count(args, 1, 1, "one NAME"); err != nil {
		return err
	}
	var err error
	if c.ref, err = parseNewRef(args[0]); err != nil {
		return err
	}
	if c.all && c.platform.text != "" {
		return usagef("--platform and --all-platforms exclude each other")
	}
	return c.platform.check()
}

func (c *pushCommand) Run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	desc, err := st.Lookup(ctx, c.ref)
	if err != nil {
		return missingImage(c.ref.Familiar(), err)
	}
	lease, err := st.Lease(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	if c.platform.want != nil {
		img, err := st.Select(ctx, desc, c.platform.want)
		if err != nil {
			return missingImage(c.ref.Familiar(), err)
		}
		desc = img.Descriptor
	}
	mode := "auto"
	if c.quiet {
		mode = "quiet"
	}
	show := newDisplay(mode, s.stdio)
	p := &pusher{store: st, client: s.client(c.insecure, show), show: show, whole: c.all}
	pushed, err := p.push(ctx, c.ref, desc)
	show.close()
	if err != nil {
		return err
	}
	if len(pushed.Without) > 0 {
		fmt.Fprintf(s.err, "warning: %s was pushed without %s: neither the store nor the registry has it\n", c.ref.Familiar(), strings.Join(pushed.Without, ", "))
	}
	_, err = fmt.Fprintf(s.out, "%s@%s\n", repositoryName(c.ref), pushed.Digest)
	return err
}

// repositoryName is a reference without tag and digest: "ghcr.io/me/app".
func repositoryName(ref image.Ref) string { return ref.Host() + "/" + ref.Repository() }

// pusher sends images to registries.
type pusher struct {
	store  *image.Store
	client *registry.Client
	show   display
	whole  bool // refuse an index of which some images are nowhere
}

// push sends an image under a name. It tells what the registry has then, whose
// digest is that of the compressed image.
func (p *pusher) push(ctx context.Context, ref image.Ref, desc ocispec.Descriptor) (registry.Pushed, error) {
	r := p.show.begin("push "+ref.String(), repositoryName(ref))
	pushed, err := p.send(ctx, ref, desc)
	p.show.end(r, err)
	return pushed, err
}

func (p *pusher) send(ctx context.Context, ref image.Ref, desc ocispec.Descriptor) (registry.Pushed, error) {
	portable, err := p.store.Portable(ctx, desc, image.PortableOptions{Compression: gzipCompression()})
	if err != nil {
		return registry.Pushed{}, fmt.Errorf("compress %s: %w", ref.Familiar(), err)
	}
	return p.client.Push(ctx, registry.PushRequest{
		Repo: repository(ref), Reference: ref.Tag(), Descriptor: portable, MountFrom: p.siblings(ctx, ref), Whole: p.whole,
	}, p.store)
}

// siblings are the other repositories of the same registry that the store has
// images of: their blobs may be mounted in place of an upload.
func (p *pusher) siblings(ctx context.Context, ref image.Ref) []registry.Repository {
	refs, err := p.store.References(ctx)
	if err != nil {
		return nil
	}
	var out []registry.Repository
	seen := map[string]bool{ref.Repository(): true}
	for _, other := range refs {
		if other.Ref.Host() == ref.Host() && !seen[other.Ref.Repository()] {
			seen[other.Ref.Repository()] = true
			out = append(out, repository(other.Ref))
		}
	}
	return out
}
