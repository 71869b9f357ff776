package build

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// globalArgs are the arguments that FROM lines can use, with what given gives
// the Dockerfile's own.
func globalArgs(df *parser.Dockerfile, o PlanOptions, given map[string]string) (scope, error) {
	target := o.Target
	if target == "" {
		target = df.Stages[len(df.Stages)-1].Name
	}
	globals := defaultArgs(o, target)
	x := parser.Expander{Escape: df.Escape}
	for _, arg := range df.Args {
		for _, def := range arg.Defs {
			v, ok := given[def.Name]
			if !ok && def.Default == nil {
				continue
			}
			if !ok {
				var err error
				if v, err = x.Word(*def.Default, globals.lookup); err != nil {
					return nil, &parser.Error{File: df.File, Range: arg.Range(), Msg: fmt.Sprintf("ARG %s: %v", def.Name, err)}
				}
			}
			globals = globals.with(def.Name, v)
		}
	}
	return globals, nil
}

// defaultArgs are the platform arguments that exist without being declared globally.
func defaultArgs(o PlanOptions, target string) scope {
	if target == "" {
		target = "default"
	}
	var s scope
	for _, side := range []struct {
		name string
		p    ocispec.Platform
	}{{"BUILD", o.BuildPlatform}, {"TARGET", o.Platform}} {
		s = s.with(side.name+"PLATFORM", image.FormatPlatform(side.p)).
			with(side.name+"OS", side.p.OS).
			with(side.name+"OSVERSION", side.p.OSVersion).
			with(side.name+"ARCH", side.p.Architecture).
			with(side.name+"VARIANT", side.p.Variant)
	}
	s = s.with("TARGETSTAGE", target)
	for _, e := range slices.Clone(s) {
		name, _, _ := strings.Cut(e, "=")
		if v, ok := o.Args[name]; ok {
			s = s.with(name, v)
		}
	}
	return s
}

// proxyArgs are the arguments that every RUN gets without declaring them.
var proxyArgs = []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}

func isProxyArg(name string) bool {
	return slices.Contains(proxyArgs, strings.ToUpper(name))
}
