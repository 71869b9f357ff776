package build

import (
	"strings"

	"github.com/ocibuild/ocibuild/parser"
)

// sends reports whether a directory of the context is part of the build:
// BuildKit's client sends what the steps of the plan name, with the directories
// that lead there, and nothing beside. It matters to a wildcard that matches
// nothing: the directory it is about may be missing then. What a variable
// names is taken for everything.
func (r *run) sends(dir string) bool {
	for _, s := range r.graph.Steps {
		for _, source := range contextSources(s.Instr) {
			if strings.Contains(source, "$") || selectsIn(r.context, source, dir) {
				return true
			}
		}
	}
	return false
}

// contextSources are the paths of the context that an instruction names.
func contextSources(in parser.Instruction) []string {
	switch in := in.(type) {
	case *parser.Copy:
		if in.From == "" {
			return in.Sources
		}
	case *parser.Add:
		return in.Sources
	case *parser.Run:
		var out []string
		for _, m := range in.Mounts {
			if m.Type == "bind" && m.From == "" {
				out = append(out, m.Source)
			}
		}
		return out
	}
	return nil
}

// selectsIn reports whether a source is dir, something in it, or a directory
// that holds it.
func selectsIn(t tree, source, dir string) bool {
	names, err := globbed(t, clean(source))
	if err != nil {
		return true
	}
	for _, name := range names {
		if at, _, err := find(t, name); err == nil && (within(at, dir) || within(dir, at)) {
			return true
		}
	}
	return false
}

// within reports whether p is dir or below it.
func within(p, dir string) bool {
	return dir == "" || p == dir || strings.HasPrefix(p, dir+"/")
}
