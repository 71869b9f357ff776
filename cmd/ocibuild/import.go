package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

type importCommand struct {
	source      string
	ref         image.Ref
	changeTexts []string
	changes     []build.Change
	created     *time.Time
	platform    platformFlag
	message     string
}

func importDescription() *command {
	return &command{
		name: "import", args: "FILE|DIR|- [NAME[:TAG]]", short: "make an image of a root filesystem",
		long: "Makes an image with one layer of a tar archive (compressed or not), of standard input, or of a directory. " +
			"--change sets what a Dockerfile would: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, " +
			"WORKDIR. " +
			"$SOURCE_DATE_EPOCH sets the image's created time. Prints the image id.",
		examples: []example{
			{"ocibuild import --platform linux/arm64 -m 'from the vendor' rootfs.tar vendor:v1", "for another machine"},
			{"ocibuild import rootfs.tar.xz base:v1", ""},
			{"mmdebstrap stable - | ocibuild import - debian:mine", ""},
			{`ocibuild import -c 'CMD ["/bin/sh"]' -c 'ENV LANG=C.UTF-8' ./rootfs tools:v1`, "of a directory"},
		},
		enters: true,
		grows:  true,
		make:   func() verb { return &importCommand{} },
	}
}

func (c *importCommand) flags(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&c.changeTexts, "change", "c", nil, "apply this Dockerfile `INSTRUCTION` to the image (may be repeated)")
	fs.StringVarP(&c.message, "message", "m", "", "say this `TEXT` in the image's history")
	c.platform.declare(fs, "make the image for this `OS/ARCH[/VARIANT]` (default: this machine's)")
}

func (c *importCommand) accept(s *stdio, args []string) error {
	if err := count(args, 1, 2, "a FILE, DIR or -, and perhaps a NAME"); err != nil {
		return err
	}
	c.source = args[0]
	if c.source == "-" && s.inTTY {
		return &usageError{msg: "an archive is not read from a terminal", hint: "name a file or a directory, or redirect standard input"}
	}
	var err error
	if len(args) == 2 {
		if c.ref, err = parseNewRef(args[1]); err != nil {
			return err
		}
	}
	if c.changes, err = parseChanges(c.changeTexts); err != nil {
		return err
	}
	if err := c.platform.check(); err != nil {
		return err
	}
	c.created, err = sourceDate(s.getenv("SOURCE_DATE_EPOCH"))
	return err
}

func (c *importCommand) run(ctx context.Context, s *session) error {
	info, err := os.Stat(c.source)
	isDir := c.source != "-" && err == nil && info.IsDir()
	if c.source != "-" && err != nil {
		return &contextError{msg: c.source, err: err}
	}
	st, lease, err := s.leasedStore(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	take := c.takeTar
	if isDir {
		take = c.takeDir
	}
	desc, err := take(ctx, s, st)
	if err != nil {
		return err
	}
	s.keep(desc.Digest)
	if !c.ref.IsZero() {
		if err := st.Tag(ctx, c.ref, desc); err != nil {
			return err
		}
	}
	img, err := st.Image(ctx, desc, nil)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, img.ID())
	return err
}

func (c *importCommand) takeDir(ctx context.Context, s *session, st *image.Store) (ocispec.Descriptor, error) {
	cfg, err := c.config()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	memory, err := s.cache()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc, err := st.ImportDir(ctx, c.source, cfg, memory)
	if err != nil {
		err = fmt.Errorf("import %s: %w", c.source, err)
	}
	return desc, err
}

func (c *importCommand) takeTar(ctx context.Context, s *session, st *image.Store) (ocispec.Descriptor, error) {
	cfg, err := c.config()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	in, err := openInput(s.stdio, c.source)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer in.Close()
	plain, _, err := layer.Decompress(in)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("read %s: %w", c.source, err)
	}
	defer plain.Close()
	desc, err := st.Import(ctx, plain, cfg)
	if err != nil {
		err = fmt.Errorf("import %s: %w", c.source, err)
	}
	return desc, err
}

// config is the config of the image to be.
func (c *importCommand) config() (image.Config, error) {
	created := time.Now().UTC()
	if c.created != nil {
		created = *c.created
	}
	cfg := image.Config{Created: &created, Platform: image.HostPlatform()}
	if c.platform.want != nil {
		cfg.Platform = *c.platform.want
	}
	comment := c.message
	if comment == "" {
		comment = "Imported from " + c.source
	}
	cfg.History = []ocispec.History{{Created: &created, Comment: comment}}
	return applyChanges(cfg, c.changes)
}
