package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// built is what a build gave, for the last lines and the metadata file.
type built struct {
	result *build.Result
	tags   []image.Ref
	took   time.Duration
	// pushed is what the registry has, by name; zero without --push.
	pushed []ocispec.Descriptor
}

// build builds, writes the outputs, pushes and tells the result.
func (c *buildCommand) build(ctx context.Context, w *workshop, src *source) error {
	s := w.s
	if err := c.forgetFiles(); err != nil {
		return err
	}
	begin := time.Now()
	if c.progress != "quiet" && c.progress != "json" {
		s.tellLevel()
	}
	if err := w.open(ctx); err != nil {
		w.closeDisplay()
		return c.fail(s, src, w.show, err)
	}
	b, show := w.builder, w.show
	if err := c.steps.runtime.use(b.Executor); err != nil {
		w.closeDisplay()
		return err
	}
	if c.progress != "quiet" && c.progress != "json" {
		c.steps.limit.tell(s.err, b.Executor)
	}
	var warned notes
	b.Events = warned.tee(show.event)
	s.keeper.silent = c.progress == "quiet"
	if d, ok := show.(*jsonDisplay); ok {
		s.keeper.say = d.notice
	}
	var done *built
	err := fetchContexts(ctx, w, c.contexts)
	if err == nil {
		done, err = c.buildAndSend(ctx, s, b, src, show)
	}
	w.closeDisplay()
	if c.progress != "quiet" && c.progress != "json" {
		warned.write(s.err, src)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return c.fail(s, src, show, err)
	}
	done.took = time.Since(begin)
	return c.tell(s, done, show)
}

// buildAndSend builds, and makes what is to be made of the result.
func (c *buildCommand) buildAndSend(ctx context.Context, s *session, b *build.Builder, src *source, show display) (*built, error) {
	if err := takeLayouts(ctx, b.Store, c.contexts); err != nil {
		return nil, err
	}
	s.bring.never = c.pullText == string(build.PullNever)
	dispatch, err := c.dispatch(ctx, s, b, show)
	if err != nil {
		return nil, err
	}
	defer dispatch.close()
	result, err := b.Build(dispatch.ctx, build.Request{
		Dockerfile: src.dockerfile, ContextDir: src.dir, Fetched: src.fetched, Ignore: src.ignore, Plan: c.plan(), Run: c.steps.run,
		Labels: c.labels, Results: c.wants(), Pull: build.PullPolicy(c.pullText), OnLayer: dispatch.onLayer, LeaveLayers: c.push,
		ReplayLogs: c.replay, Stops: c.stops(s, show), NoCache: c.noCache, NoCacheStages: c.noCacheStages,
		Secrets: c.secrets,
	})
	if err = dispatch.built(err); err != nil {
		return nil, err
	}
	s.keep(result.Image.Digest)
	done := &built{result: result, tags: result.Tags}
	for _, o := range c.outputs {
		if err := o.write(ctx, s, b, done, show); err != nil {
			return nil, err
		}
	}
	done.pushed, err = dispatch.push(ctx, result)
	return done, err
}

// builder puts a builder together.
func (s *session) builder(show display, insecure []string, jobs int) (*build.Builder, error) {
	st, err := s.store()
	if err != nil {
		return nil, err
	}
	records, err := s.cache()
	if err != nil {
		return nil, err
	}
	snapshots, err := s.snapshots()
	if err != nil {
		return nil, err
	}
	if s.detours.serial {
		jobs = 1
	}
	client := s.client(insecure, show)
	s.bring.use(client, show)
	b := &build.Builder{
		Store: st, Cache: records, Snapshots: snapshots, NoRun: s.noRun,
		Bases: &bases{store: st, client: client, show: show, later: !s.detours.pullFirst},
		Level: s.level, Jobs: jobs, Events: show.event, Detours: s.detours.build,
	}
	if s.noRun == "" {
		b.Executor = executor.New(snapshots)
	}
	return b, nil
}

// forgetFiles removes what an earlier build wrote, so that nobody takes it for
// the result of one that fails.
func (c *buildCommand) forgetFiles() error {
	for _, f := range []string{c.iidFile, c.metadataFile} {
		if f == "" {
			continue
		}
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &usageError{msg: fmt.Sprintf("%s cannot be written: %s", f, plainCause(err))}
		}
	}
	return nil
}

// tell writes the files that name the result, and says what it is.
func (c *buildCommand) tell(s *session, done *built, show display) error {
	if c.iidFile != "" {
		if err := os.WriteFile(c.iidFile, []byte(done.result.ID), 0o644); err != nil {
			return err
		}
	}
	if c.metadataFile != "" {
		if err := done.writeMetadata(c.metadataFile); err != nil {
			return err
		}
	}
	switch d := show.(type) {
	case noDisplay:
		_, err := fmt.Fprintln(s.out, done.result.ID)
		return err
	case *jsonDisplay:
		d.write(done.event())
		return nil
	}
	for _, other := range done.result.Others {
		fmt.Fprintln(s.err, madeLine(other))
	}
	fmt.Fprintln(s.err, done.line())
	for i, ref := range done.tags {
		if i < len(done.pushed) {
			fmt.Fprintf(s.err, "pushed %s@%s\n", repositoryName(ref), done.pushed[i].Digest)
		}
	}
	return nil
}

// line sums the build up.
func (d *built) line() string {
	var b strings.Builder
	b.WriteString(madeLine(d.result.Made))
	fmt.Fprintf(&b, " in %s (%d cached, %d run)", seconds(d.took), d.result.Cached, d.result.Ran)
	return b.String()
}

// madeLine names one result: "built sha256:… as app:v1".
func madeLine(m build.Made) string {
	text, separator := "built "+m.ID.String(), " as "
	for _, ref := range m.Tags {
		text, separator = text+separator+ref.Familiar(), ", "
	}
	return text
}

func (d *built) names() []string {
	var out []string
	for _, ref := range d.tags {
		out = append(out, ref.String())
	}
	return out
}

// digest is that of the image as others see it: as pushed if it was.
func (d *built) manifest() ocispec.Descriptor {
	if len(d.pushed) > 0 {
		return d.pushed[0]
	}
	return d.result.Image
}

func (d *built) event() jsonEvent {
	took := d.took.Seconds()
	return jsonEvent{
		Event: "built", ID: d.result.ID.String(), Digest: d.manifest().Digest.String(), Names: d.names(),
		Seconds: &took, Steps: d.result.Steps, CachedN: d.result.Cached, RanN: d.result.Ran,
	}
}

// writeMetadata writes what buildx writes into its metadata file.
func (d *built) writeMetadata(path string) error {
	meta := map[string]any{
		"containerimage.config.digest": d.result.ID,
		"containerimage.digest":        d.manifest().Digest,
		"containerimage.descriptor":    d.manifest(),
	}
	if len(d.tags) > 0 {
		meta["image.name"] = strings.Join(d.names(), ",")
	}
	var b strings.Builder
	if err := writeJSON(&b, meta); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
