package build

import (
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/parser"
)

// builtinArgs are build arguments that mean something without being declared.
var builtinArgs = []string{"SOURCE_DATE_EPOCH", "BUILDKIT_CONTEXT_KEEP_GIT_DIR", "BUILDKIT_DOCKERFILE_CHECK", "BUILDKIT_SYNTAX", hostnameArg, cacheNamespaceArg}

// unusedArgs warns of --build-arg values that nothing takes.
func (l *linter) unusedArgs() {
	declared := l.declaredArgs()
	var unused []string
	for name := range l.plan.Args {
		if !slices.Contains(declared, name) && !slices.Contains(builtinArgs, name) && !isProxyArg(name) {
			unused = append(unused, name)
		}
	}
	slices.Sort(unused)
	for _, name := range unused {
		hint := "declare it with ARG " + name + " where it is used, or leave it out"
		if strings.HasPrefix(name, "BUILDKIT_") {
			hint = "ocibuild has nothing in the place of what BuildKit does with it"
		}
		if near := parser.Nearest(name, slices.Concat(declared, builtinArgs)); near != "" {
			hint = "did you mean " + near + "?"
		}
		l.warn(l.df.Check, parser.Range{}, "UnusedBuildArg", "No ARG takes the build argument %s (%s)", name, hint)
	}
}

// declaredArgs are the names that ARGs declare, wherever they stand, and those
// of the platform arguments.
func (l *linter) declaredArgs() []string {
	names := slices.Clone(l.stepArgs)
	add := func(in parser.Instruction) {
		if arg, ok := in.(*parser.Arg); ok {
			for _, def := range arg.Defs {
				names = append(names, def.Name)
			}
		}
	}
	for _, arg := range l.df.Args {
		add(arg)
	}
	for _, st := range l.df.Stages {
		for _, in := range st.Body {
			add(in)
		}
	}
	return append(names, defaultArgs(l.plan, "").names()...)
}
