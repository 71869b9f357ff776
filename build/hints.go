package build

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	"golang.org/x/sys/unix"
)

// stageHint names the stage that a mistyped name is nearest to.
func (p *planner) stageHint(name string) string { return nearStage(p.df, name) }

func nearStage(df *parser.Dockerfile, name string) string {
	var names []string
	for _, st := range df.Stages {
		if st.Name != "" {
			names = append(names, st.Name)
		}
	}
	name = strings.ToLower(name)
	if slices.Contains(names, name) {
		return fmt.Sprintf("did you mean the stage %q?", name)
	}
	if near := parser.Nearest(name, names); near != "" {
		return fmt.Sprintf("did you mean the stage %q?", near)
	}
	return ""
}

// argumentHint says what to do about the variables of a FROM line that have no
// value.
func (p *planner) argumentHint(missed []string) string {
	var declared []string
	for _, arg := range p.df.Args {
		for _, def := range arg.Defs {
			declared = append(declared, def.Name)
		}
	}
	for _, name := range missed {
		near := nearVariable(name, append(p.globals.names(), declared...))
		switch {
		case slices.Contains(declared, name):
			return fmt.Sprintf("ARG %[1]s has no value: give it a default, or pass --build-arg %[1]s=VALUE", name)
		case near != "":
			return "did you mean " + near + "?"
		}
	}
	if len(missed) > 0 {
		return "declare it above the first FROM: ARG " + missed[0] + "=DEFAULT"
	}
	return ""
}

// imageHint says what to do about a name that can be no image's.
func (p *planner) imageHint(name string, err error, missed []string) (hint string, cause error) {
	var ref *image.RefError
	if !errors.As(err, &ref) {
		return "", err
	}
	for _, hint := range []string{p.argumentHint(missed), p.stageHint(name), ref.Hint} {
		if hint != "" {
			return hint, ref.Err
		}
	}
	return "an image's name looks like app:v1, or registry.example.org/team/app:v1", ref.Err
}

// knownImages are names that a mistyped base most likely stands for.
var knownImages = []string{
	"alpine", "busybox", "centos", "debian", "fedora", "golang", "httpd", "mysql", "nginx", "node", "openjdk", "php", "postgres", "python", "redis", "ruby", "rust", "ubuntu",
}

// hintBase adds to the error of a base image that cannot be had what its name
// may have been meant for.
func hintBase(g *Graph, s *Step, err error) error {
	ref, perr := image.ParseRef(s.Base)
	if perr != nil {
		return err
	}
	name := strings.TrimSuffix(ref.Familiar(), ":latest")
	hint := laterStage(g, s, name)
	if hint == "" {
		hint = nearStage(g.Dockerfile, name)
	}
	short, tag, _ := strings.Cut(name, ":")
	if near := parser.Nearest(short, knownImages); hint == "" && near != "" && near != short {
		hint = "did you mean " + strings.TrimSuffix(near+":"+tag, ":") + "?"
	}
	if hint == "" {
		return err
	}
	var already *Hinted
	if errors.As(err, &already) {
		hint += " " + strings.ToUpper(already.Hint[:1]) + already.Hint[1:]
	}
	return &Hinted{err, hint}
}

// laterStage is the hint for a stage that stands below the line that needs it.
func laterStage(g *Graph, s *Step, name string) string {
	for _, st := range g.Dockerfile.Stages {
		if st.Name == name && st.From.Range().Start > s.Range().Start {
			return fmt.Sprintf("the stage %s begins further down, in line %d: move it above this one.", name, st.From.Range().Start)
		}
	}
	return ""
}

// nearPath gives the path of a tree that a mistyped one is nearest to, or "".
// Each component may have been mistyped.
func nearPath(t tree, name string) string {
	at := ""
	for part := range strings.SplitSeq(clean(name), "/") {
		if _, err := t.lookup(join(at, part)); err == nil {
			at = join(at, part)
			continue
		}
		names, err := t.names(at)
		if err != nil {
			return ""
		}
		near := parser.Nearest(part, names)
		if near == "" {
			return ""
		}
		at = path.Join(at, near)
	}
	return at
}

// signalHint names the signal that a mistyped one is nearest to.
func signalHint(name string) string {
	var names []string
	for n := unix.Signal(1); n < 32; n++ {
		names = append(names, unix.SignalName(n))
	}
	name = strings.ToUpper(name)
	if near := parser.Nearest("SIG"+strings.TrimPrefix(name, "SIG"), names); near != "" {
		return "did you mean " + near + "?"
	}
	return "use a name such as SIGTERM or a number from 1 to 64"
}

// portHint says how to write a port.
func portHint(spec string) string {
	if protocol := splitPort(spec).protocol; !slices.Contains(protocols, strings.ToLower(protocol)) {
		if near := parser.Nearest(strings.ToLower(protocol), protocols); near != "" {
			return "did you mean " + strings.TrimSuffix(spec, protocol) + near + "?"
		}
	}
	return "write port, first-last or either with /tcp, /udp or /sctp"
}
