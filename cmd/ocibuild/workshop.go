package main

import (
	"context"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
)

// workshop is what a build works with. It is opened when it is first needed, so
// that a mistake in a Dockerfile makes no store.
type workshop struct {
	c *buildCommand
	s *session

	show    display
	builder *build.Builder
	remotes remotes
	lease   *image.Lease
	stdin   *spooled // the archive that is the context, or nil
	shown   bool     // the display is closed
}

// open opens the store, begins to show progress, and keeps what the build uses
// from being pruned.
func (w *workshop) open(ctx context.Context) (err error) {
	if w.builder != nil {
		return nil
	}
	if w.remotes, err = w.s.remotes(w.c.secrets, w.c.steps.run.SSH["default"]); err != nil {
		return err
	}
	w.show = newDisplay(w.c.progress, w.s.stdio)
	if w.builder, err = w.s.builder(w.show, w.c.insecure, w.c.jobs); err != nil {
		return err
	}
	w.builder.Remotes = w.remotes
	w.lease, err = w.builder.Store.Lease(ctx)
	return err
}

// closeDisplay draws for the last time.
func (w *workshop) closeDisplay() {
	if w.show != nil && !w.shown {
		w.show.close()
		w.shown = true
	}
}

// close lets go of everything. What was fetched has been used by then.
func (w *workshop) close() {
	w.closeDisplay()
	if w.remotes.client != nil {
		_ = w.remotes.client.Close()
	}
	if w.stdin != nil {
		_ = w.stdin.file.Close()
	}
	if w.lease != nil {
		w.lease.Release()
	}
}

// work shows something that is no step while it is done.
func (w *workshop) work(name string, do func(report build.Report) error) error {
	r := w.show.begin(name, "")
	err := do(func(text string, done, total int64) { w.show.status(r, text, done, total) })
	w.show.end(r, err)
	return err
}
