package build

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/parser"
)

// standing is how a stage stands after a step, as far as the rules ask.
type standing struct {
	*State
	// known says that what the base image sets is known.
	known bool
	// workdir says that the Dockerfile has set a working directory.
	workdir bool
	// once holds the instructions of the stage of which the last one counts,
	// by keyword.
	once map[string]*Step
	// deeds are what its steps and those of the stages below have done.
	deeds []deed
}

// then is the standing with another State.
func (a *standing) then(st *State) *standing {
	n := *a
	n.State = st
	return &n
}

// step looks at one step of a stage that stands as at says, and gives how it
// stands then. ends holds the standings after the steps of earlier stages.
func (l *linter) step(g *Graph, s *Step, at *standing, ends map[*Step]*standing) (*standing, error) {
	if _, ok := s.Instr.(*parser.From); ok {
		return l.begin(s, ends), nil
	}
	c := scoped{x: l.x, globals: g.globals, given: l.plan.Args, state: at.State}
	c.missed = func(env scope, names []string) { l.undefined(s, at, env, names) }
	switch in := s.Instr.(type) {
	case *parser.Arg:
		return l.arg(s, in, at, c)
	case *parser.Run:
		return l.run(s, in, at, c)
	case *parser.Copy, *parser.Add:
		t, err := expandTransfer(c, in)
		if err != nil {
			return nil, err
		}
		return at.do(s, deed{copied: t}), l.ignored(s, t)
	case *parser.Workdir:
		return l.workdir(s, in, at, c)
	}
	st, err := applyConfig(c, s.Instr)
	if err == nil || isExpose(s) {
		l.config(s, at, c)
	}
	return at.then(st), err
}

// begin gives how a stage stands after its FROM line.
func (l *linter) begin(s *Step, ends map[*Step]*standing) *standing {
	at := &standing{once: map[string]*Step{}}
	img := l.bases[s.ID]
	switch {
	case s.Parent != nil:
		parent := l.end(s.Parent, ends)
		at.State, at.known, at.workdir, at.deeds = parent.begin(), parent.known, parent.workdir, parent.deeds
	case s.Base == "":
		at.State, at.known = scratchState(s.Platform), true
	case img == nil:
		at.State = scratchState(s.Platform)
	default:
		at.State, at.known = baseState(img), true
	}
	return at
}

// end is how the stage of a step stood after it, or after the last step before
// it that was looked at.
func (l *linter) end(s *Step, ends map[*Step]*standing) *standing {
	for s != nil && ends[s] == nil {
		s = s.Parent
	}
	if s == nil { // an image or a context that stands for the stage
		return &standing{State: scratchState(l.plan.Platform), once: map[string]*Step{}}
	}
	return ends[s]
}

// undefined warns of variables that a word names and nothing sets.
func (l *linter) undefined(s *Step, at *standing, env scope, names []string) {
	if !at.known {
		return
	}
	for _, name := range names {
		if slices.ContainsFunc(at.Args, func(a argValue) bool { return a.Name == name }) || isScanArg(name) {
			continue
		}
		hint := ""
		if near := nearVariable(name, env.names()); near != "" {
			hint = " (did you mean $" + near + "?)"
		}
		l.warnStep(s, "UndefinedVar", "Usage of undefined variable '$%s'%s", name, hint)
	}
}

// isScanArg tells whether an argument is one that BuildKit keeps from steps.
func isScanArg(name string) bool {
	return name == "BUILDKIT_SBOM_SCAN_CONTEXT" || name == "BUILDKIT_SBOM_SCAN_STAGE"
}

// arg declares one argument after the other: each sees those before it.
func (l *linter) arg(s *Step, in *parser.Arg, at *standing, c scoped) (*standing, error) {
	for _, def := range in.Defs {
		l.stepArgs = append(l.stepArgs, def.Name)
		l.secret(s, "ARG", def.Name)
		c.missed = func(env scope, names []string) { l.undefined(s, at, env, names) }
		c.state = at.State
		st, err := c.arg(&parser.Arg{Node: in.Node, Defs: []parser.ArgDef{def}})
		if err != nil {
			return nil, err
		}
		at = at.then(st)
	}
	return at, nil
}

// run reads the mounts of a RUN and what it calls.
func (l *linter) run(s *Step, in *parser.Run, at *standing, c scoped) (*standing, error) {
	if err := checkCommand(in); err != nil {
		return nil, err
	}
	var mounts []*stepMount
	for _, m := range in.Mounts {
		mount, err := c.mount(m)
		if err != nil {
			return nil, fmt.Errorf("--mount=%s: %w", m.Raw, err)
		}
		mounts = append(mounts, mount)
	}
	after := at.do(s, runDeed(at.State, in, mounts))
	l.ownStep(after.deeds[len(at.deeds)], at.deeds)
	return after, nil
}

// ignored warns of sources that the .dockerignore file leaves out.
func (l *linter) ignored(s *Step, t *transfer) error {
	if c, ok := s.Instr.(*parser.Copy); ok && c.From != "" {
		return nil
	}
	verb := "Copy"
	if t.keyword == "ADD" {
		verb = "Add"
	}
	for _, source := range paths(t.sources) {
		source = path.Clean(source)
		hidden, err := l.ignore.Hides(source)
		if err != nil {
			return err
		}
		if hidden {
			l.warnStep(s, "CopyIgnoredFile", "Attempting to %s file %q that is excluded by .dockerignore", verb, source)
		}
	}
	return nil
}

// workdir warns of a first WORKDIR that hangs on the base image's.
func (l *linter) workdir(s *Step, in *parser.Workdir, at *standing, c scoped) (*standing, error) {
	dir, err := c.word(in.Path)
	if err != nil {
		return nil, err
	}
	if !at.workdir && !path.IsAbs(dir) {
		l.warnStep(s, "WorkdirRelativePath", "Relative workdir %q can have unexpected results if the base image changes", dir)
	}
	st := at.clone()
	st.Config.Config.WorkingDir = workdir(st.Config.Config.WorkingDir, dir)
	at = at.then(st)
	at.workdir = true
	return at, nil
}

// config looks at an instruction that changes the config alone.
func (l *linter) config(s *Step, at *standing, c scoped) {
	c.missed = nil // it has been told
	switch in := s.Instr.(type) {
	case *parser.Env:
		l.legacy(s, in.Legacy)
		for _, v := range in.Vars {
			if key, err := c.word(v.Key); err == nil {
				l.secret(s, "ENV", key)
			}
		}
	case *parser.Label:
		l.legacy(s, in.Legacy)
	case *parser.Cmd:
		l.lastCounts(s, at)
		l.shellForm(s, at, in.Shell)
	case *parser.Entrypoint:
		l.lastCounts(s, at)
		l.shellForm(s, at, in.Shell)
	case *parser.Healthcheck:
		l.lastCounts(s, at)
	case *parser.Expose:
		l.expose(s, in, c)
	}
}

func (l *linter) legacy(s *Step, legacy bool) {
	if legacy {
		l.warnStep(s, "LegacyKeyValueFormat",
			"\"%[1]s key=value\" should be used instead of legacy \"%[1]s key value\" format", s.Instr.Word())
	}
}

// lastCounts warns of the earlier of two instructions of which the last one counts.
func (l *linter) lastCounts(s *Step, at *standing) {
	if before := at.once[s.Instr.Keyword()]; before != nil {
		l.warn(l.df.Check.With(s.Instr.Comments()), before.Range(), "MultipleInstructionsDisallowed",
			"Multiple %s instructions should not be used in the same stage because only the last one will be used", s.Instr.Word())
	}
	at.once[s.Instr.Keyword()] = s
}

func (l *linter) shellForm(s *Step, at *standing, shell bool) {
	if shell && len(at.Config.Config.Shell) == 0 {
		l.warnStep(s, "JSONArgsRecommended",
			"JSON arguments recommended for %s to prevent unintended behavior related to OS signals", s.Instr.Word())
	}
}

// secret warns of a variable whose name says that its value is one.
func (l *linter) secret(s *Step, instruction, name string) {
	secret := false
	for part := range strings.SplitSeq(strings.ToLower(name), "_") {
		switch part {
		case "apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token":
			secret = true
		case "public", "file", "version":
			return
		}
	}
	if secret {
		l.warnStep(s, "SecretsUsedInArgOrEnv", "Do not use ARG or ENV instructions for sensitive data (%s %q)", instruction, name)
	}
}

func isExpose(s *Step) bool {
	_, ok := s.Instr.(*parser.Expose)
	return ok
}

// expose looks at ports up to the first one that is none.
func (l *linter) expose(s *Step, in *parser.Expose, c scoped) {
	specs, err := c.ports(in)
	if err != nil {
		return
	}
	for _, spec := range specs {
		p := splitPort(spec)
		if !p.knownProtocol() {
			return
		}
		if p.protocol != strings.ToLower(p.protocol) {
			l.warnStep(s, "ExposeProtoCasing", "Defined protocol '%s' in EXPOSE instruction should be lowercase", spec)
		}
		if p.ip != "" || p.host != "" {
			l.warnStep(s, "ExposeInvalidFormat",
				"EXPOSE instruction should not define an IP address or host-port mapping, found '%s'", spec)
		}
		if _, err := exposedPorts(spec); err != nil {
			return
		}
	}
}
