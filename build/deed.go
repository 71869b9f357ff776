package build

import (
	"path"
	"strings"

	"github.com/ocibuild/ocibuild/parser"
)

// deed is what a RUN, COPY or ADD does, as far as the rules of our own ask.
// Those of a stage and the stages below make up how a layer came about.
type deed struct {
	step *Step
	// state is what the step began with, known and workdir how far to trust it.
	state   *State
	known   bool
	workdir bool
	// copied is a COPY or ADD, script and calls are what a RUN does.
	copied *transfer
	script string
	calls  []call
	mounts []*stepMount
}

// do adds a step's deed to how the stage stands.
func (a *standing) do(s *Step, d deed) *standing {
	n := *a
	d.step, d.state, d.known, d.workdir = s, a.State, a.known, a.workdir
	n.deeds = append(a.deeds[:len(a.deeds):len(a.deeds)], d)
	return &n
}

// runDeed reads what a RUN calls.
func runDeed(st *State, in *parser.Run, mounts []*stepMount) deed {
	d := deed{mounts: mounts}
	if !in.Shell {
		d.script = strings.Join(in.Args, " ")
		for _, words := range unwrap(in.Args) {
			d.calls = append(d.calls, newCall(words))
		}
		return d
	}
	text, program := in.Script()
	switch {
	case program != nil && !isShell(interpreter(text)):
		return d
	case program == nil && len(st.Config.Config.Shell) > 0 && !isShell(st.Config.Config.Shell[0]):
		return d
	}
	d.script = text
	for _, words := range shellCommands(text) {
		d.calls = append(d.calls, newCall(words))
	}
	return d
}

// interpreter is the program that a script's first line names.
func interpreter(script string) string {
	line, _, _ := strings.Cut(strings.TrimPrefix(script, "#!"), "\n")
	words := strings.Fields(line)
	switch {
	case len(words) == 0:
		return ""
	case path.Base(words[0]) == "env" && len(words) > 1:
		return words[1]
	}
	return words[0]
}

// mounted tells whether a mount of the step is at a path or above it, or is
// called like it in another place.
func (d deed) mounted(p string) bool {
	for _, m := range d.mounts {
		target := path.Clean(m.target)
		if target == p || strings.HasPrefix(p, strings.TrimSuffix(target, "/")+"/") || path.Base(target) == path.Base(p) {
			return true
		}
	}
	return false
}

// sets tells whether the step's environment has a variable.
func (d deed) sets(name string) bool {
	_, ok := d.state.Env.lookup(name)
	return ok
}

// whole tells whether a COPY or ADD takes the whole context, all of it.
func (d deed) whole() bool {
	if d.copied == nil || len(d.copied.exclude) > 0 {
		return false
	}
	if c, ok := d.step.Instr.(*parser.Copy); ok && c.From != "" {
		return false
	}
	for _, s := range d.copied.sources {
		if p := path.Clean(s.text); p == "." || p == "/" {
			return true
		}
	}
	return false
}
