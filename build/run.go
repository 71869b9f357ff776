package build

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	"golang.org/x/sync/errgroup"
)

// maxReplans bounds how often the triggers of newly found bases may bring in
// further bases.
const maxReplans = 10

// run is one build under way.
type run struct {
	b       *Builder
	req     Request
	graph   *Graph
	context tree
	named   map[*Context]tree // the contexts with a name, once they are open
	bytes   *layerBytes
	bases   map[int]*image.Image // by step ID
	devices machineDevices
	// background holds what outlives its step: archiving, recording.
	background background

	mu       sync.Mutex // guards what follows
	states   []*State   // by step ID
	closers  []io.Closer
	warnings []parser.Warning
	cached   int
	ran      int
	runsLeft int // RUNs that have neither begun nor been found in the cache
	events   sync.Mutex
	looking  sync.Mutex // held while somebody looks at a step
	tails    map[int]*tail
	told     map[*Layer]bool         // that Request.OnLayer knows of, or will
	usages   map[int]*executor.Usage // by step ID
	entries  map[int]*PastStep       // by step ID
}

// Build builds the request's target, stores the image and gives it its tags.
// It returns when all that the build started has ended. Errors are
// *parser.Error for the plan and *StepError for a step.
func (b *Builder) Build(ctx context.Context, req Request) (*Result, error) {
	lease, err := b.Store.Lease(ctx)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	r := &run{
		b: b, req: req, bytes: newLayerBytes(b), context: noContext{}, named: map[*Context]tree{}, tails: map[int]*tail{},
		told: map[*Layer]bool{}, usages: map[int]*executor.Usage{}, entries: map[int]*PastStep{},
	}
	defer r.bytes.close()
	if err := r.openContext(ctx); err != nil {
		return nil, err
	}
	err = r.plan(ctx)
	if lintErr := r.lint(err == nil); err == nil {
		err = lintErr
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	if err := r.checkStops(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	began := r.now()
	targets, err := r.schedule(ctx)
	if b.Executor != nil {
		b.Executor.Close()
	}
	var made *Result
	if err = errors.Join(err, r.close()); err == nil {
		made, err = r.result(ctx, targets)
	}
	return made, errors.Join(err, r.keepRecord(began, made, err))
}

func (r *run) openContext(ctx context.Context) error {
	if r.req.Fetched != nil {
		return r.openFetched(ctx, r.req.Fetched)
	}
	if r.req.ContextDir == "" {
		return nil
	}
	c, err := r.openDir(r.req.ContextDir, r.req.Ignore)
	if err != nil {
		return err
	}
	c.sent = r.sends
	r.context = c
	return nil
}

// openFetched opens a context that nobody sends: all of it is part of the build.
func (r *run) openFetched(ctx context.Context, f *Fetched) error {
	t, err := r.fetchedTree(ctx, f, r.req.Ignore)
	if err == nil {
		r.context = t
	}
	return err
}

// fetchedTree is what a fetched context holds.
func (r *run) fetchedTree(ctx context.Context, f *Fetched, ignore *parser.Ignore) (tree, error) {
	if f.dir != "" {
		return r.openDir(f.dir, ignore)
	}
	t, err := r.bytes.tree(ctx, []image.Layer{f.layer})
	if err != nil {
		return nil, err
	}
	return withoutIgnored(t, ignore), nil
}

// openDir opens a directory of this machine as a tree, for as long as the build
// lasts.
func (r *run) openDir(dir string, ignore *parser.Ignore) (*contextTree, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	memo, err := r.b.Cache.Files(dir)
	if err != nil {
		return nil, err
	}
	c, err := openContext(dir, ignore, memo)
	if err != nil {
		return nil, err
	}
	r.keep(closerFunc(c.close))
	return c, nil
}

type closerFunc func() error

// Close calls the function.
func (f closerFunc) Close() error { return f() }

// Close drops the spooled archives.
func (a *archives) Close() error { a.close(); return nil }

// keep closes c when the build ends.
func (r *run) keep(c io.Closer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closers = append(r.closers, c)
}

func (r *run) close() error {
	var errs []error
	for _, c := range slices.Backward(r.closers) {
		errs = append(errs, c.Close())
	}
	r.closers = nil
	return errors.Join(errs...)
}

// plan makes the graph and finds the images it begins with. Triggers of a
// base may name further images, so it looks again until nothing new comes.
func (r *run) plan(ctx context.Context) error {
	o := r.req.Plan
	o.Triggers = map[string][]string{}
	for range maxReplans {
		g, err := PlanAll(r.req.Dockerfile, o, r.wanted())
		if err != nil {
			return err
		}
		r.graph = g
		if len(g.EpochSources) > 0 {
			if err := r.findEpochs(ctx, &o); err != nil {
				return err
			}
			continue
		}
		if err := r.findBases(ctx); err != nil {
			return err
		}
		more := false
		for id, img := range r.bases {
			ref := g.Steps[id].base()
			if _, known := o.Triggers[ref]; !known && ref != "" && len(img.Config.Config.OnBuild) > 0 {
				o.Triggers[ref], more = img.Config.Config.OnBuild, true
			}
		}
		if !more {
			return nil
		}
	}
	return errTriggers
}

var errTriggers = errors.New("ONBUILD triggers of base images lead to ever more base images")

// findBases asks for all base images at once.
func (r *run) findBases(ctx context.Context) error {
	r.bases = map[int]*image.Image{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, s := range r.graph.Bases() {
		g.Go(func() error {
			img, err := r.findBase(ctx, s)
			if err != nil {
				return r.stepError(s, hintBase(r.graph, s, err))
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.bases[s.ID] = img
			return nil
		})
	}
	return g.Wait()
}

func (r *run) findBase(ctx context.Context, s *Step) (*image.Image, error) {
	if s.Context.stored() {
		return r.b.Store.Image(ctx, s.Context.Stored, &s.Platform)
	}
	ref, err := image.ParseRef(s.Base)
	if err != nil {
		return nil, err
	}
	return r.b.Bases.Image(ctx, ref, s.Platform, r.req.Pull)
}

func (r *run) now() time.Time { return r.b.now() }

func (b *Builder) now() time.Time {
	if b.Now != nil {
		return b.Now().UTC()
	}
	return time.Now().UTC()
}

func (r *run) temp() string { return r.b.temp() }

// temp is the directory for files that live for a step.
func (b *Builder) temp() string { return filepath.Join(b.Store.Root(), "ingest") }

func unique() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// uncached reports whether the step must run whatever the cache holds.
func (r *run) uncached(s *Step) bool {
	return r.req.NoCache || slices.Contains(r.req.NoCacheStages, s.StageName())
}

// scoped is what the instruction of a step is expanded with after in.
func (r *run) scoped(s *Step, in *State) scoped {
	return scoped{x: parser.Expander{Escape: r.graph.Dockerfile.Escape}, globals: s.globals, given: s.given, state: in}
}

func (r *run) stateOf(s *Step) *State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.states[s.ID]
}

// directories gives the snapshots of a root filesystem. The layers that are
// still in the making have theirs already.
func (r *run) directories(ctx context.Context, s *State) ([]string, error) {
	n := len(s.Layers)
	for n > 0 && s.Layers[n-1].dir != "" {
		n--
	}
	below := make([]image.Layer, n)
	for i, l := range s.Layers[:n] {
		var err error
		if below[i], err = l.wait(ctx); err != nil {
			return nil, err
		}
	}
	names, err := r.bytes.snapshots(ctx, below)
	if err != nil {
		return nil, err
	}
	for _, l := range s.Layers[n:] {
		names = append(names, l.dir)
	}
	return names, nil
}

func defaultJobs() int { return max(8, 2*runtime.GOMAXPROCS(0)) }
