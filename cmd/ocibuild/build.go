package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

// buildCommand is `ocibuild build`. The first group of fields is what the
// flags say, the second what Check made of it.
type buildCommand struct {
	tagTexts, argTexts, labelTexts, outputTexts []string
	secretTexts                                 []string
	targetTexts, platformTexts, contextTexts    []string
	file, pullText                              string
	noCache, push, quiet, replay                bool
	noCacheStages, insecure                     []string
	onFailure                                   string
	beforeTexts, afterTexts                     []string
	progress, iidFile, metadataFile, printGraph string
	compression                                 compressionFlags
	jobs                                        int
	checkOnly, json                             bool
	callText                                    string
	call                                        call
	pullFlag                                    *pflag.Flag
	steps                                       stepFlags

	place   place
	tags    []image.Ref
	args    map[string]string
	labels  map[string]string
	secrets map[string][]byte
	// platforms and targets have one element at least; the stage of a target
	// is empty where none is named.
	platforms []ocispec.Platform
	targets   []target
	contexts  map[string]*build.Context
	outputs   []output
	// rules is what BUILDKIT_DOCKERFILE_CHECK asks for, or nil.
	rules *parser.Check
}

func buildDescription() *command {
	return &command{
		name: "build", args: "CONTEXT", short: "build an image from a Dockerfile",
		long: "Builds the Dockerfile of a directory, the context, whose files COPY and ADD can use, and keeps the image in the store. " +
			"The word build may be left out: `ocibuild -t app:v1 .`\n" +
			"\n" +
			"CONTEXT may also be a git repository (https://HOST/NAME.git#REF:DIR, USER@HOST:PATH), a URL of a tar archive or of a Dockerfile " +
			"alone, or - for either on standard input; archives may be compressed. --file is relative to such a context, unless it " +
			"begins with a slash or is a URL.\n" +
			"\n" +
			"The Dockerfile is CONTEXT/Dockerfile or CONTEXT/dockerfile if --file names no other. Files that match a pattern of " +
			"DOCKERFILE.dockerignore, or else of CONTEXT/.dockerignore, are not in the context. Only the stages that the target " +
			"needs are built; steps whose inputs have not changed are taken from the cache.\n" +
			"\n" +
			"Outputs, beside the image in the store: type=local,dest=DIR (the files), type=tar,dest=FILE (the files in a tar), " +
			"type=oci,dest=FILE and type=docker,dest=FILE (an archive as save writes it), type=image[,name=NAME][,push=true], " +
			"type=registry[,name=NAME] (push). A bare DIR is type=local, - a tar on standard output.\n" +
			"\n" +
			"$SOURCE_DATE_EPOCH, the build argument or the global ARG of that name, sets all times that the build itself writes: a number of " +
			"seconds, or the word context, or the name of a named context or of a stage that ADDs one URL, whose time is taken then.",
		examples: []example{
			{"ocibuild -t app:v1 .", "build the Dockerfile here and name the image"},
			{"ocibuild -t app:v1 --build-arg VERSION=1.2 --target test src", "with an argument, up to the stage test"},
			{"ocibuild -f docker/prod.Dockerfile -t ghcr.io/me/app:v1 --push .", "and push it"},
			{"ocibuild https://example.com/app.git#v1.2", "a tag of a git repository"},
			{"tar -cz Dockerfile src | ocibuild -t app:v1 -", "an archive on standard input"},
			{"ocibuild -o out .", "the image's files into the directory out"},
			{"id=$(ocibuild -q .)", "nothing but the image id"},
			{"ocibuild --print-graph . | dot -Tsvg > graph.svg", "what would be built, and on what it depends"},
		},
		enters: true,
		grows:  true,
		make:   func() verb { return &buildCommand{} },
	}
}

func (c *buildCommand) flags(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&c.tagTexts, "tag", "t", nil, "give the image this `NAME[:TAG]` (may be repeated)")
	fs.StringVarP(&c.file, "file", "f", "", "read this `DOCKERFILE`, a file or URL; - is standard input")
	fs.StringArrayVar(&c.argTexts, "build-arg", nil, "set a build argument, `NAME=VALUE`, or NAME to take it from the environment (may be repeated)")
	fs.StringArrayVar(&c.secretTexts, "secret", nil, "let RUN --mount=type=secret show a step the file or variable `id=ID[,src=FILE|,env=NAME]`; it is never stored (may be repeated)")
	fs.StringArrayVar(&c.targetTexts, "target", nil, "build this `STAGE[=NAME]`, by name or number (default: the last one); may be repeated: --tag names the last")
	fs.StringSliceVar(&c.platformTexts, "platform", nil, "build for this `OS/ARCH[/VARIANT]` (default: this machine's); several, with commas between, give an index")
	fs.StringArrayVar(&c.contextTexts, "build-context", nil, "let FROM and --from find under a name what `NAME=SOURCE` says: a directory, a URL of a git repository or a file, docker-image://REFERENCE, oci-layout://DIR[:TAG] (may be repeated)")
	fs.StringArrayVar(&c.labelTexts, "label", nil, "set a label, `KEY=VALUE`, on the image (may be repeated)")
	fs.BoolVar(&c.noCache, "no-cache", false, "run every step")
	fs.StringSliceVar(&c.noCacheStages, "no-cache-filter", nil, "run every step of this `STAGE` (may be repeated)")
	fs.StringVar(&c.pullText, "pull", string(build.PullMissing), "ask registries for base images: `always`, missing, newer or never; --pull alone is always")
	fs.Lookup("pull").NoOptDefVal = string(build.PullAlways)
	c.pullFlag = fs.Lookup("pull")
	fs.StringVar(&c.onFailure, "on-failure", "stop", "what to do when a step's command fails, an `ACTION`: stop, or shell, which opens one in the files that it left, with its mounts")
	fs.StringArrayVar(&c.beforeTexts, "break-before", nil, "open a shell before this `STEP`: NUMBER, STAGE:NUMBER, :LINE or words of it (may be repeated)")
	fs.StringArrayVar(&c.afterTexts, "break-after", nil, "open a shell after this `STEP` (may be repeated)")
	fs.BoolVar(&c.replay, "replay-logs", false, "show the output of steps that are cached, as it was when they ran")
	fs.BoolVar(&c.push, "push", false, "push the image under all its names")
	c.compression.declare(fs, "gzip", "for --push, and for archives if it is given")
	fs.StringArrayVarP(&c.outputTexts, "output", "o", nil, "write the result also as `type=TYPE,dest=PATH` says (may be repeated)")
	fs.StringVar(&c.progress, "progress", "auto", "show progress as `MODE`: auto, plain, tty, json or quiet")
	fs.StringVar(&c.iidFile, "iidfile", "", "write the image id to this `FILE`")
	fs.StringVar(&c.metadataFile, "metadata-file", "", "write digests and names as JSON to this `FILE`")
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "print nothing but the image id")
	fs.StringVar(&c.printGraph, "print-graph", "", "print the graph of steps as `dot` or json and build nothing; --print-graph alone is dot")
	fs.Lookup("print-graph").NoOptDefVal = "dot"
	fs.BoolVar(&c.checkOnly, "check", false, "check the Dockerfile and build nothing, as the verb lint does")
	fs.StringVar(&c.callText, "call", "build", "what to do with the Dockerfile, `METHOD[,format=json]`: build, check, outline (what the target takes) or targets (the stages)")
	fs.BoolVar(&c.json, "json", false, "with --check or --call: print the answer as JSON")
	fs.IntVarP(&c.jobs, "jobs", "j", 0, "run at most this `NUMBER` of steps at once (default: as many as suit the machine)")
	c.steps.flags(fs)
	insecureFlag(fs, &c.insecure)
}

func (c *buildCommand) accept(s *stdio, args []string) error {
	if err := c.checkContext(s, args); err != nil {
		return err
	}
	if err := c.checkWords(s); err != nil {
		return err
	}
	if err := c.checkNames(); err != nil {
		return err
	}
	var err error
	if err = c.checkPlatforms(); err != nil {
		return err
	}
	if err = c.checkTargets(); err != nil {
		return err
	}
	if c.contexts, err = namedContexts(c.contextTexts); err != nil {
		return err
	}
	if err = c.steps.check(s.env); err != nil {
		return err
	}
	if c.secrets, err = readSecrets(c.secretTexts, s.env); err != nil {
		return err
	}
	if c.args, err = buildArgs(c.argTexts, s.env); err != nil {
		return err
	}
	if c.labels, err = keyValues("--label", c.labelTexts); err != nil {
		return err
	}
	if c.rules, err = checkArg(c.args); err != nil {
		return err
	}
	return c.checkOutputs(s)
}

func (c *buildCommand) checkContext(s *stdio, args []string) error {
	hint := "`ocibuild -t app:v1 .` builds the Dockerfile of this directory"
	switch {
	case len(args) == 0:
		return &usageError{msg: "the CONTEXT directory is missing", hint: hint}
	case len(args) > 1:
		if lookupCommand(commands(), args[0]) != nil {
			hint = "flags come after the verb: `ocibuild " + args[0] + " ...`; only --root may stand before it"
		}
		return &usageError{msg: "build takes one CONTEXT, got " + strings.Join(args, " "), hint: hint}
	}
	var err error
	if c.place, err = parsePlace(args[0]); err != nil {
		return err
	}
	switch {
	case c.place.stdin && c.file == "-":
		return &usageError{msg: "standard input cannot be both the context and the Dockerfile", hint: "`ocibuild - <Dockerfile` builds a Dockerfile that needs no context"}
	case c.place.stdin && s.inTTY:
		return &usageError{msg: "a context is not read from a terminal", hint: "redirect standard input: a tar archive, or a Dockerfile"}
	}
	return nil
}

// checkWords looks at the flags that take one of several words.
func (c *buildCommand) checkWords(s *stdio) error {
	if c.quiet {
		c.progress = "quiet"
	}
	words := []struct {
		flag, value string
		allowed     []string
	}{
		{"--pull", c.pullText, []string{"always", "missing", "newer", "never", "true", "false"}},
		{"--progress", c.progress, progressModes},
		{"--on-failure", c.onFailure, []string{"stop", "shell"}},
		{"--print-graph", c.printGraph, []string{"", "dot", "json"}},
	}
	for _, w := range words {
		if !slices.Contains(w.allowed, w.value) {
			return oneOf(w.flag, w.value, w.allowed)
		}
	}
	switch c.pullText {
	case "true":
		c.pullText = string(build.PullAlways)
	case "false":
		c.pullText = string(build.PullMissing)
	}
	var err error
	if c.call, err = parseCall(c.callText, c.checkOnly); err != nil {
		return err
	}
	c.json = c.json || c.call.json
	if c.json && c.call.method == callBuild {
		return &usageError{msg: "--json goes with --check and --call", hint: "--progress=json shows a build as JSON, --metadata-file writes its result"}
	}
	if err := c.checkStops(s); err != nil {
		return err
	}
	if c.jobs < 0 {
		return usagef("--jobs=%d: the number of steps at once cannot be negative", c.jobs)
	}
	return nil
}

// oneOf words that value is none of the words that a flag takes.
func oneOf(flag, value string, allowed []string) error {
	allowed = slices.DeleteFunc(slices.Clone(allowed), func(w string) bool { return w == "" || w == "true" || w == "false" })
	msg := fmt.Sprintf("%s=%s: unknown value", flag, value)
	if near := nearest(value, allowed); near != "" {
		msg += fmt.Sprintf(" (did you mean %s?)", near)
	}
	return &usageError{msg: msg, hint: "it takes " + strings.Join(allowed, ", ")}
}

func (c *buildCommand) checkNames() error {
	for _, text := range c.tagTexts {
		ref, err := parseNewRef(text)
		if err != nil {
			return err
		}
		if !slices.Contains(c.tags, ref) {
			c.tags = append(c.tags, ref)
		}
	}
	return nil
}

// checkOutputs looks at everything that the build is to write.
func (c *buildCommand) checkOutputs(s *stdio) error {
	if err := c.compression.check("--compression"); err != nil {
		return err
	}
	for _, text := range c.outputTexts {
		o, err := parseOutput(text)
		if err != nil {
			return err
		}
		if err := c.addOutput(o); err != nil {
			return err
		}
	}
	c.compressOutputs()
	stdout := 0
	for _, o := range c.outputs {
		if o.dest == "-" {
			stdout++
		}
	}
	switch {
	case c.push && len(c.tags) == 0:
		return &usageError{msg: "--push needs a name to push to", hint: "name the image with -t HOST/REPOSITORY:TAG"}
	case stdout > 1, stdout > 0 && c.quiet:
		return usagef("standard output can take one thing only: one output, or the image id of --quiet")
	case stdout > 0:
		if err := checkOutput(s, "-"); err != nil {
			return err
		}
	}
	return c.checkFiles()
}

func (c *buildCommand) addOutput(o output) error {
	c.push = c.push || o.push
	for _, ref := range o.names {
		if !slices.Contains(c.tags, ref) {
			c.tags = append(c.tags, ref)
		}
	}
	if o.dest != "" {
		c.outputs = append(c.outputs, o)
		return nil
	}
	if o.compression == nil {
		return nil
	}
	if c.compression.given && o.compression.how != c.compression.how {
		return usagef("what is pushed can be compressed in one way only, and the flags and outputs name several")
	}
	c.compression = *o.compression
	return nil
}

// compressOutputs lets archives that say nothing of their compression have that of the flags, if these do.
func (c *buildCommand) compressOutputs() {
	for i, o := range c.outputs {
		if o.compression == nil && c.compression.given && (o.kind == "oci" || o.kind == "docker") {
			c.outputs[i].compression = &c.compression
		}
	}
}

// checkFiles looks at the files that are to name the result.
func (c *buildCommand) checkFiles() error {
	for _, f := range []string{c.iidFile, c.metadataFile} {
		if f == "" {
			continue
		}
		if info, err := os.Stat(filepath.Dir(f)); err != nil || !info.IsDir() {
			return usagef("%s cannot be written: there is no directory %s", f, filepath.Dir(f))
		}
	}
	return nil
}

// buildArgs reads the values of --build-arg. A name without a value takes that
// of the environment, and is left out when there is none.
func buildArgs(texts []string, env func(string) (string, bool)) (map[string]string, error) {
	out := map[string]string{}
	if v, ok := env("SOURCE_DATE_EPOCH"); ok && v != "" {
		out["SOURCE_DATE_EPOCH"] = v
	}
	for _, text := range texts {
		k, v, ok := strings.Cut(text, "=")
		if k == "" {
			return nil, usagef("--build-arg=%s: a name is missing", text)
		}
		if !ok {
			if v, ok = env(k); !ok {
				continue
			}
		}
		out[k] = v
	}
	return out, nil
}

// checkArg reads the build argument that stands in for a Dockerfile's check
// directive.
func checkArg(args map[string]string) (*parser.Check, error) {
	text, ok := args["BUILDKIT_DOCKERFILE_CHECK"]
	if !ok {
		return nil, nil
	}
	check, err := parser.ParseCheck(text)
	if err != nil {
		return nil, usagef("--build-arg BUILDKIT_DOCKERFILE_CHECK=%s: %v", text, err)
	}
	return &check, nil
}

// keyValues reads the values of a flag that takes KEY=VALUE; a key alone has
// an empty value.
func keyValues(flag string, texts []string) (map[string]string, error) {
	out := map[string]string{}
	for _, text := range texts {
		k, v, _ := strings.Cut(text, "=")
		if k == "" {
			return nil, usagef("%s=%s: a name is missing", flag, text)
		}
		out[k] = v
	}
	return out, nil
}

func (c *buildCommand) run(ctx context.Context, s *session) error {
	if c.call.method != callBuild {
		return c.answer(ctx, s)
	}
	w := &workshop{c: c, s: s}
	defer w.close()
	src, err := c.readSource(ctx, w)
	if err != nil {
		w.closeDisplay()
		return c.failEarly(s, src, src.warnings(), err)
	}
	graph, err := build.PlanAll(src.dockerfile, c.plan(), build.Wanteds(c.wants()))
	if err != nil {
		w.closeDisplay()
		found, _ := build.Check(ctx, build.CheckRequest{Dockerfile: src.dockerfile, Plan: c.plan()})
		return c.failEarly(s, src, found, err)
	}
	if c.printGraph != "" {
		w.closeDisplay()
		return c.writeGraph(s, graph)
	}
	return c.build(ctx, w, src)
}

func (c *buildCommand) plan() build.PlanOptions {
	return build.PlanOptions{
		Args: c.args, Target: c.targets[0].stage, Platform: c.platforms[0], BuildPlatform: image.HostPlatform(),
		Implied: len(c.platformTexts) == 0, Allow: c.steps.allow, Contexts: c.contexts,
	}
}

func (c *buildCommand) writeGraph(s *session, g *build.Graph) error {
	if c.printGraph == "json" {
		return g.WriteJSON(s.out)
	}
	return g.WriteDOT(s.out)
}
