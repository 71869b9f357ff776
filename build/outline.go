package build

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/parser"
)

// Outline is what a target takes from those who build it.
type Outline struct {
	// Name is the target's, empty for a stage without one.
	Name, Description string
	Args              []OutlineArg
	Secrets, SSH      []OutlineMount
}

// OutlineArg is an argument that the target, or a stage that it needs, declares or
// uses in its FROM line. Value is what it has in this build.
type OutlineArg struct {
	Name, Value, Description string
	Range                    parser.Range
}

// OutlineMount is a secret or an agent that a step asks for.
type OutlineMount struct {
	Name     string
	Required bool
	Range    parser.Range
}

// OutlineOf tells what the target of a plan takes, without building it. Base images
// that are not there are left out of account.
func OutlineOf(ctx context.Context, req CheckRequest) (*Outline, error) {
	l := newLinter(req.Dockerfile, lintInput{plan: req.Plan, ignore: req.Ignore})
	l.plan.Allow = Allowed{NetworkHost: true, SecurityInsecure: true, AllDevices: true}
	g, err := l.findBases(ctx, req)
	if err != nil {
		return nil, err
	}
	ends, err := l.walk(g)
	if err != nil {
		return nil, err
	}
	o := &outliner{l: l, g: g, ends: ends, seen: map[string]bool{}, visited: map[*parser.Stage]bool{}}
	if o.globals, err = o.globalArgs(); err != nil {
		return nil, err
	}
	if target := g.Target.Stage; target != nil {
		o.out.Name, o.out.Description = target.Name, docComment(target.From.Comments(), target.Name)
		o.stage(target)
	}
	slices.SortStableFunc(o.out.Args, func(a, b OutlineArg) int { return cmp.Compare(a.Range.Start, b.Range.Start) })
	for _, list := range [][]OutlineMount{o.out.Secrets, o.out.SSH} {
		slices.SortStableFunc(list, func(a, b OutlineMount) int { return cmp.Compare(a.Range.Start, b.Range.Start) })
	}
	return &o.out, nil
}

// outliner gathers an outline. The first definition of a name that is met counts:
// the target's own, then those of the stages below it, then those it reads from.
type outliner struct {
	l       *linter
	g       *Graph
	ends    map[*Step]*standing
	globals map[string]globalArg
	out     Outline
	seen    map[string]bool // "kind name"
	visited map[*parser.Stage]bool
}

// globalArg is a global argument, and the others that its value is made of.
type globalArg struct {
	OutlineArg
	from []string
}

func (o *outliner) globalArgs() (map[string]globalArg, error) {
	out := map[string]globalArg{}
	for _, arg := range o.l.df.Args {
		for _, def := range arg.Defs {
			a := globalArg{OutlineArg: OutlineArg{Name: def.Name, Description: docComment(arg.Comments(), def.Name), Range: arg.Range()}}
			a.Value, _ = o.g.globals.lookup(def.Name)
			if _, given := o.l.plan.Args[def.Name]; !given && def.Default != nil {
				var n noted
				if _, err := o.l.x.Word(*def.Default, n.lookup(o.g.globals)); err != nil {
					return nil, err
				}
				a.from = n.used
				if slices.Contains(n.used, def.Name) {
					a.from = append(a.from, out[def.Name].from...)
				}
			}
			out[def.Name] = a
		}
	}
	return out, nil
}

// stage adds what a stage takes, and then the stages that it needs.
func (o *outliner) stage(st *parser.Stage) {
	if o.visited[st] {
		return
	}
	o.visited[st] = true
	own := map[string]OutlineArg{}
	used := o.fromArgs(st)
	var below, sources []*Step
	for _, s := range o.g.Steps {
		if s.Stage != st {
			continue
		}
		if s.Parent != nil && !s.sameStage(s.Parent) {
			below = append(below, s.Parent)
		}
		sources = append(sources, s.Sources...)
		switch in := s.Instr.(type) {
		case *parser.Arg:
			used = append(used, o.stageArgs(s, in, own)...)
		case *parser.Run:
			o.mounts(s)
		}
	}
	o.args(used, own)
	for _, s := range append(below, sources...) {
		if s != nil && s.Stage != nil {
			o.stage(s.Stage)
		}
	}
}

// fromArgs are the arguments that a FROM line names.
func (o *outliner) fromArgs(st *parser.Stage) []string {
	var n noted
	for _, word := range []string{st.From.Image, st.From.Platform} {
		_, _ = o.l.x.Word(word, n.lookup(o.g.globals)) // the plan has found no mistake in them
	}
	return n.used
}

// stageArgs adds the definitions of an ARG to own, and gives all its names: one
// without a value of its own is the global one.
func (o *outliner) stageArgs(s *Step, in *parser.Arg, own map[string]OutlineArg) []string {
	names := make([]string, len(in.Defs))
	values := o.ends[s].Args[len(o.ends[s].Args)-len(in.Defs):]
	for i, def := range in.Defs {
		names[i] = def.Name
		_, given := o.l.plan.Args[def.Name]
		if _, global := o.g.globals.lookup(def.Name); global && !given && def.Default == nil {
			continue
		}
		a := OutlineArg{Name: def.Name, Description: docComment(in.Comments(), def.Name), Range: s.Range()}
		if v := values[i].Value; v != nil {
			a.Value = *v
		}
		own[def.Name] = a
	}
	return names
}

// args adds arguments by name, and those that they are made of.
func (o *outliner) args(names []string, own map[string]OutlineArg) {
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		a, ok := own[name]
		if !ok {
			var global globalArg
			if global, ok = o.globals[name]; !ok {
				continue
			}
			a = global.OutlineArg
			if !o.seen["arg "+name] {
				names = append(names, global.from...)
			}
		}
		if o.first("arg", name) {
			o.out.Args = append(o.out.Args, a)
		}
	}
}

// first reports whether a name of a kind is met for the first time.
func (o *outliner) first(kind, name string) bool {
	key := kind + " " + name
	met := o.seen[key]
	o.seen[key] = true
	return !met
}

// mounts adds the secrets and agents of a RUN.
func (o *outliner) mounts(s *Step) {
	deeds := o.ends[s].deeds
	for _, m := range deeds[len(deeds)-1].mounts {
		list := &o.out.Secrets
		switch m.Type {
		case "ssh":
			list = &o.out.SSH
		case "secret":
		default:
			continue
		}
		name := m.ID
		if m.Type == "ssh" {
			name = cmp.Or(name, "default")
		}
		if o.first(m.Type, name) {
			*list = append(*list, OutlineMount{Name: name, Required: m.Required, Range: s.Range()})
		}
	}
}

// docComment is what a comment above says of a name: "# name does this".
func docComment(comments []string, name string) string {
	if name == "" {
		return ""
	}
	for _, line := range comments {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			return text
		}
	}
	return ""
}

// Target is a stage that can be built.
type Target struct {
	// Name is empty for a stage without one. Base and Platform are what its FROM line says.
	Name, Description, Base, Platform string
	// Default says that it is built where no target is named.
	Default bool
	Range   parser.Range
}

// Targets are the stages of a Dockerfile.
func Targets(df *parser.Dockerfile) []Target {
	out := make([]Target, len(df.Stages))
	for i, st := range df.Stages {
		out[i] = Target{
			Name: st.Name, Description: docComment(st.From.Comments(), st.Name), Base: st.From.Image, Platform: st.From.Platform,
			Default: i == len(out)-1, Range: st.From.Range(),
		}
	}
	return out
}
