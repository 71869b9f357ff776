package build

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ocibuild/ocibuild/parser"
	"golang.org/x/sync/errgroup"
)

// schedule evaluates every step of the graph as soon as its inputs are there,
// several at a time, and gives the targets' States. The first failure stops
// what has not begun and cancels what runs.
func (r *run) schedule(ctx context.Context) ([]*State, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.states = make([]*State, len(r.graph.Steps))
	r.runsLeft = r.graph.runs()
	r.event(Event{Kind: Planned, Total: int64(len(r.graph.Steps))})
	// A step that has finished is kept whatever becomes of the others: what is
	// in the background goes on after a failure and after an interrupt.
	group, bctx := errgroup.WithContext(context.WithoutCancel(ctx))
	r.background = background{group, bctx, r.b.Detours.Waiting}
	stop := context.AfterFunc(bctx, func() { cancel(context.Cause(bctx)) })
	steps, sctx := errgroup.WithContext(ctx)
	steps.Go(func() error { return r.ahead(sctx) })
	q := newQueue(r.graph)
	for range min(r.jobs(), len(r.graph.Steps)) {
		steps.Go(func() error { return r.work(sctx, q) })
	}
	err := steps.Wait()
	stop()
	if err = firstCause(err, group.Wait()); err != nil {
		return nil, err
	}
	targets := make([]*State, len(r.graph.Targets))
	for i, s := range r.graph.Targets {
		targets[i] = r.states[s.ID]
	}
	return targets, nil
}

// background is the work that outlives the steps it belongs to. It ends with
// the build.
type background struct {
	group *errgroup.Group
	ctx   context.Context // of the group: it lives as long as the work in it
	// waiting lets the step go on only when the work is done.
	waiting bool
}

func (b background) start(work func(context.Context) error) {
	done := make(chan struct{})
	b.group.Go(func() error {
		defer close(done)
		return work(b.ctx)
	})
	if b.waiting {
		<-done
	}
}

// firstCause prefers an error that is not the cancellation another one caused.
func firstCause(errs ...error) error {
	var first error
	for _, err := range errs {
		if err == nil {
			continue
		}
		if first == nil || errors.Is(first, context.Canceled) && !errors.Is(err, context.Canceled) {
			first = err
		}
	}
	return first
}

func (r *run) jobs() int {
	if r.b.Jobs > 0 {
		return r.b.Jobs
	}
	return defaultJobs()
}

// work takes ready steps off the queue until all are done or ctx is.
func (r *run) work(ctx context.Context, q *queue) error {
	for {
		select {
		case s, ok := <-q.ready:
			if !ok {
				return nil
			}
			if err := r.evaluate(ctx, s); err != nil {
				return err
			}
			q.finish(s)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// evaluate gives a step its State and tells of it.
func (r *run) evaluate(ctx context.Context, s *Step) error {
	began := r.now()
	r.event(Event{Kind: Started, Step: s})
	var st *State
	cached := false
	err := r.stopBefore(ctx, s)
	if err == nil {
		st, cached, err = r.step(ctx, s)
	}
	if err == nil {
		err = r.stopAfter(ctx, s, st)
	}
	if err != nil {
		err = r.stepError(s, err)
	}
	took := r.now().Sub(began)
	r.enter(s, func(e *PastStep) { e.Cached, e.Took, e.Error = cached, took, errorText(err) })
	r.event(Event{Kind: Finished, Step: s, Cached: cached, Duration: took, Used: r.used(s), Err: err})
	if err != nil {
		return err
	}
	r.tellLayers(s, st)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states[s.ID] = st
	return nil
}

// tellLayers tells of the layers that a step has added to a result.
func (r *run) tellLayers(s *Step, st *State) {
	if r.req.OnLayer == nil || !r.graph.inResult(s) {
		return
	}
	for _, l := range st.Layers {
		r.mu.Lock()
		again := r.told[l]
		r.told[l] = true
		r.mu.Unlock()
		if again {
			continue
		}
		r.background.start(func(ctx context.Context) error {
			if made, err := l.wait(ctx); err == nil {
				r.req.OnLayer(made)
			}
			return nil // whoever made it tells of a failure
		})
	}
}

// step computes the State after a step.
func (r *run) step(ctx context.Context, s *Step) (st *State, cached bool, err error) {
	if s.Base != "" || s.Context.stored() {
		st := baseState(r.bases[s.ID])
		for _, l := range st.Layers {
			l.made = "pulled from " + s.Base
		}
		return st, true, nil
	}
	if s.Context != nil {
		st, err := r.contextState(ctx, s)
		return st, true, err
	}
	if _, ok := s.Instr.(*parser.From); ok || s.Instr == nil {
		if s.Parent == nil {
			return scratchState(s.Platform), true, nil
		}
		return r.stateOf(s.Parent).begin(), true, nil
	}
	in := r.stateOf(s.Parent)
	switch instr := s.Instr.(type) {
	case *parser.Run:
		o, err := r.newRun(s, in)
		if err != nil {
			return nil, false, err
		}
		return r.layerStep(ctx, s, in, o)
	case *parser.Copy, *parser.Add:
		o, err := r.newCopy(s, in)
		if err != nil {
			return nil, false, err
		}
		return r.layerStep(ctx, s, in, o)
	case *parser.Workdir:
		return r.workdirStep(ctx, s, in)
	default:
		st, err := applyConfig(r.scoped(s, in), instr)
		return st, true, err
	}
}

func (r *run) layerStep(ctx context.Context, s *Step, in *State, o op) (*State, bool, error) {
	out, err := r.perform(ctx, s, o)
	if err != nil {
		return nil, false, err
	}
	r.count(o, out.cached)
	if out.cached {
		r.enter(s, func(e *PastStep) { e.Key = out.key })
		if r.req.ReplayLogs {
			r.replay(s, out.key)
		}
	}
	out.layer.made = r.vertexName(s)
	return in.addLayer(out.layer, o.history()), out.cached, nil
}

// vertexName is what BuildKit's progress calls the step: the only stage of a file
// has no name.
func (r *run) vertexName(s *Step) string {
	if len(r.graph.Dockerfile.Stages) > 1 {
		return s.Name()
	}
	return strings.Replace(s.Name(), "["+s.StageName()+" ", "[", 1)
}

func (r *run) count(o op, cached bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !cached {
		r.ran++
		return
	}
	r.cached++
	if _, ok := o.(*runOp); ok {
		r.runsLeft--
	}
}

// workdirStep sets the working directory, and makes it: as with BuildKit that
// is a layer, even an empty one, unless it is the root.
func (r *run) workdirStep(ctx context.Context, s *Step, in *State) (*State, bool, error) {
	o, err := r.newWorkdir(s, in)
	if err != nil {
		return nil, false, err
	}
	var st *State
	cached := true
	if o.dir == "/" {
		st = in.addHistory(o.history())
	} else if st, cached, err = r.layerStep(ctx, s, in, o); err != nil {
		return nil, false, err
	}
	st.Config.Config.WorkingDir = o.dir
	return st, cached, nil
}

// stepError says at which step err happened, and adds the end of its output.
// A cancelled step has not failed.
func (r *run) stepError(s *Step, err error) error {
	var already *StepError
	if errors.As(err, &already) || errors.Is(err, context.Canceled) {
		return err
	}
	e := &StepError{Step: s, File: r.graph.Dockerfile.File, Range: s.Range(), Err: err}
	if s.Trigger {
		e.Err = fmt.Errorf("ONBUILD trigger %s: %w", s.instructionName(), err)
	}
	e.Tail = r.tail(s)
	return e
}

// queue hands out steps whose inputs are finished.
type queue struct {
	ready   chan *Step
	users   map[*Step][]*Step
	pending chan map[*Step]int // one token: the counts of inputs not yet finished
	left    int
}

func newQueue(g *Graph) *queue {
	q := &queue{ready: make(chan *Step, len(g.Steps)), users: map[*Step][]*Step{}, pending: make(chan map[*Step]int, 1), left: len(g.Steps)}
	counts := map[*Step]int{}
	for _, s := range g.Steps {
		for _, in := range s.inputs() {
			q.users[in] = append(q.users[in], s)
			counts[s]++
		}
		if counts[s] == 0 {
			q.ready <- s
		}
	}
	q.pending <- counts
	return q
}

// finish makes the users of s ready that waited for it alone; after the last
// step the queue closes.
func (q *queue) finish(s *Step) {
	counts := <-q.pending
	for _, u := range q.users[s] {
		if counts[u]--; counts[u] == 0 {
			q.ready <- u
		}
	}
	if q.left--; q.left == 0 {
		close(q.ready)
	}
	q.pending <- counts
}
