package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/cache"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

type logsCommand struct {
	listing
	what, step string
	list       bool
}

func logsDescription() *command {
	return &command{
		name: "logs", args: "[IMAGE|BUILD]", short: "show what the steps of a build printed",
		long: "Prints the output of all steps of a build: the last one, or the one that made an image or has an id. Steps that were " +
			"cached have the output of when they ran. The output of a failed step is there too. Secrets in it are masked. It is kept " +
			"with the build cache, and pruned with it.\n" +
			"\n" +
			"--step names a step: by its number in the last stage (3), in another one (build:3), by its line in the Dockerfile (:12), or " +
			"by words of it.\n" +
			"\n" +
			"--list lists the builds. Fields of templates of the list: .ID .Began .Took .Image .Tags .File .Target .Error",
		examples: []example{
			{"ocibuild logs", "all output of the last build"},
			{"ocibuild logs --step build:3", "that of one step"},
			{"ocibuild logs --step 'npm ci' app:v1", "of the build that made an image"},
			{"ocibuild logs --list", "the builds there are"},
		},
		make: func() verb { return &logsCommand{} },
	}
}

func (c *logsCommand) flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.step, "step", "", "show this `STEP` alone: NUMBER, STAGE:NUMBER, :LINE or words of it")
	fs.BoolVarP(&c.list, "list", "l", false, "list the builds")
	c.declare(fs)
}

func (c *logsCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 0, 1, "an IMAGE or BUILD at most"); err != nil {
		return err
	}
	if len(args) > 0 {
		c.what = args[0]
	}
	if c.list && (c.what != "" || c.step != "") {
		return usagef("--list lists all builds: leave out the build and the step")
	}
	if !c.list && (c.json || c.format != "") {
		return usagef("--json and --format go with --list")
	}
	return c.parse()
}

func (c *logsCommand) run(ctx context.Context, s *session) error {
	memory, err := s.cache()
	if err != nil {
		return err
	}
	builds, err := build.Builds(memory)
	if err != nil {
		return err
	}
	if c.list {
		return c.printList(s, builds)
	}
	b, err := c.choose(ctx, s, builds)
	if err != nil {
		return err
	}
	if c.step == "" {
		return writeLogs(s.out, memory, b.Steps)
	}
	return c.writeStep(s, memory, b)
}

// buildLine is a line of the list, and what templates and JSON see.
type buildLine struct {
	ID, Began, Took, Image, Tags, File, Target, Error string
}

// buildIDLength is how much of a build's id the list shows; as much or less finds it again.
const buildIDLength = 12

func (c *logsCommand) printList(s *session, builds []build.PastBuild) error {
	var lines []buildLine
	var rows [][]string
	for _, b := range builds {
		l := buildLine{
			ID: string(b.ID), Began: b.Began.Format(time.RFC3339), Took: seconds(b.Took), Tags: strings.Join(b.Tags, ","),
			File: b.File, Target: b.Target, Error: oneLine(b.Error),
		}
		if b.Image != "" {
			l.Image = shortID(b.Image)
		}
		lines = append(lines, l)
		result := l.Tags
		if result == "" {
			result = l.Image
		}
		if l.Error != "" {
			result = "ERROR: " + clip(l.Error, 50)
		}
		rows = append(rows, []string{l.ID[:min(buildIDLength, len(l.ID))], age(&b.Began, time.Now()), l.Took, l.Target, result})
	}
	headers := map[string]string{"ID": "BUILD", "Began": "BEGAN", "Took": "TOOK", "Image": "IMAGE", "Tags": "TAGS", "File": "FILE", "Target": "TARGET", "Error": "ERROR"}
	if done, err := writeFormatted(s.out, &c.listing, headers, lines); done {
		return err
	}
	return writeTable(s.out, []string{"BUILD", "BEGAN", "TOOK", "TARGET", "RESULT"}, rows)
}

// choose finds the build that is asked for.
func (c *logsCommand) choose(ctx context.Context, s *session, builds []build.PastBuild) (*build.PastBuild, error) {
	hint := "`ocibuild logs --list` lists the builds there are"
	if c.what == "" {
		if len(builds) == 0 {
			return nil, &storeError{msg: "no build is remembered", hint: "every `ocibuild build` is, until the build cache is pruned"}
		}
		return &builds[0], nil
	}
	for i := range builds {
		if len(c.what) >= 4 && strings.HasPrefix(string(builds[i].ID), c.what) {
			return &builds[i], nil
		}
	}
	img, err := selectImage(ctx, s, c.what, nil)
	if err != nil {
		return nil, &storeError{msg: fmt.Sprintf("%s is neither a build nor an image that is here", c.what), hint: hint, err: err}
	}
	for i := range builds {
		if builds[i].Image == img.ID() {
			return &builds[i], nil
		}
	}
	return c.fromLayers(ctx, s, img.ID())
}

// fromLayers makes up the build of an image that none is remembered for, of the steps
// that its layers came from.
func (c *logsCommand) fromLayers(ctx context.Context, s *session, id digest.Digest) (*build.PastBuild, error) {
	img, err := selectImage(ctx, s, c.what, nil)
	if err != nil {
		return nil, err
	}
	records, err := recordsOf(ctx, s, img)
	if err != nil {
		return nil, err
	}
	b := &build.PastBuild{Image: id}
	for _, step := range img.Steps() {
		r := records.of(step)
		if r == nil {
			continue
		}
		b.Steps = append(b.Steps, build.PastStep{Name: r.Name, Key: r.Key, Cached: true, Took: r.Duration, Number: len(b.Steps) + 1})
	}
	if len(b.Steps) == 0 {
		return nil, &storeError{msg: c.what + " was not built here, or the build cache no longer knows of it", hint: "`ocibuild logs --list` lists the builds there are"}
	}
	return b, nil
}

// writeStep prints the bare output of the one step that is asked for.
func (c *logsCommand) writeStep(s *session, memory *cache.Store, b *build.PastBuild) error {
	selector := build.ParseStepSelector(c.step)
	var found []build.PastStep
	for _, step := range b.Steps {
		if selector.Matches(step, b.Target) {
			found = append(found, step)
		}
	}
	switch {
	case len(found) == 0:
		return &usageError{msg: fmt.Sprintf("--step=%s: the build has no such step", c.step), hint: "its steps are " + stepNames(b.Steps)}
	case len(found) > 1:
		return writeLogs(s.out, memory, found)
	}
	err := build.WriteLog(memory, found[0].Key, s.out)
	if errors.Is(err, build.ErrNoLog) {
		return &storeError{msg: fmt.Sprintf("no output of %s is kept", found[0].Name), hint: "it ran no command, or its log was pruned"}
	}
	return err
}

func stepNames(steps []build.PastStep) string {
	var names []string
	for _, s := range steps {
		names = append(names, clip(oneLine(s.Name), 60))
	}
	return strings.Join(names, "; ")
}

// writeLogs prints the output of several steps, each below its name.
func writeLogs(w io.Writer, memory *cache.Store, steps []build.PastStep) error {
	for _, step := range steps {
		if step.Key == "" && step.Error == "" {
			continue
		}
		out := &lineEnder{w: w}
		var err error
		if _, err = fmt.Fprintln(w, oneLine(step.Name)); err == nil && step.Key != "" {
			err = build.WriteLog(memory, step.Key, out)
		}
		if err != nil && !errors.Is(err, build.ErrNoLog) {
			return err
		}
		if err := out.end(); err != nil {
			return err
		}
		if step.Error != "" {
			if _, err := fmt.Fprintln(w, "ERROR: "+oneLine(step.Error)); err != nil {
				return err
			}
		}
	}
	return nil
}

// lineEnder ends the last line of what is written.
type lineEnder struct {
	w    io.Writer
	open bool
}

// Write passes on.
func (l *lineEnder) Write(p []byte) (int, error) {
	if len(p) > 0 {
		l.open = p[len(p)-1] != '\n'
	}
	return l.w.Write(p)
}

func (l *lineEnder) end() error {
	if !l.open {
		return nil
	}
	_, err := io.WriteString(l.w, "\n")
	return err
}
