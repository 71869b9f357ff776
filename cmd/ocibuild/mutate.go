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

type mutateCommand struct {
	name     string
	tags     []string
	refs     []image.Ref
	squash   bool
	platform platformFlag
	configFlags
}

func mutateDescription() *command {
	return &command{
		name: "mutate", args: "IMAGE", short: "make a changed copy of an image",
		long: "Changes an image's config and annotations, or puts all its layers into one, without a build, and gives the copy the " +
			"names of --tag. Of an image for several platforms all are changed, or only the one of --platform is taken. KEY- " +
			"takes away what KEY=VALUE sets. Prints the image id.",
		examples: []example{
			{"ocibuild mutate -t app:v2 --env MODE=prod --env DEBUG- --label team=web app:v1", ""},
			{`ocibuild mutate -t app:v2 --entrypoint '["/bin/app"]' --cmd '["serve"]' app:v1`, ""},
			{"ocibuild mutate -t app:small --squash app:v1", "one layer, without what later layers have deleted"},
			{"ocibuild mutate -t app:v2 -c 'HEALTHCHECK NONE' app:v1", "what a Dockerfile says"},
		},
		grows: true,
		make:  func() verb { return &mutateCommand{} },
	}
}

func (c *mutateCommand) flags(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&c.tags, "tag", "t", nil, "give the copy this `NAME[:TAG]` (may be repeated)")
	fs.BoolVar(&c.squash, "squash", false, "put what all layers come to into one")
	c.platform.declare(fs, "change the image for this `OS/ARCH[/VARIANT]` alone, without the index")
	c.declare(fs)
}

func (c *mutateCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, 1, "one IMAGE"); err != nil {
		return err
	}
	c.name = args[0]
	var err error
	if c.refs, err = parseTags(c.tags); err != nil {
		return err
	}
	if err := c.platform.check(); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	if !c.squash && !c.any() {
		return &usageError{msg: "nothing is to be changed", hint: "`ocibuild help mutate` lists what can be; `ocibuild tag` gives a name alone"}
	}
	return nil
}

// parseTags reads names to give to an image.
func parseTags(texts []string) ([]image.Ref, error) {
	var refs []image.Ref
	for _, text := range texts {
		ref, err := parseNewRef(text)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

func (c *mutateCommand) run(ctx context.Context, s *session) error {
	return makeCopy(ctx, s, c.name, c.platform.want, c.refs, func(st *image.Store, desc ocispec.Descriptor) (ocispec.Descriptor, error) {
		memory, err := s.cache()
		if err != nil {
			return desc, err
		}
		return st.Mutate(ctx, desc, image.Mutation{Config: c.apply, Annotations: c.annotations, Squash: c.squash, TOCs: memory})
	})
}

// makeCopy has change make another image of one of the store, gives it names,
// and prints its id.
func makeCopy(ctx context.Context, s *session, name string, want *ocispec.Platform, refs []image.Ref,
	change func(*image.Store, ocispec.Descriptor) (ocispec.Descriptor, error),
) error {
	st, lease, err := s.leasedStore(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	desc, err := st.Resolve(ctx, name)
	if err != nil {
		return missingImage(name, err)
	}
	if want != nil {
		img, err := st.Select(ctx, desc, want)
		if err != nil {
			return missingImage(name, err)
		}
		desc = img.Descriptor
	}
	made, err := change(st, desc)
	if err != nil {
		return missingImage(name, err)
	}
	s.keep(made.Digest)
	if err := st.TagAll(ctx, refs, made); err != nil {
		return err
	}
	info, err := st.Inspect(ctx, made.Digest.String(), nil)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, info.Id)
	return err
}

// configFlags change an image's config.
type configFlags struct {
	env, labels, annotationTexts, ports, volumes, changeTexts []string
	cmd, entrypoint, user, workdir, stopSignal, author, set   string
	given                                                     func(name string) bool

	changes     []build.Change
	annotations map[string]string
	platform    *ocispec.Platform
}

func (f *configFlags) declare(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&f.env, "env", "e", nil, "set a variable of the environment, `NAME=VALUE`, or take it away, NAME- (may be repeated)")
	fs.StringArrayVarP(&f.labels, "label", "l", nil, "set a label, `KEY=VALUE`, or take it away, KEY- (may be repeated)")
	fs.StringArrayVar(&f.annotationTexts, "annotation", nil, "set an annotation of the manifest, `KEY=VALUE`, or take it away, KEY- (may be repeated)")
	fs.StringArrayVar(&f.ports, "expose", nil, "expose this `PORT[/PROTOCOL]`, or PORT/PROTOCOL- no longer (may be repeated)")
	fs.StringArrayVar(&f.volumes, "volume", nil, "make this `PATH` a volume, or PATH- no longer (may be repeated)")
	fs.StringVar(&f.cmd, "cmd", "", "set the `COMMAND`: a JSON array, or what a shell is to run; empty for none")
	fs.StringVar(&f.entrypoint, "entrypoint", "", "set the entry point, a `COMMAND` as for --cmd")
	fs.StringVarP(&f.user, "user", "u", "", "set the `USER[:GROUP]`")
	fs.StringVarP(&f.workdir, "workdir", "w", "", "set the working `DIR`")
	fs.StringVar(&f.stopSignal, "stop-signal", "", "set the `SIGNAL` that stops a container")
	fs.StringVarP(&f.author, "author", "a", "", "set the author's `NAME`")
	fs.StringVar(&f.set, "set-platform", "", "say that the image is for this `OS/ARCH[/VARIANT]`")
	fs.StringArrayVarP(&f.changeTexts, "change", "c", nil, "apply this Dockerfile `INSTRUCTION` (may be repeated)")
	f.given = func(name string) bool { return fs.Changed(name) }
}

// any reports whether anything is to be changed.
func (f *configFlags) any() bool {
	for _, name := range []string{
		"env", "label", "annotation", "expose", "volume", "cmd", "entrypoint", "user", "workdir", "stop-signal", "author", "set-platform", "change",
	} {
		if f.given(name) {
			return true
		}
	}
	return false
}

func (f *configFlags) check() error {
	for flag, texts := range map[string][]string{"--env": f.env, "--label": f.labels, "--annotation": f.annotationTexts} {
		for _, text := range texts {
			if key, _, _, ok := cutChange(text); !ok || key == "" {
				return &usageError{msg: fmt.Sprintf("%s=%s: it says neither what to set nor what to take away", flag, text), hint: "write KEY=VALUE or KEY-"}
			}
		}
	}
	f.annotations = map[string]string{}
	for _, text := range f.annotationTexts {
		key, value, _, _ := cutChange(text)
		f.annotations[key] = value
	}
	if f.set != "" {
		p, err := parsePlatform(f.set)
		if err != nil {
			return err
		}
		f.platform = &p
	}
	return f.checkCommands()
}

// checkCommands reads what is worded as in a Dockerfile.
func (f *configFlags) checkCommands() error {
	texts := append([]string(nil), f.changeTexts...)
	// The entry point goes first: as in a Dockerfile it leaves an earlier CMD be.
	for _, flag := range []struct{ name, keyword, text string }{{"entrypoint", "ENTRYPOINT", f.entrypoint}, {"cmd", "CMD", f.cmd}} {
		if f.given(flag.name) && flag.text != "" {
			texts = append(texts, flag.keyword+" "+flag.text)
		}
	}
	for _, port := range f.ports {
		if !strings.HasSuffix(port, "-") {
			texts = append(texts, "EXPOSE "+port)
		}
	}
	var err error
	f.changes, err = parseChanges(texts)
	return err
}

// cutChange reads KEY=VALUE and KEY-.
func cutChange(text string) (key, value string, unset, ok bool) {
	if key, value, ok = strings.Cut(text, "="); ok {
		return key, value, false, true
	}
	key, ok = strings.CutSuffix(text, "-")
	return key, "", true, ok
}

// apply changes a config as the flags say.
func (f *configFlags) apply(cfg *image.Config) error {
	changed, err := applyChanges(*cfg, f.changes)
	if err != nil {
		return err
	}
	*cfg = changed
	rc := &cfg.Config
	if f.given("cmd") && f.cmd == "" {
		rc.Cmd = nil
	}
	if f.given("entrypoint") && f.entrypoint == "" {
		rc.Entrypoint = nil
	}
	for _, text := range f.env {
		if key, value, unset, _ := cutChange(text); unset {
			rc.UnsetEnv(key)
		} else {
			rc.SetEnv(key, value)
		}
	}
	for _, text := range f.labels {
		if key, value, unset, _ := cutChange(text); unset {
			delete(rc.Labels, key)
		} else {
			rc.SetLabel(key, value)
		}
	}
	for _, port := range f.ports {
		if gone, ok := strings.CutSuffix(port, "-"); ok {
			delete(rc.ExposedPorts, withProtocol(gone))
		}
	}
	for _, path := range f.volumes {
		if gone, ok := strings.CutSuffix(path, "-"); ok {
			delete(rc.Volumes, gone)
		} else {
			rc.AddVolume(path)
		}
	}
	f.setWords(cfg)
	return nil
}

// setWords sets what is one word.
func (f *configFlags) setWords(cfg *image.Config) {
	for _, word := range []struct {
		flag, text string
		to         *string
	}{
		{"user", f.user, &cfg.Config.User},
		{"workdir", f.workdir, &cfg.Config.WorkingDir},
		{"stop-signal", f.stopSignal, &cfg.Config.StopSignal},
		{"author", f.author, &cfg.Author},
	} {
		if f.given(word.flag) {
			*word.to = word.text
		}
	}
	if f.platform != nil {
		cfg.OS, cfg.Architecture, cfg.Variant = f.platform.OS, f.platform.Architecture, f.platform.Variant
	}
}

// withProtocol is a port as a config names it.
func withProtocol(port string) string {
	if strings.Contains(port, "/") {
		return strings.ToLower(port)
	}
	return port + "/tcp"
}
