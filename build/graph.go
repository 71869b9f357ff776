package build

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Graph is the plan of a build: the steps that the target needs, in an order
// in which every step comes after its inputs. It is plain data.
type Graph struct {
	Dockerfile *parser.Dockerfile
	Steps      []*Step
	// Target is the step whose State becomes the first image that is wanted.
	Target *Step
	// Targets are the steps whose States become images, in the order of what
	// is wanted; two may be the same step.
	Targets []*Step
	// EpochSources are what the plan has no time for; see PlanOptions.Epochs.
	EpochSources []*EpochSource
	// globals are the arguments of the FROM lines for the first of them.
	globals scope
	// deeds counts the steps that may do the same.
	deeds map[string]int
}

// twin reports whether another step of the graph may do the same as s, with
// another name. Words alone tell: two steps that look the same need not be.
func (g *Graph) twin(s *Step) bool {
	return g.deeds[s.deedText()] > 1
}

// deedText is the same for steps that do the same but for what they begin with.
func (s *Step) deedText() string {
	words := strings.Fields(strings.ToLower(s.Instr.Text()))
	for i, w := range words {
		words[i] = strings.TrimSuffix(strings.TrimPrefix(w, "./"), "/")
	}
	return image.FormatPlatform(s.Platform) + " " + strings.Join(words, " ")
}

// countDeeds counts the steps of each deed that have names of their own.
func (g *Graph) countDeeds() {
	g.deeds = map[string]int{}
	seen := map[string]bool{}
	for _, s := range g.Steps {
		if !s.Working() || s.Instr == nil {
			continue
		}
		if name := stepName(s) + image.FormatPlatform(s.Platform); !seen[name] {
			seen[name] = true
			g.deeds[s.deedText()]++
		}
	}
}

// Step is one node of the graph: an instruction and the steps whose State it
// reads. A stage begins with its *parser.From, which has a Base if it names an
// image and a Parent if it names a stage.
type Step struct {
	// ID is the step's place in Graph.Steps, from 0.
	ID int
	// Stage is the stage the step belongs to; nil for an image that only
	// `--from=image` names.
	Stage *parser.Stage
	// Instr is the instruction, unexpanded; nil for an image, or scratch, that only
	// --from names.
	Instr parser.Instruction
	// Parent is the step whose State this one continues; nil at a stage's start.
	Parent *Step
	// Sources are the last steps of the stages and images that --from names,
	// in the order of the instruction's flags; a nil stands for the context.
	Sources []*Step
	// Base is the reference of the image this step brings in, with its default tag.
	Base string
	// Context is the named context whose files this step brings in, or nil.
	Context *Context
	// Platform is the platform of the stage.
	Platform ocispec.Platform
	// Trigger says that the instruction is an ONBUILD trigger of the base.
	Trigger bool
	// Number and Of place the step among the steps of its stage that do work
	// ("[build 2/5]"); 0 for steps that only change the config.
	Number, Of int
	// place is where an image without a stage is named.
	place parser.Range
	// globals are the arguments that an ARG of the stage can take a value from,
	// given those that it has to.
	globals scope
	given   map[string]string
	// epoch is the time of what the step writes, if one is set.
	epoch *time.Time
	// several says that the build is for several platforms: names tell which.
	several bool
}

// Range is the step's place in the Dockerfile; for a trigger, that of the
// FROM line that brought it.
func (s *Step) Range() parser.Range {
	switch {
	case s.Stage == nil:
		return s.place
	case s.Trigger:
		return s.Stage.From.Range()
	}
	return s.Instr.Range()
}

// instructionName is the instruction as errors show it, on one line.
func (s *Step) instructionName() string {
	switch {
	case s.Context != nil:
		return "load context " + s.Context.Name
	case s.Instr == nil:
		return "FROM " + s.Base
	}
	text := strings.Join(strings.Fields(s.Instr.Text()), " ")
	if r := []rune(text); len(r) > 80 {
		text = string(r[:77]) + "..."
	}
	return text
}

// Working reports whether the step may do work worth showing: bring in an
// image, or change files. The others only change the image config.
func (s *Step) Working() bool {
	switch s.Instr.(type) {
	case *parser.Run, *parser.Copy, *parser.Add, *parser.Workdir:
		return true
	}
	return s.Base != "" || s.Context != nil
}

// Name is the step as progress shows it: "[build 2/5] RUN make".
func (s *Step) Name() string {
	text := "FROM " + s.Base
	switch {
	case s.Context != nil:
		text = s.Context.String()
	case s.Base != "":
	case s.Instr == nil:
		text = "FROM " + scratchName
	default:
		text = strings.Join(strings.Fields(s.Instr.Text()), " ")
	}
	if prefix := s.prefix(); prefix != "" {
		return prefix + " " + text
	}
	return text
}

func (s *Step) prefix() string {
	if s.Context != nil {
		return "[context " + s.Context.Name + "]"
	}
	if s.Stage == nil {
		return "[context]"
	}
	name := s.StageName()
	if s.several {
		name = image.FormatPlatform(s.Platform) + " " + name
	}
	if s.Number == 0 {
		return "[" + name + "]"
	}
	return fmt.Sprintf("[%s %d/%d]", name, s.Number, s.Of)
}

// StageName is the stage's name, or "stage-N" for one without.
func (s *Step) StageName() string {
	if s.Stage == nil {
		return ""
	}
	if s.Stage.Name != "" {
		return s.Stage.Name
	}
	return fmt.Sprintf("stage-%d", s.Stage.Index)
}

// inputs are all steps that must be finished before s.
func (s *Step) inputs() []*Step {
	var in []*Step
	if s.Parent != nil {
		in = append(in, s.Parent)
	}
	for _, src := range s.Sources {
		if src != nil {
			in = append(in, src)
		}
	}
	return in
}

// runFollows reports whether some RUN works on what s leaves behind.
func (g *Graph) runFollows(s *Step) bool {
	for _, next := range g.Steps[s.ID+1:] {
		if next.Parent != s {
			continue
		}
		if _, ok := next.Instr.(*parser.Run); ok || g.runFollows(next) {
			return true
		}
	}
	return false
}

// runs counts the RUNs.
func (g *Graph) runs() int {
	n := 0
	for _, s := range g.Steps {
		if _, ok := s.Instr.(*parser.Run); ok {
			n++
		}
	}
	return n
}

// Bases lists the distinct images the graph brings in, by reference and
// platform, in the order of the steps.
func (g *Graph) Bases() []*Step {
	var out []*Step
	for _, s := range g.Steps {
		if s.base() != "" {
			out = append(out, s)
		}
	}
	return out
}

// base is the name of the image the step brings in, as PlanOptions.Triggers
// knows it, or "".
func (s *Step) base() string {
	if s.Context != nil {
		return s.Context.base()
	}
	return s.Base
}

// stepJSON is the printed form of a step.
type stepJSON struct {
	ID       int    `json:"id"`
	Name     string `json:"name"`
	Stage    string `json:"stage,omitempty"`
	Line     int    `json:"line,omitempty"`
	Base     string `json:"base,omitempty"`
	Inputs   []int  `json:"inputs"`
	Platform string `json:"platform"`
	Target   bool   `json:"target,omitempty"`
}

func (g *Graph) printed() []stepJSON {
	out := make([]stepJSON, 0, len(g.Steps))
	for _, s := range g.Steps {
		j := stepJSON{
			ID: s.ID, Name: s.Name(), Stage: s.StageName(), Base: s.Base,
			Inputs: []int{}, Platform: image.FormatPlatform(s.Platform), Target: slices.Contains(g.Targets, s),
		}
		if s.Instr != nil {
			j.Line = s.Instr.Range().Start
		}
		for _, in := range s.inputs() {
			j.Inputs = append(j.Inputs, in.ID)
		}
		out = append(out, j)
	}
	return out
}

// WriteJSON prints the graph as {"steps": [{id, name, stage, line, base, inputs, platform, target}]}.
func (g *Graph) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"steps": g.printed()})
}

// WriteDOT prints the graph in Graphviz's language, an arrow from each input to its user.
func (g *Graph) WriteDOT(w io.Writer) error {
	var b strings.Builder
	b.WriteString("digraph build {\n  rankdir=LR;\n  node [shape=box, fontname=monospace];\n")
	for _, s := range g.printed() {
		style := ""
		if s.Target {
			style = ", style=bold"
		}
		fmt.Fprintf(&b, "  s%d [label=%s%s];\n", s.ID, dotQuote(s.Name), style)
		for _, in := range s.Inputs {
			fmt.Fprintf(&b, "  s%d -> s%d;\n", in, s.ID)
		}
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func dotQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// inResult reports whether a result has all layers that are there after a step.
func (g *Graph) inResult(s *Step) bool {
	for _, target := range g.Targets {
		for at := target; at != nil; at = at.Parent {
			if at == s {
				return true
			}
		}
	}
	return false
}

// sameness tells steps apart: those with the same do the same.
func (s *Step) sameness() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %s", s.Base, image.FormatPlatform(s.Platform))
	if s.Context != nil {
		fmt.Fprintf(&b, " context %q", s.Context.Name)
	}
	for _, in := range append([]*Step{s.Parent}, s.Sources...) {
		if in == nil {
			b.WriteString(" -")
			continue
		}
		fmt.Fprintf(&b, " %d", in.ID)
	}
	if s.Stage != nil {
		fmt.Fprintf(&b, " stage %d line %d %t %q", s.Stage.Index, s.Instr.Range().Start, s.Trigger, s.Instr.Text())
	}
	if s.epoch != nil {
		b.WriteString(" epoch " + unixText(s.epoch))
	}
	if arg, ok := s.Instr.(*parser.Arg); ok {
		for _, def := range arg.Defs {
			v, ok := s.globals.lookup(def.Name)
			fmt.Fprintf(&b, " %t %q", ok, v)
		}
	}
	return b.String()
}

// number gives the working steps of each stage their place, as in "[build 2/5]".
func (g *Graph) number() {
	several := slices.ContainsFunc(g.Targets, func(s *Step) bool {
		return image.FormatPlatform(s.Platform) != image.FormatPlatform(g.Target.Platform)
	})
	done, total := map[*Step]int{}, map[*Step]int{}
	for _, s := range g.Steps {
		s.several = several
		if s.Stage == nil {
			continue
		}
		if s.sameStage(s.Parent) {
			done[s] = done[s.Parent]
		}
		if s.Working() {
			done[s]++
			s.Number = done[s]
		}
		total[s] = done[s]
	}
	for _, s := range slices.Backward(g.Steps) {
		s.Of = total[s]
		if s.sameStage(s.Parent) {
			total[s.Parent] = max(total[s.Parent], total[s])
		}
	}
}

func (s *Step) sameStage(other *Step) bool { return other != nil && other.Stage == s.Stage }
