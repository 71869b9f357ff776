package build

import (
	"bytes"
	"os"
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

// tail keeps the last lines of a step's output, and all of it in a file.
type tail struct {
	r    *run
	step *Step
	kept *os.File // without a name; nil if there is no place for it
	// withheld is why nothing of it may be kept.
	withheld string

	mu    sync.Mutex
	lines []string
	part  []byte // the unfinished line
}

// log starts collecting the output of a step.
func (r *run) log(s *Step) *tail {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.tails[s.ID]; old != nil && old.kept != nil {
		old.kept.Close()
	}
	t := &tail{r: r, step: s}
	t.kept, _ = namelessFile(r.temp())
	r.tails[s.ID] = t
	return t
}

// namelessFile makes a file that ends with this process, whatever ends that.
func namelessFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "tmp-log-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
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
	if t.kept != nil {
		if _, err := t.kept.Write(p); err != nil { // a full disk is told of by what the step itself writes
			t.kept.Close()
			t.kept = nil
		}
	}
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

// withhold says that nothing of the output may be kept.
func (t *tail) withhold(why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.withheld = why
}
