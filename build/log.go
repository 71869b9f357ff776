package build

import (
	"bytes"
	"strings"
	"sync"
)

// tailLines is how much of a failing step's output its error carries.
const tailLines = 20

// event reports progress, one call at a time.
func (r *run) event(e Event) {
	if r.b.Events == nil {
		return
	}
	e.Time = r.now()
	r.events.Lock()
	defer r.events.Unlock()
	r.b.Events(e)
}

// warn reports something about a step that the user should look at.
func (r *run) warn(s *Step, text string) {
	r.event(Event{Kind: Warned, Step: s, Text: text, Range: s.Range()})
}

// tail keeps the last lines of a step's output.
type tail struct {
	r    *run
	step *Step

	mu    sync.Mutex
	lines []string
	part  []byte // the unfinished line
}

// log starts collecting the output of a step.
func (r *run) log(s *Step) *tail {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &tail{r: r, step: s}
	r.tails[s.ID] = t
	return t
}

func (r *run) tail(s *Step) []string {
	r.mu.Lock()
	t := r.tails[s.ID]
	r.mu.Unlock()
	if t == nil {
		return nil
	}
	return t.last()
}

// Write passes output on and keeps its last lines.
func (t *tail) Write(p []byte) (int, error) {
	t.add(p)
	t.r.event(Event{Kind: Log, Step: t.step, Data: p})
	return len(p), nil
}

// maxLine bounds what is kept of a line that does not end.
const maxLine = 64 << 10

func (t *tail) add(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			if room := maxLine - len(t.part); room > 0 {
				t.part = append(t.part, p[:min(len(p), room)]...)
			}
			return
		}
		t.push(string(t.part) + string(p[:i]))
		t.part = t.part[:0]
		p = p[i+1:]
	}
}

func (t *tail) push(line string) {
	t.lines = append(t.lines, strings.TrimRight(line, "\r"))
	if len(t.lines) > tailLines {
		t.lines = t.lines[len(t.lines)-tailLines:]
	}
}

func (t *tail) last() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.part) > 0 {
		t.push(string(t.part))
		t.part = nil
	}
	return append([]string(nil), t.lines...)
}
