package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/parser"
)

// findInstruction gives the instruction of a name, in any case.
func findInstruction(name string) (instruction, bool) {
	i := slices.IndexFunc(dockerfileReference, func(in instruction) bool { return in.keyword == strings.ToUpper(name) })
	if i < 0 {
		return instruction{}, false
	}
	return dockerfileReference[i], true
}

// spelling is a flag as it is written: "--chown=USER[:GROUP]".
func (f instructionFlag) spelling() string {
	if f.value == "" || strings.HasPrefix(f.value, "[") {
		return "--" + f.name + f.value
	}
	return "--" + f.name + "=" + f.value
}

// writeReference prints all instructions with their flags.
func writeReference(w io.Writer) error {
	var b strings.Builder
	b.WriteString("The instructions of a Dockerfile, those of docker/dockerfile:1, and their flags:\n\n")
	for _, in := range dockerfileReference {
		fmt.Fprintf(&b, "  %-12s %s\n", in.keyword, in.short)
		if list := in.flagList(); list != "" {
			fmt.Fprintf(&b, "%15s%s\n", "", wrap(list, 65, strings.Repeat(" ", 15)))
		}
	}
	b.WriteString(`
A comment begins a line with #. A line that ends in \ goes on in the next.
$NAME, ${NAME}, ${NAME:-WORD}, ${NAME:+WORD}, ${NAME:?MESSAGE}, ${NAME#PATTERN},
${NAME%PATTERN} and ${NAME/PATTERN/WORD} are expanded, except by RUN, CMD,
ENTRYPOINT, SHELL and HEALTHCHECK, whose shell has the same.
Above all else may stand # check=skip=RULE, # escape=` + "`" + ` (instead of \), and
# syntax=docker/dockerfile:1, which is so anyway.

More:
  ocibuild help INSTRUCTION     everything about one, as in ocibuild help COPY
  ocibuild help checks          what ` + "`ocibuild lint`" + ` finds in a Dockerfile
`)
	_, err := io.WriteString(w, b.String())
	return err
}

// flagList is the names of an instruction's flags.
func (in instruction) flagList() string {
	var out []string
	for _, f := range in.flags {
		out = append(out, "--"+f.name)
	}
	list := strings.Join(out, ", ")
	if len(in.mounts) > 0 {
		list = strings.Replace(list, "--mount", "--mount=type="+in.mountList(), 1)
	}
	return list
}

// mountList is the types of mounts.
func (in instruction) mountList() string {
	var out []string
	for _, m := range in.mounts {
		out = append(out, m.name)
	}
	return strings.Join(out, "|")
}

// writeInstruction prints everything about one instruction.
func writeInstruction(w io.Writer, in instruction) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nForms:\n", in.keyword, in.short)
	for _, f := range in.forms {
		fmt.Fprintf(&b, "  %s\n", f)
	}
	if len(in.flags) > 0 {
		b.WriteString("\nFlags:\n")
	}
	for _, f := range in.flags {
		writeTerm(&b, f.spelling(), f.does)
	}
	if len(in.mounts) > 0 {
		in.writeMounts(&b)
	}
	fmt.Fprintf(&b, "\n%s\n\nExamples:\n", wrap(in.about, 80, ""))
	for _, e := range in.examples {
		fmt.Fprintf(&b, "  %s\n", e)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (in instruction) writeMounts(b *strings.Builder) {
	b.WriteString("\nTypes of --mount, and their options:\n")
	for _, m := range in.mounts {
		writeTerm(b, m.name, m.does+": "+strings.Join(m.options, ", "))
	}
	b.WriteString("\nOptions of --mount:\n")
	for _, o := range mountOptions {
		writeTerm(b, o.names, o.does)
	}
}

// writeTerm prints a term in one column and what it means in another.
func writeTerm(b *strings.Builder, term, means string) {
	const column = 25
	indent := strings.Repeat(" ", column)
	if len(term) > column-3 {
		fmt.Fprintf(b, "  %s\n%s%s\n", term, indent, wrap(means, 80-column, indent))
		return
	}
	fmt.Fprintf(b, "  %-*s%s\n", column-2, term, wrap(means, 80-column, indent))
}

// writeChecks prints the rules of lint.
func writeChecks(w io.Writer) error {
	var b strings.Builder
	b.WriteString(wrap("What `ocibuild lint`, `ocibuild build --check` and the end of every build tell of. A rule is left out with "+
		"# check=skip=RULE,RULE (or all) at the top of the Dockerfile or right above one instruction. # check=error=true makes a "+
		"build fail that BuildKit's rules find something in; ocibuild's own never do. The build argument BUILDKIT_DOCKERFILE_CHECK "+
		"stands in for the comment at the top.", 80, "") + "\n\nBuildKit's rules:\n")
	rules := slices.Clone(parser.Rules())
	slices.SortStableFunc(rules, func(a, b parser.Rule) int { return cmp.Compare(a.Name, b.Name) })
	for _, r := range rules {
		if !r.Own {
			writeRule(&b, r)
		}
	}
	b.WriteString("\nocibuild's own:\n")
	for _, r := range rules {
		if r.Own {
			writeRule(&b, r)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeRule(b *strings.Builder, r parser.Rule) {
	text := r.Description
	if r.Experimental {
		text += " (only with # check=experimental=" + r.Name + ")"
	}
	fmt.Fprintf(b, "  %s\n      %s\n", r.Name, wrap(text, 74, "      "))
}
