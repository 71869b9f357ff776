package build

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
)

// lintInput is what the rules look at besides the Dockerfile and its graph.
type lintInput struct {
	plan PlanOptions
	// bases holds the images that steps bring in, by step ID. Of one that is
	// not there nothing is known, and rules that depend on it find nothing.
	bases map[int]*image.Image
	// ignore holds the rules of the .dockerignore file, or nil.
	ignore *parser.Ignore
	// gitInContext says that the context has a repository's history.
	gitInContext bool
}

// linter asks the rules that need more than the Dockerfile's text. It carries
// a graph out without files: each step changes a State that is config and
// variables alone. What is asked of which stages, and in what order, is what
// BuildKit does: FROM lines of all stages, the rest of the stages in the graph.
type linter struct {
	lintInput
	df    *parser.Dockerfile
	x     parser.Expander
	found []parser.Warning // by BuildKit's rules, in its order
	ours  []parser.Warning // by our own
	// toldCopies are those that CopyBeforeInstall has been told of.
	toldCopies map[*Step]bool
	// stepArgs are the arguments that steps declare, triggers among them.
	stepArgs []string
}

func newLinter(df *parser.Dockerfile, in lintInput) *linter {
	l := &linter{lintInput: in, df: df, x: parser.Expander{Escape: df.Escape}, toldCopies: map[*Step]bool{}}
	for _, w := range df.Warnings {
		l.tell(w)
	}
	return l
}

// warn adds a finding, unless check asks for none of its rule.
func (l *linter) warn(check parser.Check, at parser.Range, rule, format string, args ...any) {
	if check.Wants(rule) {
		l.tell(parser.Warning{Range: at, Rule: rule, Msg: fmt.Sprintf(format, args...)})
	}
}

func (l *linter) tell(w parser.Warning) {
	list := &l.found
	if parser.RuleNamed(w.Rule).Own {
		list = &l.ours
	}
	*list = append(*list, w)
}

// warnStep adds a finding about a step; a comment above it may silence the rule.
func (l *linter) warnStep(s *Step, rule, format string, args ...any) {
	l.warn(l.df.Check.With(s.Instr.Comments()), s.Range(), rule, format, args...)
}

// graph asks the rules about the stages that are in the graph. Its error is
// that of the first step that cannot be carried out.
func (l *linter) graph(g *Graph) error {
	l.platforms(g)
	ends, err := l.walk(g)
	if err != nil {
		return err
	}
	l.own(g, l.end(g.Target, ends))
	return nil
}

// walk carries out the stages that are in the graph, and gives how each stood after
// each of its steps.
func (l *linter) walk(g *Graph) (map[*Step]*standing, error) {
	steps := map[*parser.Stage][]*Step{}
	needed := g.needed()
	for _, s := range g.Steps {
		// Triggers run in stages that the target needs, also when all are looked at.
		if s.Stage != nil && (!s.Trigger || needed[s.Stage]) {
			steps[s.Stage] = append(steps[s.Stage], s)
		}
	}
	ends := map[*Step]*standing{}
	for _, st := range l.df.Stages {
		at := (*standing)(nil)
		for _, s := range steps[st] {
			var err error
			if at, err = l.step(g, s, at, ends); err != nil {
				return nil, l.place(s, err)
			}
			ends[s] = at
		}
	}
	return ends, nil
}

// needed gives the stages that the target needs, itself among them.
func (g *Graph) needed() map[*parser.Stage]bool {
	stages := map[*parser.Stage]bool{}
	seen := map[*Step]bool{}
	var visit func(*Step)
	visit = func(s *Step) {
		if seen[s] {
			return
		}
		seen[s] = true
		if s.Stage != nil {
			stages[s.Stage] = true
		}
		for _, in := range s.inputs() {
			visit(in)
		}
	}
	visit(g.Target)
	return stages
}

// place makes the error of a step that no build could carry out.
func (l *linter) place(s *Step, err error) error {
	name := s.instructionName()
	if s.Trigger {
		name = "ONBUILD trigger " + name
	}
	return &parser.Error{File: l.df.File, Range: s.Range(), Msg: fmt.Sprintf("%s: %v", name, err), Err: err}
}

// violation is the error that "# check=error=true" makes of findings. It is
// BuildKit's rules alone that fail a build.
func violation(df *parser.Dockerfile, found []parser.Warning) error {
	if !df.Check.Error {
		return nil
	}
	var rules []string
	for _, w := range found {
		if r := parser.RuleNamed(w.Rule); r.Name != "" && !r.Own && !slices.Contains(rules, r.Name) {
			rules = append(rules, r.Name)
		}
	}
	if len(rules) == 0 {
		return nil
	}
	return &parser.Error{
		File: df.File, Msg: "lint violation found for rules: " + strings.Join(rules, ", "),
		Hint: "check=error=true asks for this; mend what is found, or skip a rule: # check=skip=" + rules[0],
	}
}
