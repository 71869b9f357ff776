package build

import (
	"errors"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
)

// froms looks at the FROM lines of all stages. It ends at the first one that
// the plan refuses.
func (l *linter) froms() {
	l.defaultBases()
	globals, err := globalArgs(l.df, l.plan, l.plan.Args)
	if err != nil {
		return
	}
	declared := globals.names()
	for _, arg := range l.df.Args {
		for _, def := range arg.Defs {
			declared = append(declared, def.Name)
		}
	}
	for _, st := range l.df.Stages {
		if !l.from(st, globals, declared) {
			return
		}
	}
}

// defaultBases warns of base images that have no valid name unless a build
// argument is given.
func (l *linter) defaultBases() {
	globals, err := globalArgs(l.df, l.plan, nil)
	if err != nil {
		return
	}
	for _, st := range l.df.Stages {
		base, err := l.x.Word(st.From.Image, globals.lookup)
		if err != nil {
			return
		}
		if _, err := image.ParseRef(base); err != nil {
			l.warn(l.df.Check, st.From.Range(), "InvalidDefaultArgInFrom",
				"Default value for ARG %v results in empty or invalid base image name", st.From.Image)
		}
	}
}

// from looks at one FROM line, and tells whether it is right.
func (l *linter) from(st *parser.Stage, globals scope, declared []string) bool {
	var base, platform noted
	name, err := l.x.Word(st.From.Image, base.lookup(globals))
	l.undeclared(st, base.missed, declared)
	if err != nil || name == "" {
		return false
	}
	if st.From.Platform == "" {
		return true
	}
	text, err := l.x.Word(st.From.Platform, platform.lookup(globals))
	l.undeclared(st, platform.missed, declared)
	target, _ := globals.lookup("TARGETPLATFORM")
	if text == target && len(platform.missed) == 0 && slices.Equal(platform.used, []string{"TARGETPLATFORM"}) {
		l.warnFrom(st, "RedundantTargetPlatform",
			"Setting platform to predefined %s in FROM is redundant as this is the default behavior", st.From.Platform)
	}
	p, perr := ParsePlatform(text)
	unknown := errors.Is(perr, errArchitecture) && strings.Contains(text, "/")
	if perr != nil && !unknown || text == "local" {
		return false
	}
	named := strings.Contains(st.Name, p.OS) || strings.Contains(st.Name, p.Architecture)
	if !named && len(platform.used)+len(platform.missed) == 0 {
		l.warnFrom(st, "FromPlatformFlagConstDisallowed", "FROM --platform flag should not use constant value %q", text)
	}
	return err == nil
}

func (l *linter) warnFrom(st *parser.Stage, rule, format string, args ...any) {
	l.warn(l.df.Check.With(st.From.Comments()), st.From.Range(), rule, format, args...)
}

// undeclared warns of variables that a FROM line names and nothing declares.
func (l *linter) undeclared(st *parser.Stage, missed, declared []string) {
	for _, name := range missed {
		if slices.Contains(declared, name) {
			continue
		}
		hint := ""
		if near := nearVariable(name, declared); near != "" {
			hint = " (did you mean " + near + "?)"
		}
		l.warnFrom(st, "UndefinedArgInFrom", "FROM argument '%s' is not declared%s", name, hint)
	}
}

// nearVariable gives the first name at the smallest distance from a misspelt
// one, which is two edits at most.
func nearVariable(name string, names []string) string {
	best, at := "", 3
	for _, n := range names {
		if d := editDistance(name, n); d < at {
			best, at = n, d
		}
	}
	return best
}

// editDistance counts the letters to insert, delete or replace that turn a
// into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost++
			}
			diag = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// platforms warns of base images that are for another platform than their stage.
func (l *linter) platforms(g *Graph) {
	for _, s := range g.Bases() {
		img := l.bases[s.ID]
		if img == nil || len(img.Config.RootFS.DiffIDs) == 0 {
			continue
		}
		have := img.Config.Platform
		if l.plan.Implied && !s.asksPlatform() && runsHere(have) {
			continue
		}
		if have.OS != s.Platform.OS || have.Architecture != s.Platform.Architecture {
			l.warn(l.df.Check, s.Range(), "InvalidBaseImagePlatform",
				"Base image %s was pulled with platform %q, expected %q for current build",
				l.writtenBase(g, s), image.FormatPlatform(image.NormalPlatform(have)), image.FormatPlatform(image.NormalPlatform(s.Platform)))
		}
	}
}

// asksPlatform reports whether the FROM line says for which platform it wants its
// base.
func (s *Step) asksPlatform() bool {
	f, ok := s.Instr.(*parser.From)
	return ok && f.Platform != ""
}

// writtenBase is the name of a base as the Dockerfile has it, without the tag
// that the plan adds.
func (l *linter) writtenBase(g *Graph, s *Step) string {
	if f, ok := s.Instr.(*parser.From); ok {
		if name, err := l.x.Word(f.Image, g.globals.lookup); err == nil {
			return name
		}
	}
	for _, user := range g.Steps {
		if i := slices.Index(user.Sources, s); i >= 0 {
			return sourceNames(user.Instr)[i]
		}
	}
	return s.Base
}
