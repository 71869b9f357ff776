package parser

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// linter gathers what can be said of a file's text alone. What depends on
// variables, on stages that a build leaves out, or on images is said later, by
// whoever plans the build.
type linter struct {
	check    Check
	warnings []Warning    // by BuildKit's rules, in its order
	ours     []Warning    // by our own
	commands []*statement // what casing is about: all but the ARGs before the first FROM
}

// warn adds a warning about an instruction, unless a comment above it asks for
// none.
func (l *linter) warn(s *statement, rule, format string, args ...any) {
	l.warnAt(s.lines, l.check.With(s.comments), rule, fmt.Sprintf(format, args...))
}

func (l *linter) warnAt(at Range, check Check, rule, msg string) {
	if !check.Wants(rule) {
		return
	}
	list := &l.warnings
	if RuleNamed(rule).Own {
		list = &l.ours
	}
	*list = append(*list, Warning{Range: at, Rule: rule, Msg: msg})
}

// syntax warns of a file that is written for another frontend. It is read as a
// Dockerfile all the same.
func (l *linter) syntax(d *Dockerfile) {
	if d.foreign() {
		l.warnAt(d.syntaxAt, l.check, "ForeignSyntax", fmt.Sprintf(
			"The frontend %s is not used: ocibuild reads the file as a Dockerfile itself. Remove the syntax line, or write # syntax=docker/dockerfile:1", d.Syntax))
	}
}

// ruleNames warns of names in the check directive that are nearly those of
// rules. Names that are like none may be of a later BuildKit.
func (l *linter) ruleNames(d *Dockerfile) {
	var names []string
	for _, r := range rules {
		names = append(names, r.Name)
	}
	for _, name := range append(slices.Clone(l.check.Skip), l.check.Experimental...) {
		if near := Nearest(name, names); near != "" && near != name {
			l.warnAt(d.checkAt, l.check, "MisspeltRule", fmt.Sprintf("There is no rule %s (did you mean %s?)", name, near))
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

// before looks at an instruction that may yet be refused.
func (l *linter) before(s *statement) {
	switch s.keyword {
	case "MAINTAINER":
		l.warn(s, "MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label")
	case "FROM":
		l.from(s)
	}
}

func (l *linter) from(s *statement) {
	if len(s.args) < 3 {
		return
	}
	as, name := s.args[1], s.args[2]
	if len(s.args) == 3 && name != strings.ToLower(name) {
		l.warn(s, "StageNameCasing", "Stage name '%s' should be lowercase", name)
	}
	want := as // where FROM itself is in mixed case, that is enough to warn of
	switch s.word {
	case strings.ToLower(s.word):
		want = strings.ToLower(as)
	case s.keyword:
		want = strings.ToUpper(as)
	}
	if as != want {
		l.warn(s, "FromAsCasing", "'%s' and '%s' keywords' casing do not match", as, s.word)
	}
}

// after looks at an instruction that has been understood.
func (l *linter) after(s *statement, in Instruction, global bool) {
	if !global {
		l.commands = append(l.commands, s)
	}
	l.execForm(s)
	switch in := in.(type) {
	case *From:
		if in.As != "" {
			l.description(s, []string{strings.ToLower(in.As)})
		}
	case *Arg:
		var names []string
		for _, def := range in.Defs {
			names = append(names, def.Name)
		}
		l.description(s, names)
	}
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
	l.warn(s, "InvalidDefinitionDescription", "Comment for %s should follow the format: `# %s <description>`", s.keyword, want)
}

// jsonLike is how a JSON array begins and nothing else does: a bracket that a
// quote follows, or a quoted word and a comma. A shell's test is [ "a" = ...
var jsonLike = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^\[(["\']|\s*("[^"]*"|\'[^\']*\')\s*,)`) })

// execForm warns of what looks like a JSON array and is none.
func (l *linter) execForm(s *statement) {
	in := s
	if s.trigger != nil {
		in = s.trigger
	}
	args := in.words()
	if in.json || !jsonLike().MatchString(args) {
		return
	}
	why := "it does not end in ]"
	if strings.HasSuffix(strings.TrimSpace(args), "]") {
		why = "each element stands in double quotes, with commas between"
	}
	l.warn(s, "MalformedExecForm", "%s takes the brackets and quotes as they are, for this is no JSON array: %s", in.word, why)
}

// words are the arguments of an instruction that takes a JSON array, in one.
func (s *statement) words() string {
	switch s.keyword {
	case "ADD", "CMD", "COPY", "ENTRYPOINT", "RUN", "VOLUME":
		return strings.Join(s.args, " ")
	case "HEALTHCHECK":
		return strings.Join(s.args[min(1, len(s.args)):], " ")
	}
	return ""
}

// stageNames looks at the names of all stages. Comments above a FROM do not
// silence it, with BuildKit either.
func (l *linter) stageNames(stages []*Stage) {
	seen := map[string]bool{}
	for _, st := range stages {
		if st.Name == "" {
			continue
		}
		if st.Name == "context" || st.Name == "scratch" {
			l.warnAt(st.From.lines, l.check, "ReservedStageName",
				fmt.Sprintf("Stage name should not use the same name as reserved stage %q", st.Name))
		}
		if seen[st.Name] {
			l.warnAt(st.From.lines, l.check, "DuplicateStageName",
				fmt.Sprintf("Duplicate stage name %q, stage names should be unique", st.Name))
		}
		seen[st.Name] = true
	}
}

// casing warns of keywords that are not in the case that most of them are in.
func (l *linter) casing() {
	var lower, upper int
	for _, s := range l.commands {
		switch s.word {
		case strings.ToLower(s.word):
			lower++
		case s.keyword:
			upper++
		}
	}
	for _, s := range l.commands {
		want, name := s.keyword, "uppercase"
		if lower > upper {
			want, name = strings.ToLower(s.word), "lowercase"
		}
		if s.word != want {
			l.warnAt(s.lines, l.check, "ConsistentInstructionCasing",
				fmt.Sprintf("Command '%s' should match the case of the command majority (%s)", s.word, name))
		}
	}
}
