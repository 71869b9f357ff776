package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

type pushCommand struct {
	image    string
	to       []image.Ref // other names to send it to
	ref      image.Ref
	platform platformFlag
	all      bool
	allTags  bool
	about    bool
	show     progressFlag
	insecure []string

	compression compressionFlags
}

func pushDescription() *command {
	return &command{
		name: "push", args: "IMAGE [NAME...]", short: "send an image to registries",
		long: "Sends an image from the store to the registry that its name says. Layers are compressed once, the result is " +
			"remembered, and what the registry has already is not sent. Large layers are sent while they are compressed; a push " +
			"that was cut off or killed goes on, where the registry can do that. Prints NAME@DIGEST of what was pushed.\n" +
			"\n" +
			"With more NAMEs the image goes there instead, whatever it is called here.\n" +
			"\n" +
			"Of an image for several platforms, those that are in the store or at the registry already are pushed; where some " +
			"are nowhere, the new image is without them and a note says so, or, with --all-platforms, nothing is pushed.",
		examples: []example{
			{"ocibuild push ghcr.io/me/app:v1", ""},
			{"ocibuild push localhost:5000/app", "registries on this machine may speak plain http"},
			{"ocibuild push app:v1 ghcr.io/me/app:v1 localhost:5000/app:v1", "to two registries at once, under other names"},
			{"ocibuild push --compression zstd --force-compression ghcr.io/me/app:v1", "smaller and faster, with the layers of the base too"},
			{"ocibuild push --all-tags ghcr.io/me/app", ""},
			{"ocibuild push --referrers ghcr.io/me/app:v1", "with the signatures that an earlier pull --referrers has brought"},
			{"ocibuild push --platform linux/arm64 ghcr.io/me/app:v1-arm64", "the image for one platform, without the index"},
		},
		grows: true,
		sends: true,
		make:  func() verb { return &pushCommand{} },
	}
}

func (c *pushCommand) flags(fs *pflag.FlagSet) {
	c.platform.declare(fs, "send the image for this `OS/ARCH[/VARIANT]` alone, without the index")
	fs.BoolVar(&c.all, "all-platforms", false, "refuse to send an index without some of its images")
	fs.BoolVarP(&c.allTags, "all-tags", "a", false, "send all tags of the repository that the store has")
	fs.BoolVar(&c.about, "referrers", false, "send the artifacts of the store that are about the image too")
	c.compression.declare(fs, "gzip", "others leave as they are")
	c.show.declare(fs)
	insecureFlag(fs, &c.insecure)
}

func (c *pushCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, -1, "an IMAGE"); err != nil {
		return err
	}
	c.image = args[0]
	for _, name := range args[1:] {
		ref, err := parseNewRef(name)
		if err != nil {
			return err
		}
		c.to = append(c.to, ref)
	}
	if len(c.to) > 0 {
		return c.checkFlags()
	}
	ref, err := parseRef(args[0])
	if err == nil && c.allTags && ref.Tag()+ref.Digest().String() != "" {
		return usagef("--all-tags is about a repository: leave the tag of %s out", args[0])
	}
	if c.ref, err = parseNewRef(args[0]); err != nil {
		return err
	}
	return c.checkFlags()
}

func (c *pushCommand) checkFlags() error {
	if c.allTags && len(c.to) > 0 {
		return usagef("--all-tags sends tags to where their names say: leave the other names out")
	}
	if err := errors.Join(c.compression.check("--compression"), c.show.check()); err != nil {
		return err
	}
	if c.all && c.platform.text != "" {
		return usagef("--platform and --all-platforms exclude each other")
	}
	return c.platform.check()
}

func (c *pushCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	images, err := c.images(ctx, st)
	if err != nil {
		return missingImage(c.image, err)
	}
	s.keeper.silent = c.show.quiet
	lease, err := st.Lease(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	show := newDisplay(c.show.mode, s.stdio)
	p := &pusher{store: st, client: s.client(c.insecure, show), show: show, whole: c.all, press: st.Press(ctx, c.compression.how)}
	defer p.press.Close()
	s.bring.use(p.client, show)
	var done []registry.Pushed
	if len(c.to) > 1 {
		err = p.sendLayers(ctx, images[0].Descriptor, c.to...)
	}
	for _, i := range images {
		if err != nil {
			break
		}
		pushed, pushErr := c.push(ctx, p, i)
		if err = pushErr; err != nil {
			break
		}
		done = append(done, pushed)
	}
	show.close()
	for i, pushed := range done {
		if len(pushed.Without) > 0 {
			fmt.Fprintf(s.err, "warning: %s was pushed without %s: neither the store nor the registry has it\n", images[i].Ref.Familiar(), strings.Join(pushed.Without, ", "))
		}
		if _, err := fmt.Fprintf(s.out, "%s@%s\n", repositoryName(images[i].Ref), pushed.Digest); err != nil {
			return err
		}
	}
	return failed(ctx, show, err)
}

// images are what is to be pushed, of an index for one platform that image.
func (c *pushCommand) images(ctx context.Context, st *image.Store) ([]image.Reference, error) {
	images, err := c.named(ctx, st)
	if err != nil {
		return nil, err
	}
	for i := range images {
		if c.platform.want == nil {
			continue
		}
		img, err := st.Select(ctx, images[i].Descriptor, c.platform.want)
		if err != nil {
			return nil, err
		}
		images[i].Descriptor = img.Descriptor
	}
	return images, nil
}

// named are the images with the names that they are to have.
func (c *pushCommand) named(ctx context.Context, st *image.Store) ([]image.Reference, error) {
	if len(c.to) > 0 {
		desc, err := st.Resolve(ctx, c.image)
		var list []image.Reference
		for _, ref := range c.to {
			list = append(list, image.Reference{Ref: ref, Descriptor: desc})
		}
		return list, err
	}
	images, err := st.References(ctx)
	if err != nil {
		return nil, err
	}
	images = slices.DeleteFunc(images, func(r image.Reference) bool {
		same := r.Ref.Host() == c.ref.Host() && r.Ref.Repository() == c.ref.Repository() && r.Ref.Tag() != ""
		return !same || !c.allTags && r.Ref != c.ref
	})
	if len(images) == 0 {
		return nil, image.ErrNotFound
	}
	return images, nil
}

func (c *pushCommand) push(ctx context.Context, p *pusher, i image.Reference) (registry.Pushed, error) {
	pushed, err := p.push(ctx, i.Ref, i.Descriptor)
	if err == nil && c.about {
		err = p.pushReferrers(ctx, i.Ref, i.Descriptor, pushed.Digest)
	}
	return pushed, err
}

// repositoryName is a reference without tag and digest: "ghcr.io/me/app".
func repositoryName(ref image.Ref) string { return ref.Host() + "/" + ref.Repository() }

// pusher sends images to registries.
type pusher struct {
	store  *image.Store
	client *registry.Client
	show   display
	press  *image.Press
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
	if err := p.sendLayers(ctx, desc, ref); err != nil {
		return registry.Pushed{}, fmt.Errorf("push %s: %w", ref.Familiar(), err)
	}
	portable, err := p.press.Portable(ctx, desc)
	if err != nil {
		return registry.Pushed{}, fmt.Errorf("compress %s: %w", ref.Familiar(), err)
	}
	return p.client.Push(ctx, registry.PushRequest{
		Repo: repository(ref), Reference: ref.Tag(), Descriptor: portable, Whole: p.whole,
	}, relay{p.store, p.client})
}

// sendLayers sends what is compressed for it while it is, and what an earlier process has not brought to its end.
func (p *pusher) sendLayers(ctx context.Context, desc ocispec.Descriptor, to ...image.Ref) error {
	layers, err := p.store.ImageLayers(ctx, desc)
	if err != nil {
		return err
	}
	layers = slices.DeleteFunc(layers, func(l image.Layer) bool { return !p.press.Changes(l) || p.press.Ready(l) && !p.unfinished(l, to) })
	if len(layers) == 0 {
		return nil
	}
	s := p.ship(ctx, nil, func(error) {})
	for _, ref := range to {
		s.add(repository(ref))
	}
	for _, l := range layers {
		s.layer(l)
	}
	return s.wait(nil)
}

// unfinished reports whether a part of a layer has been sent.
func (p *pusher) unfinished(l image.Layer, to []image.Ref) bool {
	key := p.press.Layer(l).Key
	return slices.ContainsFunc(to, func(ref image.Ref) bool { return p.client.Unfinished(repository(ref), key, p.store) })
}
