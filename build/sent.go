package build

import (
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/parser"
)

// sends reports whether a directory of the context is part of the build:
// BuildKit's client sends what the steps of the plan name, with the directories
// that lead there, and nothing beside. It matters to a wildcard that matches
// nothing: the directory it is about may be missing then. What a variable
// names is taken for everything, and so is the missing source of a tmpfs.
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
		return slices.DeleteFunc(slices.Clone(in.Sources), func(s string) bool {
			o, err := originOf(s)
			return err != nil || o.remote()
		})
	case *parser.Run:
		var out []string
		for _, m := range in.Mounts {
			if m.From == "" && (strings.EqualFold(m.Type, "bind") || strings.EqualFold(m.Type, "tmpfs")) {
				out = append(out, m.Source)
			}
		}
		return out
	}
	return nil
}

// selectsIn reports whether a source is dir, something in it, or a directory
// that holds it. The client reads sources as patterns of its own, with ** for any
// number of directories, after it has looked where links lead.
func selectsIn(t tree, source, dir string) bool {
	source = clean(source)
	names, _ := globbed(t, source) // what cannot be looked up is not sent
	for _, name := range names {
		if at, _, err := find(t, name); err == nil && (within(at, dir) || within(dir, at)) {
			return true
		}
	}
	pattern, err := parser.NewIgnore([]string{source})
	return err != nil || matchesIn(t, pattern, "", dir, parser.Match{})
}

// matchesIn reports whether the pattern matches at, which leads to dir or is in
// it, or anything below that.
func matchesIn(t tree, pattern *parser.Ignore, at, dir string, above parser.Match) bool {
	if at != "" {
		m, err := pattern.Excluded(at, above)
		if err != nil || m.Excluded {
			return true
		}
		above = m
	}
	e, err := t.lookup(at)
	if err != nil || e.Type != typeDir {
		return false
	}
	names, err := t.names(at)
	if err != nil {
		return true
	}
	for _, name := range names {
		p := join(at, name)
		if (within(p, dir) || within(dir, p)) && matchesIn(t, pattern, p, dir, above) {
			return true
		}
	}
	return false
}

// within reports whether p is dir or below it.
func within(p, dir string) bool {
	return dir == "" || p == dir || strings.HasPrefix(p, dir+"/")
}
