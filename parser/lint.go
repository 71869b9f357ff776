package parser

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// The one rule that is off unless a directive asks for it.
const ruleDescription = "InvalidDefinitionDescription"

// linter gathers what can be said of a file without expanding variables or
// knowing its images.
type linter struct {
	check    Check
	escape   rune
	warnings []Warning
	seen     []*statement
	stages   map[string]*stageFacts // by name, the nearest
	stage    *stageFacts            // the one at hand, nil before the first FROM
}

// stageFacts is what a stage's later instructions are judged by.
type stageFacts struct {
	workdir bool                  // a WORKDIR was there, or in a stage below
	shell   bool                  // a SHELL was
	last    map[string]*statement // by keyword
}

func (l *linter) warn(s *statement, rule, format string, args ...any) {
	l.warnAt(s.lines, l.check.with(s.comments), rule, fmt.Sprintf(format, args...))
}

func (l *linter) warnAt(at Range, check Check, rule, msg string) {
	if check.Wants(rule) {
		l.warnings = append(l.warnings, Warning{Range: at, Rule: rule, Msg: msg})
	}
}

// sorted gives the warnings in line order.
func (l *linter) sorted() []Warning {
	slices.SortStableFunc(l.warnings, func(a, b Warning) int { return cmp.Compare(a.Range.Start, b.Range.Start) })
	return l.warnings
}

// instruction looks at one instruction; they come in the file's order.
func (l *linter) instruction(s *statement, in Instruction) {
	l.seen = append(l.seen, s)
	switch in := in.(type) {
	case *From:
		l.from(s, in)
	case *Maintainer:
		l.warn(s, "MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label")
	case *Arg:
		l.arg(s, in)
	case *Env:
		l.legacyPairs(s)
		for _, v := range in.Vars {
			l.secret(s, v.Key)
		}
	case *Label:
		l.legacyPairs(s)
	case *Expose:
		l.expose(s, in)
	}
	if l.stage != nil {
		l.inStage(s, in)
	}
}

// inStage judges by what the stage held before.
func (l *linter) inStage(s *statement, in Instruction) {
	switch in := in.(type) {
	case *Shell:
		l.stage.shell = true
	case *Workdir:
		l.workdir(s, in)
	case *Cmd:
		l.once(s)
		l.jsonArgs(s, in.Command)
	case *Entrypoint:
		l.once(s)
		l.jsonArgs(s, in.Command)
	case *Healthcheck:
		l.once(s)
	}
}

// once warns of the earlier of two instructions of which the last one counts.
func (l *linter) once(s *statement) {
	if before := l.stage.last[s.keyword]; before != nil {
		l.warn(before, "MultipleInstructionsDisallowed",
			"Multiple %s instructions should not be used in the same stage because only the last one will be used", s.word)
	}
	l.stage.last[s.keyword] = s
}

func (l *linter) jsonArgs(s *statement, c Command) {
	if c.Shell && !l.stage.shell {
		l.warn(s, "JSONArgsRecommended",
			"JSON arguments recommended for %s to prevent unintended behavior related to OS signals", s.word)
	}
}

// workdir warns of a stage's first WORKDIR when it hangs on the base image's.
func (l *linter) workdir(s *statement, w *Workdir) {
	path, err := Expander{Escape: l.escape}.Word(w.Path, nil)
	known := err == nil && !strings.Contains(w.Path, "$")
	drive := len(path) > 1 && path[1] == ':'
	if known && !l.stage.workdir && !strings.HasPrefix(path, "/") && !drive {
		l.warn(s, "WorkdirRelativePath", "Relative workdir %q can have unexpected results if the base image changes", path)
	}
	l.stage.workdir = true
}

func (l *linter) arg(s *statement, a *Arg) {
	var names []string
	for _, def := range a.Defs {
		names = append(names, def.Name)
		if l.stage != nil {
			l.secret(s, def.Name)
		}
	}
	l.description(s, names)
}

// description warns of a comment above an ARG or FROM that does not begin with
// a name it defines.
func (l *linter) description(s *statement, names []string) {
	if len(s.comments) == 0 || len(names) == 0 {
		return
	}
	first, _, _ := strings.Cut(s.comments[len(s.comments)-1], " ")
	if slices.Contains(names, first) {
		return
	}
	want := names[0]
	if len(names) > 1 {
		want = "<arg_key>"
	}
	l.warn(s, ruleDescription, "Comment for %s should follow the format: `# %s <description>`", s.keyword, want)
}

func (l *linter) legacyPairs(s *statement) {
	if len(s.args) == 3 && s.args[2] == "" {
		l.warn(s, "LegacyKeyValueFormat",
			"\"%[1]s key=value\" should be used instead of legacy \"%[1]s key value\" format", s.word)
	}
}

// secret warns of a variable whose name says that its value is one.
func (l *linter) secret(s *statement, name string) {
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
		l.warn(s, "SecretsUsedInArgOrEnv", "Do not use ARG or ENV instructions for sensitive data (%s %q)", s.keyword, name)
	}
}

func (l *linter) expose(s *statement, e *Expose) {
	for _, port := range e.Ports {
		if strings.Contains(port, "$") {
			continue
		}
		if _, proto, _ := strings.Cut(port, "/"); proto != strings.ToLower(proto) {
			l.warn(s, "ExposeProtoCasing", "Defined protocol '%s' in EXPOSE instruction should be lowercase", port)
		}
		if strings.Contains(port, ":") {
			l.warn(s, "ExposeInvalidFormat",
				"EXPOSE instruction should not define an IP address or host-port mapping, found '%s'", port)
		}
	}
}

// continuations takes over the line parser's warnings, which are all of one
// kind.
func (l *linter) continuations(found []parser.Warning) {
	for _, w := range found {
		at := Range{w.Location.Start.Line, w.Location.End.Line}
		l.warnAt(at, l.check, "NoEmptyContinuation", "Empty continuation line")
	}
}

// casing warns of keywords that are not in the case that most of them are in.
func (l *linter) casing() {
	var lower, upper int
	for _, s := range l.seen {
		switch s.word {
		case strings.ToLower(s.word):
			lower++
		case s.keyword:
			upper++
		}
	}
	for _, s := range l.seen {
		want, name := s.keyword, "uppercase"
		if lower > upper {
			want, name = strings.ToLower(s.word), "lowercase"
		}
		if s.word != want {
			l.warn(s, "ConsistentInstructionCasing",
				"Command '%s' should match the case of the command majority (%s)", s.word, name)
		}
	}
}
