package parser

import (
	"errors"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// readDirectives reads the comments that mean something: they stand before
// everything else, once each. o says what stands in for them.
func (d *Dockerfile) readDirectives(text []byte, o Options) error {
	var p parser.DirectiveParser
	for i, line := range d.Lines {
		at := Range{i + 1, i + 1}
		directive, err := p.ParseLine([]byte(strings.TrimLeftFunc(line, unicode.IsSpace)))
		if err != nil {
			return locate(refuse("remove this one", "%v", err), d.File, at)
		}
		if directive == nil {
			break
		}
		if v := directive.Value; directive.Name == "escape" && v != `\` && v != "`" {
			err := refuse("write # escape=` or # escape=\\", "invalid escape token '%s' does not match ` or \\", v)
			return locate(err, d.File, at)
		}
	}
	d.readSyntax(text, o.Syntax)
	return d.readCheck(text, o.Check)
}

// readSyntax finds the frontend that the file, or in its place the caller,
// asks for. It may also stand behind // or in JSON, which is how files that are
// no Dockerfiles ask.
func (d *Dockerfile) readSyntax(text []byte, instead string) {
	if name, _, _ := strings.Cut(strings.TrimSpace(instead), " "); name != "" {
		d.Syntax = name
		return
	}
	name, _, at, ok := parser.DetectSyntax(text)
	if ok {
		line := max(at[0].Start.Line, 1) // JSON has none
		d.Syntax, d.syntaxAt = name, Range{line, line}
	}
}

func (d *Dockerfile) readCheck(text []byte, instead *Check) error {
	if instead != nil {
		d.Check = *instead
		return nil
	}
	option, _, at, ok := parser.ParseDirective("check", text)
	if !ok {
		return nil
	}
	d.checkAt = Range{at[0].Start.Line, at[0].Start.Line}
	check, err := ParseCheck(option)
	if err != nil {
		return locate(err, d.File, d.checkAt)
	}
	d.Check = check
	return nil
}

// foreign tells whether the file is written for another frontend than the one
// whose language this package reads. The usual one has several names: each
// registry may have a copy.
func (d *Dockerfile) foreign() bool {
	if d.Syntax == "" {
		return false
	}
	name, _, _ := strings.Cut(d.Syntax, "@")
	dir, base := path.Split(name)
	base, _, _ = strings.Cut(base, ":")
	return path.Base(dir) != "docker" || !slices.Contains([]string{"dockerfile", "dockerfile-upstream"}, base)
}

// foreignError adds to an error what most likely has caused it.
func (d *Dockerfile) foreignError(err error) error {
	var e *Error
	switch {
	case !errors.As(err, &e):
	case slices.ContainsFunc(d.Lines, func(line string) bool { return strings.Contains(line, "\x00") }):
		e.Hint = "the file holds NUL bytes: save it as UTF-8"
	case d.foreign() && !strings.HasPrefix(e.Hint, "did you mean"):
		e.Hint = "the file asks for the frontend " + d.Syntax + "; ocibuild reads Dockerfiles alone"
	}
	return err
}
