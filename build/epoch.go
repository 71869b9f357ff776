package build

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
)

// epochArg is the argument that sets the times that a build itself writes: a
// number of seconds, the word context, or the name of a context or of a stage.
const epochArg = "SOURCE_DATE_EPOCH"

// EpochSource is what a SOURCE_DATE_EPOCH takes its time from that is no number.
type EpochSource struct {
	// main says that it is the build's own context.
	main bool
	// context is a named context.
	context *Context
	// remote is what the ADD of a stage fetches.
	remote   origin
	checksum string
}

// name identifies the source in PlanOptions.Epochs.
func (e *EpochSource) name() string {
	switch {
	case e.main:
		return "context"
	case e.context != nil:
		return "context " + e.context.Name
	}
	return "add " + e.remote.text + " " + e.checksum
}

// setEpoch finds the time of what the build writes, and puts it in place of what
// stands for it among the arguments.
func (p *planner) setEpoch() error {
	p.given = p.o.Args
	value, given := p.given[epochArg]
	if !given {
		value, _ = p.globals.lookup(epochArg)
	}
	if value == "" && !given {
		return nil
	}
	var err error
	if p.epoch, err = p.epochOf(value); err != nil {
		return err
	}
	p.globals = p.globals.resolved(epochArg, p.epoch)
	if given {
		p.given = maps.Clone(p.given)
		delete(p.given, epochArg)
		if p.epoch != nil {
			p.given[epochArg] = unixText(p.epoch)
		}
	}
	return nil
}

func unixText(t *time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

// resolved gives a scope in which a variable that is there has a time, or is gone.
func (s scope) resolved(name string, t *time.Time) scope {
	if _, ok := s.lookup(name); !ok {
		return s
	}
	if t == nil {
		return s.without(name)
	}
	return s.with(name, unixText(t))
}

// epochOf gives the time that a SOURCE_DATE_EPOCH stands for. One whose source
// nobody has looked at yet is none, and the graph asks for it.
func (p *planner) epochOf(value string) (*time.Time, error) {
	if value == "" {
		return nil, nil
	}
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		t := time.Unix(n, 0).UTC()
		return &t, nil
	}
	src, err := p.epochSource(value)
	if err != nil {
		return nil, err
	}
	t, known := p.o.Epochs[src.name()]
	if !known {
		p.graph.EpochSources = append(p.graph.EpochSources, src)
	}
	return t, nil
}

func (p *planner) epochSource(value string) (*EpochSource, error) {
	at := p.epochPlace()
	if value == "context" {
		return &EpochSource{main: true}, nil
	}
	c, err := p.context(value, p.o.Platform, at)
	if err != nil {
		return nil, err
	}
	if c != nil {
		return &EpochSource{context: c}, nil
	}
	for _, st := range p.df.Stages {
		if st.Name != "" && strings.EqualFold(st.Name, value) {
			return p.epochStage(st)
		}
	}
	hint := "it is a number of seconds since 1970, such as `git log -1 --format=%ct` prints, or the word context, or the name of a context or of a stage that ADDs one URL"
	if near := p.stageHint(value); near != "" {
		hint = near
	}
	return nil, p.fail(at, hint, "invalid SOURCE_DATE_EPOCH: %s", value)
}

// epochPlace is the ARG that sets SOURCE_DATE_EPOCH, if one does.
func (p *planner) epochPlace() parser.Range {
	if _, given := p.o.Args[epochArg]; given {
		return parser.Range{}
	}
	for _, arg := range slices.Backward(p.df.Args) {
		for _, def := range arg.Defs {
			if def.Name == epochArg {
				return arg.Range()
			}
		}
	}
	return parser.Range{}
}

// epochStage is the source of a stage that fetches one thing and does nothing else.
func (p *planner) epochStage(st *parser.Stage) (*EpochSource, error) {
	x := parser.Expander{Escape: p.df.Escape}
	env := p.globals.without(epochArg)
	base, err := x.Word(st.From.Image, env.lookup)
	if err != nil {
		return nil, p.fail(st.From.Range(), "", "FROM %s: %v", st.From.Image, err)
	}
	if base != scratchName {
		return nil, p.fail(st.From.Range(), "", "SOURCE_DATE_EPOCH stage must use FROM scratch")
	}
	var src *EpochSource
	for _, in := range st.Body {
		switch in := in.(type) {
		case *parser.Arg:
			if env, err = p.epochArgs(x, env, in); err != nil {
				return nil, p.fail(in.Range(), "", "%v", err)
			}
		case *parser.Add:
			if src != nil {
				return nil, p.fail(in.Range(), "", "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD")
			}
			if src, err = epochAdd(x, env, in); err != nil {
				return nil, p.fail(in.Range(), "", "%v", err)
			}
		default:
			return nil, p.fail(in.Range(), "leave nothing but ARG and one ADD in the stage",
				"SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported %s instruction", in.Keyword())
		}
	}
	if src == nil {
		return nil, p.fail(st.From.Range(), "", "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD")
	}
	return src, nil
}

func (p *planner) epochArgs(x parser.Expander, env scope, in *parser.Arg) (scope, error) {
	for _, def := range in.Defs {
		if v, ok := p.o.Args[def.Name]; ok {
			env = env.with(def.Name, v)
		} else if def.Default != nil {
			v, err := x.Word(*def.Default, env.lookup)
			if err != nil {
				return nil, err
			}
			env = env.with(def.Name, v)
		}
	}
	return env, nil
}

func epochAdd(x parser.Expander, env scope, in *parser.Add) (*EpochSource, error) {
	if len(in.Heredocs) > 0 || len(in.Sources) != 1 {
		return nil, errors.New("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source")
	}
	text, err := x.Word(in.Sources[0], env.lookup)
	if err != nil {
		return nil, err
	}
	e := &EpochSource{}
	if e.remote, err = originOf(text); err != nil {
		return nil, err
	}
	if !e.remote.remote() {
		return nil, errors.New("SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD")
	}
	if e.checksum, err = x.Word(in.Checksum, env.lookup); err != nil {
		return nil, err
	}
	if e.remote.url && e.checksum != "" {
		return e, digest.Digest(e.checksum).Validate()
	}
	if e.remote.git != nil && e.checksum != "" {
		git := *e.remote.git
		git.Checksum = e.checksum
		e.remote.git = &git
	}
	return e, nil
}

// findEpochs looks at the sources that the graph asks for.
func (r *run) findEpochs(ctx context.Context, o *PlanOptions) error {
	if o.Epochs == nil {
		o.Epochs = map[string]*time.Time{}
	}
	for _, src := range r.graph.EpochSources {
		t, err := r.epochTime(ctx, src)
		if err != nil {
			return fmt.Errorf("%s: %w", epochArg, err)
		}
		o.Epochs[src.name()] = t
	}
	return nil
}

// epochTime is how old a source is. Directories and images do not say.
func (r *run) epochTime(ctx context.Context, src *EpochSource) (*time.Time, error) {
	fetched := r.req.Fetched
	switch {
	case src.main:
	case src.context != nil:
		fetched = src.context.Fetched
	default:
		return r.remoteTime(ctx, src)
	}
	if fetched == nil {
		return nil, nil
	}
	return fetched.made(ctx)
}

func (r *run) remoteTime(ctx context.Context, src *EpochSource) (*time.Time, error) {
	if r.b.Remotes == nil {
		return nil, errors.New("nothing can be fetched here")
	}
	report := func(string, int64, int64) {}
	if src.remote.git != nil {
		tree, err := r.b.Remotes.Git(ctx, src.remote.git)
		if err != nil {
			return nil, err
		}
		return treeTime(ctx, tree)
	}
	f, err := r.b.Remotes.File(ctx, src.remote.text, digest.Digest(src.checksum), report)
	if err != nil {
		return nil, err
	}
	return r.b.fileTime(ctx, f)
}

func treeTime(ctx context.Context, tree RemoteTree) (*time.Time, error) {
	t, err := tree.Time(ctx)
	if err != nil {
		return nil, err
	}
	return &t, nil
}

// fileTime is what the server says, or else the time of the latest regular file of
// an archive.
func (b *Builder) fileTime(ctx context.Context, f *RemoteFile) (*time.Time, error) {
	if !f.ModTime.IsZero() {
		t := f.ModTime.UTC()
		return &t, nil
	}
	arch := &archives{dir: b.temp()}
	defer arch.close()
	s, err := arch.open(ctx, webFile{f}, &item{at: fetchedName, entry: fileEntry(fetchedName, f), digest: f.Digest})
	if err != nil || s == nil {
		return nil, err
	}
	var last *time.Time
	for tr := tar.NewReader(s.until(io.NewSectionReader(s.f, 0, math.MaxInt64))); ; {
		h, err := tr.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return last, nil
			}
			return nil, nil //nolint:nilerr // no archive after all
		}
		if t := h.ModTime.UTC(); h.FileInfo().Mode().IsRegular() && (last == nil || t.After(*last)) {
			last = &t
		}
	}
}
