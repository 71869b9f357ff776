package parser

import (
	"bufio"
	"bytes"
	"errors"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Options are what a caller asks of Parse. The zero Options ask for nothing.
type Options struct {
	// Check stands in for what the file's own check directive says.
	Check *Check
	// Syntax stands in for what the file's own syntax directive says, as the
	// build argument BUILDKIT_SYNTAX does.
	Syntax string
}

// Parse is Options.Parse with the zero Options.
func Parse(file string, text []byte) (*Dockerfile, error) { return Options{}.Parse(file, text) }

// Parse reads a Dockerfile. file is the name that errors show. The errors are
// of type *Error, and there is one for every mistake that BuildKit would
// refuse before it begins to build. Beside an error the Dockerfile holds what
// was found before it, for its Warnings.
func (o Options) Parse(file string, text []byte) (*Dockerfile, error) {
	d := &Dockerfile{File: file, Lines: splitLines(text)}
	if err := d.readDirectives(text, o); err != nil {
		return d, locate(err, file, Range{1, 1})
	}
	l := &linter{check: d.Check}
	err := d.read(l, text)
	d.Warnings = append(l.warnings, l.ours...)
	return d, d.foreignError(err)
}

// read reads all but the directives.
func (d *Dockerfile) read(l *linter, text []byte) error {
	l.syntax(d)
	l.ruleNames(d)
	result, err := cutLines(d.File, text)
	if err != nil {
		return err
	}
	d.Escape = result.EscapeToken
	l.continuations(result.Warnings)
	if err := d.convert(l, result.AST.Children); err != nil {
		return err
	}
	l.stageNames(d.Stages)
	l.casing()
	return nil
}

// convert makes the instructions of a file from its lines.
func (d *Dockerfile) convert(l *linter, nodes []*parser.Node) error {
	for _, n := range nodes {
		lines := Range{n.StartLine, n.EndLine}
		s, err := newStatement(n)
		if err != nil {
			return locate(err, d.File, lines)
		}
		l.before(s)
		in, err := convert(s)
		if err == nil {
			err = d.add(in)
		}
		if err != nil {
			return locate(err, d.File, lines)
		}
		l.after(s, in, len(d.Stages) == 0)
	}
	if len(d.Stages) == 0 {
		return locate(refuse(hintFrom, "dockerfile contains no stages to build"), d.File, Range{})
	}
	return nil
}

const hintFrom = "begin with FROM <image>, or FROM scratch"

// add puts an instruction where it belongs.
func (d *Dockerfile) add(in Instruction) error {
	if from, ok := in.(*From); ok {
		name := strings.ToLower(from.As)
		d.Stages = append(d.Stages, &Stage{Index: len(d.Stages), Name: name, From: from})
		return nil
	}
	if len(d.Stages) > 0 {
		last := d.Stages[len(d.Stages)-1]
		last.Body = append(last.Body, in)
		return nil
	}
	arg, ok := in.(*Arg)
	if !ok {
		return refuse("nothing but ARG stands before the first FROM", "no build stage in current context")
	}
	d.Args = append(d.Args, arg)
	return nil
}

// ParseTrigger reads one instruction, as ONBUILD stores it. What stood in the
// file around it is forgotten: the escape character is the backslash. file is
// what errors show for it.
func ParseTrigger(file, text string) (Instruction, error) {
	result, err := cutLines(file, []byte(text))
	if err != nil && isEmpty(err) {
		return nil, locate(refuse("", "onbuild trigger is empty"), file, Range{})
	}
	if err != nil {
		return nil, err
	}
	n := result.AST.Children[0]
	lines := Range{n.StartLine, n.EndLine}
	if len(result.AST.Children) != 1 {
		return nil, locate(refuse("", "onbuild trigger should be a single expression"), file, lines)
	}
	s, err := newStatement(n)
	if err != nil {
		return nil, locate(err, file, lines)
	}
	in, err := convert(s)
	if _, ok := in.(*From); ok && err == nil {
		err = refuse("", "FROM isn't allowed as an ONBUILD trigger")
	}
	if err != nil {
		return nil, locate(err, file, lines)
	}
	return in, nil
}

// cutLines lets BuildKit's line parser cut a text into instructions.
func cutLines(file string, text []byte) (*parser.Result, error) {
	const longest = bufio.MaxScanTokenSize - 1
	for i, line := range bytes.Split(text, []byte("\n")) {
		if len(line) > longest {
			err := refuse(`break it with \, or COPY it from a file`, "line greater than max allowed size of %d", longest)
			return nil, locate(err, file, Range{i + 1, i + 1})
		}
	}
	result, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		e := &Error{Msg: err.Error(), Hint: lineHint(err.Error()), Err: err}
		return nil, locate(e, file, lineRange(err))
	}
	return result, nil
}

// lineRange gives the lines that a line parser's error names. A file without
// instructions has none to name.
func lineRange(err error) Range {
	var at *parser.LocationError
	if !errors.As(err, &at) || len(at.Locations) == 0 || len(at.Locations[0]) == 0 || isEmpty(err) {
		return Range{}
	}
	lines := at.Locations[0]
	return Range{lines[0].Start.Line, lines[len(lines)-1].End.Line}
}

func isEmpty(err error) bool { return strings.Contains(err.Error(), "file with no instructions") }

// lineHint gives the next step for an error of the line parser.
func lineHint(msg string) string {
	for _, h := range [][2]string{
		{"file with no instructions", hintFrom},
		{"unterminated heredoc", "a line must hold the word after << and nothing else; quote << where it begins no heredoc"},
		{"two arguments", "write <name>=<value>"},
		{"can't find =", "put a value that holds blanks in quotes"},
		{"JSON array", "put each element in double quotes, and no array in another"},
	} {
		if strings.Contains(msg, h[0]) {
			return h[1]
		}
	}
	return ""
}
