package build

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/parser"
)

// scratchName is the base that is no image: FROM scratch.
const scratchName = "scratch"

// Plan makes the graph of steps that the target needs. It is pure: the same
// arguments give the same graph, and neither files nor network are touched.
// Errors are *parser.Error.
//
// The ONBUILD triggers of base images are part of the plan but not of the
// Dockerfile: the caller looks at the images of Graph.Bases and plans again
// with PlanOptions.Triggers when one has some.
func Plan(df *parser.Dockerfile, o PlanOptions) (*Graph, error) {
	return PlanAll(df, o, []Wanted{{Target: o.Target, Platform: o.Platform}})
}

// PlanAll is Plan for several results, which take the place of o's Target and
// Platform. A step that is the same for several of them stands in the graph once:
// what a stage for the build machine does for each platform is done once unless
// it asks for which.
func PlanAll(df *parser.Dockerfile, o PlanOptions, wanted []Wanted) (*Graph, error) {
	g := &Graph{Dockerfile: df}
	steps := map[string]*Step{}
	for _, w := range wanted {
		o.Target, o.Platform = w.Target, w.Platform
		p := &planner{df: df, o: o, last: map[int]*Step{}, graph: g, steps: steps}
		target, err := p.plan()
		if err != nil {
			return nil, err
		}
		g.Targets = append(g.Targets, target)
		if g.Target == nil {
			g.Target, g.globals = target, p.globals
		}
	}
	g.number()
	g.countDeeds()
	return g, nil
}

// planner is the state of the plan of one result.
type planner struct {
	df      *parser.Dockerfile
	o       PlanOptions
	graph   *Graph
	globals scope
	given   map[string]string // the build arguments
	epoch   *time.Time        // of what the build writes, if one is set
	froms   []from            // of every stage, expanded
	last    map[int]*Step     // last step of the stages planned so far
	steps   map[string]*Step  // all steps of the graph, by what tells them apart
}

// plan adds a result's steps to the graph, and gives the one whose State
// becomes the image.
func (p *planner) plan() (*Step, error) {
	if err := p.prepare(); err != nil {
		return nil, err
	}
	i, err := p.target()
	if err != nil {
		return nil, err
	}
	target, err := p.stage(i)
	if err != nil {
		return nil, err
	}
	if p.o.AllStages {
		for i := range p.df.Stages {
			if _, err := p.stage(i); err != nil {
				return nil, err
			}
		}
	}
	return p.filesystem(target, p.df.Stages[i], p.froms[i].platform)
}

// fail makes the error of a place in the Dockerfile.
func (p *planner) fail(r parser.Range, hint, format string, args ...any) error {
	return &parser.Error{File: p.df.File, Range: r, Msg: fmt.Sprintf(format, args...), Hint: hint}
}

// prepare evaluates the global arguments and every FROM line: these must be
// right even in stages that are not built.
func (p *planner) prepare() error {
	var err error
	if p.globals, err = globalArgs(p.df, p.o, p.o.Args); err != nil {
		return err
	}
	if err = p.setEpoch(); err != nil {
		return err
	}
	names := map[string]int{}
	for i, st := range p.df.Stages {
		f, err := p.from(st, names)
		if err != nil {
			return err
		}
		p.froms = append(p.froms, f)
		if st.Name != "" {
			names[st.Name] = i
		}
	}
	return p.checkSources()
}

// target finds the stage to build.
func (p *planner) target() (int, error) {
	if p.o.Target == "" {
		return len(p.df.Stages) - 1, nil
	}
	if i, ok := p.stageNamed(p.o.Target); ok {
		return i, nil
	}
	if i, err := strconv.Atoi(p.o.Target); err == nil && i >= 0 && i < len(p.df.Stages) {
		return i, nil // as docker build always took it; BuildKit knows names alone
	}
	hint := p.stageHint(p.o.Target)
	if hint == "" {
		hint = "the Dockerfile has " + p.stageList()
	}
	return 0, p.fail(parser.Range{}, hint, "target stage %q could not be found", p.o.Target)
}

func (p *planner) stageList() string {
	var names []string
	for i, st := range p.df.Stages {
		if st.Name != "" {
			names = append(names, st.Name)
		} else {
			names = append(names, strconv.Itoa(i))
		}
	}
	return "the stages " + strings.Join(names, ", ")
}

// stageNamed finds the last stage of a name, in any case.
func (p *planner) stageNamed(name string) (int, bool) {
	for i := len(p.df.Stages) - 1; i >= 0; i-- {
		if st := p.df.Stages[i]; st.Name != "" && st.Name == strings.ToLower(name) {
			return i, true
		}
	}
	return 0, false
}

// stage plans a stage and what it needs, once, and gives its last step.
func (p *planner) stage(i int) (*Step, error) {
	if s, ok := p.last[i]; ok {
		return s, nil
	}
	st := p.df.Stages[i]
	f := p.froms[i]
	prev, err := p.start(st, f)
	if err != nil {
		return nil, err
	}
	if f.replaced {
		p.last[i] = prev
		return prev, nil
	}
	triggers, err := p.triggers(st, f)
	if err != nil {
		return nil, err
	}
	for _, t := range triggers {
		if prev, err = p.instruction(prev, t, true); err != nil {
			return nil, err
		}
	}
	for _, in := range st.Body {
		if prev, err = p.instruction(prev, in, false); err != nil {
			return nil, err
		}
	}
	p.last[i] = prev
	return prev, nil
}

// start gives the step that a stage begins with, or that stands for all of it.
func (p *planner) start(st *parser.Stage, f from) (*Step, error) {
	start := &Step{Stage: st, Instr: st.From, Base: f.image, Platform: f.platform}
	switch {
	case f.replaced:
		return p.bring(f.context, f.platform, st.From.Range()), nil
	case f.context != nil && f.context.files():
		return p.filesystem(p.bring(f.context, f.platform, st.From.Range()), st, f.platform)
	case f.context != nil:
		start.Base = f.context.Image
		if start.Base == "" {
			start.Context = f.context
		}
	case f.stage >= 0:
		parent, err := p.stage(f.stage)
		if err != nil {
			return nil, err
		}
		if parent, err = p.filesystem(parent, st, f.platform); err != nil {
			return nil, err
		}
		start.Parent = parent
	}
	return p.add(start), nil
}

// triggers are the ONBUILD instructions a stage inherits from its base.
func (p *planner) triggers(st *parser.Stage, f from) ([]parser.Instruction, error) {
	texts, owner := p.o.Triggers[f.base()], f.base()
	if f.stage >= 0 {
		if p.froms[f.stage].replaced {
			return nil, nil
		}
		base := p.df.Stages[f.stage]
		texts, owner = nil, "stage "+stageLabel(base)
		for _, in := range base.Body {
			if ob, ok := in.(*parser.OnBuild); ok {
				texts = append(texts, ob.Trigger)
			}
		}
	}
	var out []parser.Instruction
	for _, text := range texts {
		in, err := parser.ParseTrigger("", text)
		if err != nil {
			return nil, p.fail(st.From.Range(), "", "ONBUILD trigger %q of %s: %v", text, owner, err)
		}
		out = append(out, in)
	}
	return out, nil
}

// instruction plans one instruction after prev.
func (p *planner) instruction(prev *Step, in parser.Instruction, trigger bool) (*Step, error) {
	s := &Step{Stage: prev.Stage, Instr: in, Parent: prev, Platform: prev.Platform, Trigger: trigger}
	if in, ok := in.(*parser.Run); ok {
		if err := p.allows(s, in); err != nil {
			return nil, err
		}
	}
	for _, name := range sourceNames(in) {
		var src *Step
		if name != "" {
			var err error
			if src, err = p.source(s, name); err != nil {
				return nil, err
			}
		}
		s.Sources = append(s.Sources, src)
	}
	return p.add(s), nil
}

// sourceNames are the stages and images an instruction reads beside its own
// stage: COPY --from, and for each mount of a RUN its from; "" is the context.
func sourceNames(in parser.Instruction) []string {
	switch in := in.(type) {
	case *parser.Copy:
		return []string{in.From}
	case *parser.Run:
		names := make([]string, len(in.Mounts))
		for i, m := range in.Mounts {
			names[i] = m.From
		}
		return names
	}
	return nil
}

// source finds what --from names for step s: a stage above it, by name or
// index, or an image.
func (p *planner) source(s *Step, name string) (*Step, error) {
	r := s.Range()
	x := parser.Expander{Escape: p.df.Escape}
	if v, err := x.Word(name, func(string) (string, bool) { return "", false }); err != nil || v != name {
		return nil, p.fail(r, "name a stage with FROM $ARG AS name and copy from that", "variable expansion is not supported for --from")
	}
	i, ok, err := p.stageOf(s.Instr, name, r)
	if err != nil {
		return nil, err
	}
	if !ok {
		return p.image(s, name)
	}
	if i >= s.Stage.Index {
		return nil, p.fail(r, "move the stage above this one", "cannot copy from stage %q, it needs to be defined before current stage %q", name, s.StageName())
	}
	return p.stage(i)
}

// image gives the step that brings in an image only --from names.
func (p *planner) image(s *Step, name string) (*Step, error) {
	if name == scratchName {
		return p.add(&Step{Platform: p.o.Platform, place: s.Range()}), nil
	}
	if c, err := p.context(name, p.o.Platform, s.Range()); err != nil || c != nil {
		if err != nil {
			return nil, err
		}
		return p.bring(c, p.o.Platform, s.Range()), nil
	}
	ref, err := p.imageName(name, s.Range())
	if err != nil {
		return nil, err
	}
	return p.add(&Step{Base: ref, Platform: p.o.Platform, place: s.Range()}), nil
}

// add puts a step into the graph, or gives the one there that does the same.
func (p *planner) add(s *Step) *Step {
	s.globals, s.given, s.epoch = p.globals, p.given, p.epoch
	name := s.sameness()
	if have, ok := p.steps[name]; ok {
		return have
	}
	s.ID = len(p.graph.Steps)
	p.graph.Steps = append(p.graph.Steps, s)
	p.steps[name] = s
	return s
}

func stageLabel(st *parser.Stage) string {
	if st.Name != "" {
		return st.Name
	}
	return strconv.Itoa(st.Index)
}
