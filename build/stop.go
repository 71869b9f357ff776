package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
)

// Stops says where a build stops for somebody to look at it, in a shell among the files
// that a step has or leaves. What is changed there is dropped.
type Stops struct {
	Before, After []StepSelector
	// Failed stops at each step whose command fails: there the shell is in the very
	// snapshot that it failed in, with the step's mounts.
	Failed bool
	// Look is called, once at a time, at each stop; its error ends the build.
	Look func(ctx context.Context, at Stop) error
}

// StopKind says why a build has stopped.
type StopKind string

// The kinds of stops.
const (
	StopBefore StopKind = "before"
	StopAfter  StopKind = "after"
	StopFailed StopKind = "failed"
)

// Stop is a place where a build has stopped.
type Stop struct {
	Kind StopKind
	Step *Step
	Err  error // of a step that failed
	// Shell runs an interactive shell there, with more variables, and gives its end.
	Shell func(ctx context.Context, env []string, io executor.IO) error
}

// Environment gives variables, of which a later one replaces an earlier, and a PATH.
func Environment(lists ...[]string) []string {
	s := scopeOf(slices.Concat(lists...))
	if _, ok := s.lookup("PATH"); !ok {
		s = s.with("PATH", defaultPath)
	}
	return s
}

// NoStepError is a selector that means no step where the build could stop.
type NoStepError struct{ msg string }

// Error names the selector.
func (e *NoStepError) Error() string { return e.msg }

// checkStops refuses a selector that no step of the build is meant by.
func (r *run) checkStops() error {
	for _, list := range []struct {
		flag      string
		selectors []StepSelector
		before    bool
	}{{"--break-before", r.req.Stops.Before, true}, {"--break-after", r.req.Stops.After, false}} {
		for _, s := range list.selectors {
			found := r.graph.Find(s)
			if len(found) == 0 {
				return &Hinted{&NoStepError{fmt.Sprintf("%s=%s: the build has no such step", list.flag, s)}, "steps are " + r.stepList()}
			}
			if list.before && !slices.ContainsFunc(found, func(s *Step) bool { return s.Parent != nil }) {
				return &Hinted{&NoStepError{fmt.Sprintf("%s=%s: nothing is there before %s", list.flag, s, found[0].Name())}, "--break-after stops when its files are there"}
			}
		}
	}
	return nil
}

func (r *run) stepList() string {
	var names []string
	for _, s := range r.graph.Steps {
		if s.Working() && s.Number > 0 {
			names = append(names, s.Name())
		}
	}
	return strings.Join(names, "; ")
}

// stopped reports whether one of the selectors chooses a step.
func (r *run) stopped(list []StepSelector, s *Step) bool {
	return s.Working() && slices.ContainsFunc(list, func(sel StepSelector) bool {
		return sel.Matches(s.describe(), r.graph.Target.StageName())
	})
}

// look stops the build. Steps that need no shell go on meanwhile.
func (r *run) look(ctx context.Context, at Stop) error {
	r.looking.Lock()
	defer r.looking.Unlock()
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return r.req.Stops.Look(ctx, at)
}

// stopBefore stops at what a step begins with; a RUN's mounts are there.
func (r *run) stopBefore(ctx context.Context, s *Step) error {
	if s.Parent == nil || !r.stopped(r.req.Stops.Before, s) {
		return nil
	}
	in := r.stateOf(s.Parent)
	o := r.visit(s, in)
	if _, ok := s.Instr.(*parser.Run); ok {
		var err error
		if o, err = r.newRun(s, in); err != nil {
			return err
		}
	}
	return r.stopIn(ctx, Stop{Kind: StopBefore, Step: s}, in, o)
}

// stopAfter stops at what a step leaves.
func (r *run) stopAfter(ctx context.Context, s *Step, st *State) error {
	if !r.stopped(r.req.Stops.After, s) {
		return nil
	}
	return r.stopIn(ctx, Stop{Kind: StopAfter, Step: s}, st, r.visit(s, st))
}

// visit is a RUN that has nothing of its own.
func (r *run) visit(s *Step, st *State) *runOp {
	o := &runOp{r: r, step: s, state: st, p: settleRun(st, &parser.Run{Network: "default"}, &r.req), proxies: proxyEnv(r.req.Plan.Args)}
	o.p.platform = image.FormatPlatform(s.Platform)
	return o
}

// stopIn stops in a copy of the files of a State.
func (r *run) stopIn(ctx context.Context, at Stop, st *State, o *runOp) error {
	parents, err := r.directories(ctx, st)
	if err != nil {
		return err
	}
	at.Shell = func(ctx context.Context, env []string, io executor.IO) error {
		sn, err := r.b.Snapshots.Prepare(ctx, parents)
		if err != nil {
			return err
		}
		defer sn.Discard() //nolint:errcheck // what stays behind, the next prune removes
		return o.shell(ctx, sn, env, io)
	}
	return r.look(ctx, at)
}

// shell runs a shell in a snapshot as the step's command would be run.
func (o *runOp) shell(ctx context.Context, sn *executor.Snapshot, env []string, io executor.IO) error {
	if err := o.possible(ctx); err != nil {
		return err
	}
	return o.onScene(ctx, func(p executor.Process) error {
		p.Args = []string{o.state.shellProgram()}
		p.Env = Environment(p.Env, env)
		return o.r.b.Executor.Run(ctx, sn, p, io)
	})
}

// shellProgram is the shell that commands go through.
func (s *State) shellProgram() string {
	if sh := s.Config.Config.Shell; len(sh) > 0 {
		return sh[0]
	}
	return "/bin/sh"
}

// lookAtFailure lets somebody look at a step that has failed, and gives its error.
func (o *runOp) lookAtFailure(ctx context.Context, sn *executor.Snapshot, err error) error {
	if !o.r.req.Stops.Failed || !commandFailed(err) || ctx.Err() != nil {
		return err
	}
	lookErr := o.r.look(ctx, Stop{
		Kind: StopFailed, Step: o.step, Err: err,
		Shell: func(ctx context.Context, env []string, io executor.IO) error { return o.shell(ctx, sn, env, io) },
	})
	if lookErr != nil {
		return errors.Join(err, lookErr)
	}
	return err
}

// commandFailed reports whether an error is that of a command, so that there is
// something to look at.
func commandFailed(err error) bool {
	var exit *executor.ExitError
	var late *TimeoutError
	return errors.As(err, &exit) || errors.As(err, &late)
}

// FailedStep is the last step that failed, as a shell can be opened in it later.
type FailedStep struct {
	Name   string    `json:"name"`
	Error  string    `json:"error"`
	At     time.Time `json:"at"`
	Layers []string  `json:"layers"` // snapshots, bottom first; the last is the step's own
	Shell  string    `json:"shell"`
	Env    []string  `json:"env"`
	Cwd    string    `json:"cwd"`
	User   string    `json:"user"`
	// Mounts are those that the step had and a later shell has not.
	Mounts []string `json:"mounts,omitempty"`
}

// failedKind is the kind of the fact that the failed step is, and failedKey its key.
const failedKind = "failed"

func failedKey() cache.Key { return cache.Key(digest.FromString(failedKind).Encoded()) }

// LastFailed gives the last step that failed; ok is false if none is remembered.
func LastFailed(c *cache.Store) (f FailedStep, ok bool) {
	text, ok := c.GetFact(failedKind, failedKey())
	return f, ok && json.Unmarshal(text, &f) == nil
}

// keepFailed keeps the snapshot of a step whose command failed, in place of that of
// the last one. One that a secret is left in is not kept.
func (o *runOp) keepFailed(ctx context.Context, sn *executor.Snapshot, parents []string, err error) {
	if !commandFailed(err) || ctx.Err() != nil {
		return
	}
	if leak, lerr := newSeeker(o.secrets()).inTree(ctx, sn.Upper()); leak != nil || lerr != nil {
		return
	}
	c, snapshots := o.r.b.Cache, o.r.b.Snapshots
	name := "failed-" + unique()
	if snapshots.Commit(sn, name) != nil {
		return
	}
	f := FailedStep{
		Name: o.step.Name(), Error: err.Error(), At: o.r.now(), Layers: append(slices.Clone(parents), name),
		Shell: o.state.shellProgram(), Env: o.p.env, Cwd: o.p.cwd, User: o.p.user,
	}
	for _, m := range o.p.mounts {
		f.Mounts = append(f.Mounts, m.Raw)
	}
	last, had := LastFailed(c)
	text, jerr := json.Marshal(f)
	if jerr == nil {
		jerr = c.PutFact(failedKind, failedKey(), text)
	}
	if jerr != nil {
		_ = snapshots.Remove(name)
	} else if had && len(last.Layers) > 0 && strings.HasPrefix(last.Layers[len(last.Layers)-1], "failed-") {
		_ = snapshots.Remove(last.Layers[len(last.Layers)-1]) // a shell in it keeps what it has mounted
	}
}
