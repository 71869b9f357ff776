package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	"github.com/opencontainers/go-digest"
)

// display shows how work goes. Its methods may be called from any goroutine;
// none of them blocks on anything but its output.
type display interface {
	// event takes an event of a build. Warnings are told at the build's end, by
	// notes, and with --progress=json alone by the display.
	event(build.Event)
	// begin shows a piece of work that is no step; end ends it.
	begin(name, repo string) *row
	end(r *row, err error)
	// status tells how far a piece of work has come: bytes of total, 0 if that is
	// not known.
	status(r *row, text string, done, total int64)
	// transfer shows bytes on the way from or to a repository.
	transfer(registry.Progress)
	// hold keeps the screen free until release: what is to be shown waits.
	hold()
	release()
	// close draws for the last time. The display is not used after it.
	close()
}

// progressModes are the values of --progress.
var progressModes = []string{"auto", "plain", "tty", "json", "quiet"}

// newDisplay gives the display for a --progress value.
func newDisplay(mode string, io *stdio) display {
	switch {
	case mode == "quiet":
		return noDisplay{}
	case mode == "json":
		return newJSONDisplay(io.err)
	case mode == "tty", mode == "auto" && io.errTTY && io.getenv("TERM") != "dumb":
		return newTTYDisplay(io.err, io.size)
	}
	return newPlainDisplay(io.err, time.Now)
}

// row is one line of progress: a step or other work.
type row struct {
	number    int
	name      string
	repo      string
	start     time.Time
	lines     lineBuffer
	tail      []string
	status    string
	transfers []*transfer
	all       amount // what its transfers come to, without what was there already
	told      time.Time
}

// transfer is one blob on the way.
type transfer struct {
	amount
	digest digest.Digest
	note   string
	done   bool
	told   time.Time
}

// moves says that bytes of it have moved, or will.
func (t *transfer) moves() bool {
	return t.note == registry.NotePulling || t.note == registry.NotePushing || t.note == registry.NoteWaiting
}

// rows holds what is under way.
type rows struct {
	steps map[*build.Step]*row
	live  []*row
	count int
}

func newRows() rows { return rows{steps: map[*build.Step]*row{}} }

// add begins a row.
func (rs *rows) add(name, repo string, now time.Time) *row {
	rs.count++
	r := &row{number: rs.count, name: sanitizeText(name), repo: repo, start: now}
	rs.live = append(rs.live, r)
	return r
}

// step begins a row for a step.
func (rs *rows) step(s *build.Step, now time.Time) *row {
	r := rs.add(s.Name(), baseRepo(s), now)
	rs.steps[s] = r
	return r
}

// remove ends a row.
func (rs *rows) remove(r *row) {
	for i, other := range rs.live {
		if other == r {
			rs.live = append(rs.live[:i], rs.live[i+1:]...)
			return
		}
	}
}

// transfer records a transfer at the row of its repository, else at the newest.
func (rs *rows) transfer(p registry.Progress, now time.Time) (*row, *transfer) {
	at := rs.of(p)
	if at == nil {
		return nil, nil
	}
	t := at.transfer(p.Descriptor.Digest)
	t.offset, t.total, t.done = p.Offset, p.Total, p.Done
	if t.total == 0 {
		t.total = p.Descriptor.Size
	}
	if p.Note != "" {
		t.note = sanitizeText(p.Note)
	}
	if t.note != registry.NoteWaiting {
		t.rate.add(now, t.offset)
	}
	at.sum(now)
	return at, t
}

// of is the row of a repository, else the newest; nil if there is none.
func (rs *rows) of(p registry.Progress) *row {
	if len(rs.live) == 0 {
		return nil
	}
	for _, r := range rs.live {
		if r.repo == p.Host+"/"+p.Repo {
			return r
		}
	}
	return rs.live[len(rs.live)-1]
}

// hostNote is what a report says of a host, and not of a blob.
func hostNote(p registry.Progress) (string, bool) {
	return p.Host + ": " + p.Note, p.Descriptor.Digest == "" && p.Note != ""
}

// sum adds the transfers up.
func (r *row) sum(now time.Time) {
	r.all.offset, r.all.total = 0, 0
	for _, t := range r.transfers {
		if t.moves() {
			r.all.offset += t.offset
			r.all.total += t.total
		}
	}
	r.all.rate.add(now, r.all.offset)
}

// moving counts the transfers that are not done.
func (r *row) moving() int {
	n := 0
	for _, t := range r.transfers {
		if !t.done && t.moves() {
			n++
		}
	}
	return n
}

func (r *row) transfer(d digest.Digest) *transfer {
	for _, t := range r.transfers {
		if t.digest == d {
			return t
		}
	}
	t := &transfer{digest: d}
	r.transfers = append(r.transfers, t)
	return t
}

// log takes a piece of output and calls emit with each whole line in it.
func (r *row) log(data []byte, emit func(line string)) {
	r.lines.write(data, func(line string) {
		r.remember(line)
		emit(line)
	})
}

// flush emits lines that have no end.
func (r *row) flush(emit func(line string)) {
	r.lines.flush(emit)
}

// tailLines is how many lines of output a row remembers.
const tailLines = 6

func (r *row) remember(line string) {
	if line == "" {
		return
	}
	if len(r.tail) == tailLines {
		copy(r.tail, r.tail[1:])
		r.tail = r.tail[:tailLines-1]
	}
	r.tail = append(r.tail, line)
}

// baseRepo is the "host/name" of a step's base image.
func baseRepo(s *build.Step) string {
	if s.Base == "" {
		return ""
	}
	ref, err := image.ParseRef(s.Base)
	if err != nil {
		return ""
	}
	return ref.Host() + "/" + ref.Repository()
}

// lineBuffer cuts a stream into sanitised lines.
type lineBuffer struct{ buf []byte }

// maxLine is where a line without an end is cut.
const maxLine = 16 << 10

func (b *lineBuffer) write(data []byte, emit func(string)) {
	for len(data) > 0 {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			b.buf = append(b.buf, data...)
			if len(b.buf) >= maxLine {
				b.flush(emit)
			}
			return
		}
		line := string(b.buf) + string(data[:i])
		b.buf = b.buf[:0]
		data = data[i+1:]
		emit(sanitizeLine(line))
	}
}

func (b *lineBuffer) flush(emit func(string)) {
	if len(b.buf) > 0 {
		emit(sanitizeLine(string(b.buf)))
		b.buf = b.buf[:0]
	}
}

// outcome words how a row ended: "DONE 1.2s", "CACHED", "CANCELED", "ERROR: ...".
func outcome(cached bool, d time.Duration, err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "CANCELED"
	case err != nil:
		return "ERROR: " + strings.ReplaceAll(message(stepCause(err)), "\n", " ")
	case cached:
		return "CACHED"
	}
	return "DONE " + seconds(d)
}

// stepCause drops the place from a step's error: the line it is shown on names it.
func stepCause(err error) error {
	var step *build.StepError
	if errors.As(err, &step) {
		return step.Err
	}
	return err
}

// seconds words a duration as BuildKit does: "1.2s".
func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// noDisplay shows nothing.
type noDisplay struct{}

func (noDisplay) event(build.Event)                 {}
func (noDisplay) begin(string, string) *row         { return nil }
func (noDisplay) end(*row, error)                   {}
func (noDisplay) status(*row, string, int64, int64) {}
func (noDisplay) transfer(registry.Progress)        {}
func (noDisplay) hold()                             {}
func (noDisplay) release()                          {}
func (noDisplay) close()                            {}
