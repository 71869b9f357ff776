package build

import (
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/parser"
)

// scope is an environment: variables in the order of their last assignment,
// the order BuildKit hands them to a process in. It is immutable; with gives
// a new one.
type scope []string

// scopeOf makes a scope of "NAME=value" words; a later one replaces an earlier.
func scopeOf(env []string) scope {
	var s scope
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		s = s.with(name, value)
	}
	return s
}

func (s scope) lookup(name string) (string, bool) {
	for _, e := range s {
		if k, v, _ := strings.Cut(e, "="); k == name {
			return v, true
		}
	}
	return "", false
}

// names lists the variables.
func (s scope) names() []string {
	out := make([]string, len(s))
	for i, e := range s {
		out[i], _, _ = strings.Cut(e, "=")
	}
	return out
}

func (s scope) with(name, value string) scope {
	return append(s.without(name), name+"="+value)
}

func (s scope) without(name string) scope {
	return slices.DeleteFunc(slices.Clone(s), func(e string) bool {
		k, _, _ := strings.Cut(e, "=")
		return k == name
	})
}

// setEnv replaces a variable of an image's Env in place, or appends it: the
// order `docker inspect` shows.
func setEnv(env []string, name, value string) []string {
	out := slices.Clone(env)
	for i, e := range out {
		if k, _, _ := strings.Cut(e, "="); k == name {
			out[i] = name + "=" + value
			return out
		}
	}
	return append(out, name+"="+value)
}

// noted is what the expansion of a word asked for, each name once.
type noted struct{ used, missed []string }

// lookup gives the variables of env and notes the questions.
func (n *noted) lookup(env scope) parser.Lookup {
	return func(name string) (string, bool) {
		value, ok := env.lookup(name)
		list := &n.missed
		if ok {
			list = &n.used
		}
		if !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
		return value, ok
	}
}
