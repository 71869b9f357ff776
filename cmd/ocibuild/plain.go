package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/registry"
)

// plainDisplay prints a line for everything that happens, each with the number
// of its step, so that steps which run beside each other can be told apart.
type plainDisplay struct {
	mu sync.Mutex
	w  io.Writer
	// shown is what w was before the screen was to be kept free.
	shown io.Writer
	now   func() time.Time
	rows  rows
	last  *row
}

// transferInterval is how often a transfer that goes on is told of.
const transferInterval = 5 * time.Second

func newPlainDisplay(w io.Writer, now func() time.Time) *plainDisplay {
	return &plainDisplay{w: w, now: now, rows: newRows()}
}

func (d *plainDisplay) event(e build.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Step == nil || !e.Step.Working() || e.Kind == build.Warned {
		return
	}
	r := d.rows.steps[e.Step]
	if r == nil {
		r = d.rows.step(e.Step, e.Time)
		d.line(r, r.name)
	}
	switch e.Kind {
	case build.Log:
		d.log(r, e)
	case build.Status:
		d.tell(r, e.Text)
	case build.Finished:
		r.flush(func(line string) { d.logLine(r, e.Time, line) })
		d.rows.remove(r)
		d.line(r, outcome(e.Cached, e.Duration, e.Err))
	}
}

func (d *plainDisplay) log(r *row, e build.Event) {
	r.log(e.Data, func(line string) { d.logLine(r, e.Time, line) })
}

func (d *plainDisplay) logLine(r *row, at time.Time, line string) {
	d.line(r, fmt.Sprintf("%.3f %s", at.Sub(r.start).Seconds(), line))
}

// tell prints what a row is doing, once.
func (d *plainDisplay) tell(r *row, text string) {
	if text == r.status {
		return
	}
	r.status = text
	d.line(r, sanitizeText(text))
}

func (d *plainDisplay) status(r *row, text string, _, _ int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tell(r, text)
}

// line prints one line of a row. A blank line stands where the row changes.
func (d *plainDisplay) line(r *row, text string) {
	if d.last != nil && d.last != r {
		fmt.Fprintln(d.w)
	}
	d.last = r
	fmt.Fprintf(d.w, "#%d %s\n", r.number, text)
}

func (d *plainDisplay) begin(name, repo string) *row {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.rows.add(name, repo, d.now())
	d.line(r, r.name)
	return r
}

func (d *plainDisplay) end(r *row, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows.remove(r)
	d.line(r, outcome(false, d.now().Sub(r.start), err))
}

func (d *plainDisplay) transfer(p registry.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if text, ok := hostNote(p); ok {
		if r := d.rows.of(p); r != nil {
			d.tell(r, text)
		}
		return
	}
	now := d.now()
	r, t := d.rows.transfer(p, now)
	if r == nil {
		return
	}
	if t.told.IsZero() {
		t.told = now // most are over before there is something to tell
	}
	if !t.done && now.Sub(t.told) < transferInterval {
		return
	}
	t.told = now
	d.line(r, transferText(t))
	if !t.done && r.moving() > 1 && now.Sub(r.told) >= transferInterval {
		r.told = now
		d.line(r, "in all "+r.all.text())
	}
}

func (d *plainDisplay) close() {}

func (d *plainDisplay) hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shown, d.w = d.w, &bytes.Buffer{}
}

func (d *plainDisplay) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if waiting, ok := d.w.(*bytes.Buffer); ok && d.shown != nil {
		_, _ = waiting.WriteTo(d.shown)
		d.w, d.shown = d.shown, nil
	}
}

// transferText words a transfer: "sha256:0123456789ab pulling 1.2MB / 3.4MB 1MB/s 2s left".
func transferText(t *transfer) string {
	id := shortDigest(t.digest)
	switch {
	case t.done && t.note != "" && t.note != "pulling" && t.note != "pushing":
		return id + " " + t.note
	case t.done:
		return fmt.Sprintf("%s %s %s done", id, t.note, humanSize(t.total))
	}
	return fmt.Sprintf("%s %s %s", id, t.note, t.text())
}
