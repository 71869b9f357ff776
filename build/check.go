package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
)

// CheckRequest is what Check needs to know.
type CheckRequest struct {
	Dockerfile *parser.Dockerfile
	// ContextDir is the directory that COPY and ADD would read, or empty.
	ContextDir string
	// Fetched is the context instead of ContextDir, or nil.
	Fetched *Fetched
	// Ignore holds the rules of the .dockerignore file; nil ignores nothing.
	Ignore *parser.Ignore
	// Plan is the plan of the build that would be made. Without a target all
	// stages are looked at.
	Plan PlanOptions
	// Bases finds base images. One that it has not (image.ErrNotFound) is
	// left out of account; nil has none.
	Bases Bases
	Pull  PullPolicy
}

// Check asks all rules about a Dockerfile and builds nothing. The error is what
// would stop a build before its first step, a *parser.Error; the warnings are
// what was found until then, in the order in which BuildKit finds them, and then
// what rules of our own found.
func Check(ctx context.Context, req CheckRequest) ([]parser.Warning, error) {
	l := newLinter(req.Dockerfile, lintInput{plan: req.Plan, ignore: req.Ignore, gitInContext: gitInContext(contextDir(req.ContextDir, req.Fetched), req.Ignore)})
	l.plan.AllStages = req.Plan.Target == ""
	// What a build may do is not the Dockerfile's business.
	l.plan.Allow = Allowed{NetworkHost: true, SecurityInsecure: true, AllDevices: true}
	l.froms()
	g, err := l.findBases(ctx, req)
	if err == nil {
		err = l.graph(g)
	}
	l.unusedArgs()
	if err == nil {
		err = violation(req.Dockerfile, l.found)
	}
	return append(l.found, l.ours...), err
}

// contextDir is the directory with a context's files, or empty.
func contextDir(dir string, f *Fetched) string {
	if f != nil {
		return f.dir
	}
	return dir
}

// gitInContext tells whether a context has a repository's history in it.
func gitInContext(dir string, ignore *parser.Ignore) bool {
	if dir == "" {
		return false
	}
	info, err := os.Lstat(filepath.Join(dir, ".git"))
	if err != nil || !info.IsDir() {
		return false
	}
	m, err := ignore.Excluded(".git", parser.Match{})
	return err == nil && !m.Excluded
}

// findBases makes the graph and looks its base images up. As in a build their
// triggers may bring in more.
func (l *linter) findBases(ctx context.Context, req CheckRequest) (*Graph, error) {
	l.plan.Triggers = map[string][]string{}
	for range maxReplans {
		g, err := Plan(l.df, l.plan)
		if err != nil {
			return nil, err
		}
		more := false
		l.bases = map[int]*image.Image{}
		for _, s := range g.Bases() {
			img, err := l.base(ctx, req, s)
			if err != nil {
				return nil, l.place(s, hintBase(g, s, err))
			}
			if img == nil {
				continue
			}
			l.bases[s.ID] = img
			if _, known := l.plan.Triggers[s.base()]; !known && len(img.Config.Config.OnBuild) > 0 {
				l.plan.Triggers[s.base()], more = img.Config.Config.OnBuild, true
			}
		}
		if !more {
			return g, nil
		}
	}
	return nil, errTriggers
}

func (l *linter) base(ctx context.Context, req CheckRequest, s *Step) (*image.Image, error) {
	if req.Bases == nil || s.Base == "" {
		return nil, nil
	}
	ref, err := image.ParseRef(s.Base)
	if err != nil {
		return nil, err
	}
	img, err := req.Bases.Image(ctx, ref, s.Platform, req.Pull)
	if errors.Is(err, image.ErrNotFound) {
		return nil, nil
	}
	return img, err
}

// lint tells of everything that the rules find in the build's stages, or, where
// there is no plan for them, in the FROM lines. Its error is that of an
// instruction which cannot be carried out, known before the first one is, or of
// a Dockerfile that wants no warnings.
func (r *run) lint(planned bool) error {
	df := r.req.Dockerfile
	graph, bases, err := r.firstPlan(planned)
	if err != nil {
		return err
	}
	l := newLinter(df, lintInput{
		plan: r.req.Plan, bases: bases, ignore: r.req.Ignore, gitInContext: gitInContext(contextDir(r.req.ContextDir, r.req.Fetched), r.req.Ignore),
	})
	l.froms()
	if planned {
		err = l.graph(graph)
		if err == nil && len(r.graph.Targets) > 1 {
			l.bases = r.bases
			l.platforms(r.graph)
		}
	}
	l.unusedArgs()
	for _, w := range append(l.found, l.ours...) {
		if slices.Contains(r.warnings, w) {
			continue
		}
		r.event(Event{Kind: Warned, Text: w.Msg, Rule: w.Rule, Range: w.Range})
		r.warnings = append(r.warnings, w)
	}
	if err != nil {
		return err
	}
	return violation(df, r.warnings)
}

// firstPlan is the graph of the first result alone, with its base images: rules
// are asked once, as BuildKit does.
func (r *run) firstPlan(planned bool) (*Graph, map[int]*image.Image, error) {
	if !planned || len(r.graph.Targets) == 1 {
		return r.graph, r.bases, nil
	}
	name := func(s *Step) string { return s.base() + " " + image.FormatPlatform(s.Platform) }
	found := map[string]*image.Image{}
	o := r.req.Plan
	o.Triggers = map[string][]string{}
	for id, img := range r.bases {
		s := r.graph.Steps[id]
		found[name(s)] = img
		o.Triggers[s.base()] = img.Config.Config.OnBuild
	}
	first := r.wanted()[0]
	o.Target, o.Platform = first.Target, first.Platform
	g, err := Plan(r.req.Dockerfile, o)
	if err != nil {
		return nil, nil, err
	}
	bases := map[int]*image.Image{}
	for _, s := range g.Bases() {
		bases[s.ID] = found[name(s)]
	}
	return g, bases, nil
}
