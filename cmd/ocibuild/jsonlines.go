package main

import (
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/ocibuild/ocibuild/registry"
)

// jsonDisplay prints an object a line for every event.
type jsonDisplay struct {
	mu   sync.Mutex
	enc  *json.Encoder
	rows rows
}

// jsonEvent is the line of an event. Fields that say nothing are left out.
type jsonEvent struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	// Step is the number of a step, Name what it is shown as; Line is its
	// place in the Dockerfile.
	Step *int   `json:"step,omitempty"`
	Name string `json:"name,omitempty"`
	Line int    `json:"line,omitempty"`
	Data string `json:"data,omitempty"`
	Text string `json:"text,omitempty"`
	// Rule and URL are of a warning: the rule that found it, and where more is
	// written.
	Rule    string `json:"rule,omitempty"`
	URL     string `json:"url,omitempty"`
	Current int64  `json:"current,omitempty"`
	Total   int64  `json:"total,omitempty"`
	// Rate and SecondsLeft are of a transfer, All of all that move for the same
	// repository.
	Rate        int64       `json:"bytes_per_second,omitempty"`
	SecondsLeft *float64    `json:"seconds_left,omitempty"`
	All         *jsonAmount `json:"all,omitempty"`
	Cached      bool        `json:"cached,omitempty"`
	Seconds     *float64    `json:"seconds,omitempty"`
	// What the commands of a finished step took of the machine.
	CPU      *float64 `json:"cpu_seconds,omitempty"`
	Memory   int64    `json:"peak_memory,omitempty"`
	Written  int64    `json:"bytes_written,omitempty"`
	Error    string   `json:"error,omitempty"`
	Hint     string   `json:"hint,omitempty"`
	ExitCode int      `json:"exit_code,omitempty"`
	Digest   string   `json:"digest,omitempty"`
	Repo     string   `json:"repository,omitempty"`
	Done     bool     `json:"done,omitempty"`
	ID       string   `json:"id,omitempty"`
	Names    []string `json:"names,omitempty"`
	Steps    int      `json:"steps,omitempty"`
	CachedN  int      `json:"cached_steps,omitempty"`
	RanN     int      `json:"run_steps,omitempty"`
}

func newJSONDisplay(w io.Writer) *jsonDisplay {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &jsonDisplay{enc: enc, rows: newRows()}
}

// write prints one event. A reader that went away is no reason to stop a build.
func (d *jsonDisplay) write(e jsonEvent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	_ = d.enc.Encode(e)
}

func (d *jsonDisplay) event(e build.Event) {
	j := jsonEvent{
		Time: e.Time, Event: string(e.Kind), Text: e.Text, Data: string(e.Data),
		Current: e.Current, Total: e.Total, Cached: e.Cached, Line: e.Range.Start,
	}
	if e.Step != nil {
		j.Step, j.Name = &e.Step.ID, e.Step.Name()
		if e.Step.Instr != nil {
			j.Line = e.Step.Instr.Range().Start
		}
	}
	switch e.Kind {
	case build.Warned:
		j.Line, j.Rule, j.URL = e.Range.Start, e.Rule, parser.RuleNamed(e.Rule).URL
	case build.Finished:
		s := e.Duration.Seconds()
		j.Seconds = &s
		if e.Used != nil {
			j.CPU, j.Memory, j.Written = new(e.Used.CPUTime.Seconds()), e.Used.PeakMemory, e.Used.Written
		}
	}
	if e.Err != nil {
		j.Error = message(e.Err)
	}
	d.write(j)
}

func (d *jsonDisplay) begin(name, repo string) *row {
	d.write(jsonEvent{Event: string(build.Started), Name: name, Repo: repo})
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rows.add(name, repo, time.Now())
}

func (d *jsonDisplay) end(r *row, err error) {
	d.mu.Lock()
	d.rows.remove(r)
	d.mu.Unlock()
	s := time.Since(r.start).Seconds()
	e := jsonEvent{Event: string(build.Finished), Name: r.name, Repo: r.repo, Seconds: &s}
	if err != nil {
		e.Error = message(err)
	}
	d.write(e)
}

func (d *jsonDisplay) status(r *row, text string, done, total int64) {
	d.write(jsonEvent{Event: string(build.Status), Name: r.name, Text: text, Current: done, Total: total})
}

func (d *jsonDisplay) transfer(p registry.Progress) {
	e := jsonEvent{
		Event: "transfer", Repo: p.Host + "/" + p.Repo, Digest: p.Descriptor.Digest.String(),
		Current: p.Offset, Total: p.Total, Text: p.Note, Done: p.Done,
	}
	d.mu.Lock()
	if r, t := d.rows.transfer(p, time.Now()); r != nil && t.moves() {
		one, all := t.event(), r.all.event()
		e.Rate, e.SecondsLeft, e.All = one.Rate, one.SecondsLeft, &all
	}
	d.mu.Unlock()
	d.write(e)
}

func (d *jsonDisplay) hold()    {}
func (d *jsonDisplay) release() {}
func (d *jsonDisplay) close()   {}

// notice prints what is said of the store when all is done.
func (d *jsonDisplay) notice(warning bool, text string) {
	e := jsonEvent{Event: "freed", Text: text}
	if warning {
		e.Event = string(build.Warned)
	}
	d.write(e)
}

// fail prints the end of a build that went wrong.
func (d *jsonDisplay) fail(err error) {
	d.write(jsonEvent{Event: "error", Error: message(err), Hint: hint(err), ExitCode: exitCode(err)})
}
