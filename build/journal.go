package build

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
)

// PastBuild is what is remembered of a build, for those who ask for its logs.
type PastBuild struct {
	ID    cache.Key     `json:"id"`
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took"`
	// File is the Dockerfile, Target the stage of the result.
	File   string        `json:"file"`
	Target string        `json:"target"`
	Image  digest.Digest `json:"image,omitempty"` // the image id; empty for a build that failed
	Tags   []string      `json:"tags,omitempty"`
	Error  string        `json:"error,omitempty"`
	Steps  []PastStep    `json:"steps"`
}

// PastStep is a step of a remembered build.
type PastStep struct {
	Name   string `json:"name"` // as progress shows it
	Stage  string `json:"stage"`
	Number int    `json:"number"`
	Line   int    `json:"line"`
	// Key finds the step's log; empty if the step has none.
	Key    cache.Key     `json:"key,omitempty"`
	Cached bool          `json:"cached,omitempty"`
	Took   time.Duration `json:"took"`
	Error  string        `json:"error,omitempty"`
}

// describe is what of a step can be known before the build.
func (s *Step) describe() PastStep {
	return PastStep{Name: s.Name(), Stage: s.StageName(), Number: s.Number, Line: s.Range().Start}
}

// enter notes something about a step for the record of the build.
func (r *run) enter(s *Step, note func(*PastStep)) {
	if !s.Working() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[s.ID]
	if e == nil {
		e = new(s.describe())
		r.entries[s.ID] = e
	}
	note(e)
}

func errorText(err error) string {
	var step *StepError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &step):
		return step.Err.Error()
	}
	return err.Error()
}

// used is what the commands of a step took; nil if none ran.
func (r *run) used(s *Step) *executor.Usage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.usages[s.ID]
}

// buildKind is the kind of facts that records of builds are.
const buildKind = "build"

// keepRecord remembers the build. One of which no step has begun is none.
func (r *run) keepRecord(began time.Time, made *Result, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.entries) == 0 {
		return nil
	}
	rec := PastBuild{
		ID: cache.Key(digest.FromString(unique()).Encoded()), Began: began, Took: r.now().Sub(began),
		File: r.graph.Dockerfile.File, Target: r.graph.Target.StageName(), Error: errorText(err),
	}
	if made != nil {
		rec.Image = made.ID
		for _, ref := range made.Tags {
			rec.Tags = append(rec.Tags, ref.Familiar())
		}
	}
	for i := range r.graph.Steps {
		if e := r.entries[i]; e != nil {
			rec.Steps = append(rec.Steps, *e)
		}
	}
	text, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return r.b.Cache.PutFact(buildKind, rec.ID, text)
}

// Builds lists the remembered builds of a cache, the newest first.
func Builds(c *cache.Store) ([]PastBuild, error) {
	keys, err := c.FactKeys(buildKind)
	if err != nil {
		return nil, err
	}
	var list []PastBuild
	for _, key := range keys {
		var rec PastBuild
		if text, ok := c.GetFact(buildKind, key); ok && json.Unmarshal(text, &rec) == nil {
			list = append(list, rec)
		}
	}
	slices.SortFunc(list, func(a, b PastBuild) int {
		return cmp.Or(b.Began.Compare(a.Began), strings.Compare(string(a.ID), string(b.ID)))
	})
	return list, nil
}

// The kinds of facts that a log is kept as: a head under the key of its step, and
// parts.
const (
	logKind     = "log"
	logPartKind = "log-part"
	logPart     = 1 << 20
)

// logHead says what a kept log is.
type logHead struct {
	Parts int `json:"parts"`
	// Withheld is why nothing of the log is kept.
	Withheld string `json:"withheld,omitempty"`
}

func logPartKey(step cache.Key, i int) cache.Key {
	return cache.Key(digest.FromString(fmt.Sprintf("log %s %d", step, i)).Encoded())
}

// keepLog keeps what a step has printed, beside its record. It is no reason to fail
// if that cannot be done: nothing depends on it.
func (r *run) keepLog(s *Step, key cache.Key) {
	r.mu.Lock()
	t := r.tails[s.ID]
	r.mu.Unlock()
	r.enter(s, func(e *PastStep) { e.Key = key })
	if t == nil {
		return
	}
	_ = t.keep(r.b.Cache, key)
}

func (t *tail) keep(c *cache.Store, key cache.Key) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept == nil {
		return nil
	}
	defer func() { t.kept.Close(); t.kept = nil }()
	head := logHead{Withheld: t.withheld}
	if _, err := t.kept.Seek(0, io.SeekStart); err != nil {
		return err
	}
	buf := make([]byte, logPart)
	for t.withheld == "" {
		n, err := io.ReadFull(t.kept, buf)
		if n > 0 {
			if err := c.PutFact(logPartKind, logPartKey(key, head.Parts), buf[:n]); err != nil {
				return err
			}
			head.Parts++
		}
		if err != nil {
			break
		}
	}
	text, err := json.Marshal(head)
	if err != nil {
		return err
	}
	return c.PutFact(logKind, key, text)
}

// ErrNoLog is that no log of a step is kept: it ran no command, or the log was pruned.
var ErrNoLog = errors.New("no log is kept")

// WriteLog writes the kept log of the step that has key.
func WriteLog(c *cache.Store, key cache.Key, w io.Writer) error {
	text, ok := c.GetFact(logKind, key)
	var head logHead
	if !ok || json.Unmarshal(text, &head) != nil {
		return ErrNoLog
	}
	if head.Withheld != "" {
		_, err := fmt.Fprintf(w, "(%s)\n", head.Withheld)
		return err
	}
	for i := range head.Parts {
		part, ok := c.GetFact(logPartKind, logPartKey(key, i))
		if !ok {
			return ErrNoLog
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// replay shows the log of a cached step.
func (r *run) replay(s *Step, key cache.Key) {
	_ = WriteLog(r.b.Cache, key, writerFunc(func(p []byte) {
		r.event(Event{Kind: Log, Step: s, Data: p})
	}))
}

type writerFunc func(p []byte)

// Write calls the function.
func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// StepSelector chooses steps as users name them: "3" is a number in the stage of the
// target, "build:3" one in another, ":12" a line of the Dockerfile, and anything else
// a part of what progress shows.
type StepSelector struct {
	text, stage string
	number      int
	line        int
}

// ParseStepSelector reads a selector.
func ParseStepSelector(text string) StepSelector {
	s := StepSelector{text: text}
	stage, number, ok := strings.Cut(text, ":")
	if !ok {
		stage, number = "", text
	}
	n, err := strconv.Atoi(number)
	switch {
	case err != nil || n <= 0 || strings.ContainsAny(stage, " \t"):
	case ok && stage == "":
		s.line = n
	default:
		s.stage, s.number = stage, n
	}
	return s
}

// String is the selector as it was written.
func (s StepSelector) String() string { return s.text }

// Matches reports whether a step of a build whose result is of the stage target is
// chosen.
func (s StepSelector) Matches(step PastStep, target string) bool {
	switch {
	case s.line > 0:
		return step.Line == s.line
	case s.number > 0 && s.stage == "":
		return step.Stage == target && step.Number == s.number
	case s.number > 0:
		return strings.EqualFold(step.Stage, s.stage) && step.Number == s.number
	}
	return strings.Contains(step.Name, s.text)
}

// Find gives the steps of a graph that a selector chooses and that do work.
func (g *Graph) Find(s StepSelector) []*Step {
	var found []*Step
	for _, step := range g.Steps {
		if step.Working() && s.Matches(step.describe(), g.Target.StageName()) {
			found = append(found, step)
		}
	}
	return found
}

// checkConfig looks for the build's secrets in what an image says of itself.
func (r *run) checkConfig(c *image.Config) error {
	if len(r.req.Secrets) == 0 {
		return nil
	}
	leak := newSeeker(r.req.Secrets).inConfig(c)
	if leak == nil {
		return nil
	}
	if r.req.Run.AllowLeak {
		r.event(Event{Kind: Warned, Text: leak.Error()})
		return nil
	}
	return &Hinted{leak, leakHint}
}
