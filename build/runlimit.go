package build

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ocibuild/ocibuild/executor"
)

// TimeoutError is a step that took longer than it may.
type TimeoutError struct{ After time.Duration }

// Error tells how long that is.
func (e *TimeoutError) Error() string { return fmt.Sprintf("timed out after %s", e.After) }

// limited runs a step's command for as long as it may take.
func (o *runOp) limited(ctx context.Context, run func(context.Context) error) error {
	if o.p.shared.Timeout <= 0 {
		return run(ctx)
	}
	late := &TimeoutError{o.p.shared.Timeout}
	ctx, cancel := context.WithTimeoutCause(ctx, o.p.shared.Timeout, late)
	defer cancel()
	err := run(ctx)
	if errors.Is(err, context.DeadlineExceeded) && context.Cause(ctx) == error(late) {
		return late
	}
	return err
}

// use is where it is noted what the step's command takes.
func (o *runOp) use() *executor.Usage {
	u := &executor.Usage{}
	o.r.mu.Lock()
	defer o.r.mu.Unlock()
	o.r.usages[o.step.ID] = u
	return u
}

// secrets are those that the step is shown, by id.
func (o *runOp) secrets() map[string][]byte {
	found := map[string][]byte{}
	for _, m := range o.p.mounts {
		if m.Type != "secret" {
			continue
		}
		if data, ok := o.r.req.Secrets[m.ID]; ok {
			found[m.ID] = data
		}
	}
	return found
}

// checkFiles looks for the step's secrets in what it has changed.
func (o *runOp) checkFiles(ctx context.Context, sn *executor.Snapshot) error {
	secrets := o.secrets()
	if len(secrets) == 0 {
		return nil
	}
	leak, err := newSeeker(secrets).inTree(ctx, sn.Upper())
	if err != nil {
		return fmt.Errorf("look for secrets in what the step changed: %w", err)
	}
	if leak == nil {
		return nil
	}
	return o.leaked(leak)
}

// leaked is what becomes of a leak: an error, or a warning where leaks are allowed.
func (o *runOp) leaked(leak *LeakError) error {
	if o.p.shared.AllowLeak {
		o.leaks = true
		o.r.warn(o.step, leak.Error())
		return nil
	}
	return &Hinted{leak, leakHint}
}

// checkOutput looks for secrets in what the step has printed. Nothing of that is kept
// then: of a long one only parts are masked.
func (o *runOp) checkOutput(log *tail, out *mask) error {
	if out.found == nil {
		return nil
	}
	log.withhold("the output held the secret " + out.found.id + " and is not kept")
	return o.leaked(&LeakError{ID: out.found.id, Where: "the step's output", Form: out.found.form})
}

// keepFailure keeps the log of a step that has failed. Its key may not be known yet.
func (r *run) keepFailure(ctx context.Context, out *output) {
	r.mu.Lock()
	printed := r.tails[out.step.ID] != nil
	r.mu.Unlock()
	if !printed {
		return
	}
	if out.key == "" {
		var err error
		if out.key, out.trail, err = out.op.key(context.WithoutCancel(ctx)); err != nil {
			return // it failed because of what its key is made of
		}
	}
	r.keepLog(out.step, out.key)
}
