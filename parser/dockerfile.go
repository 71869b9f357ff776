package parser

import (
	"bytes"
	"fmt"
	"strings"
)

// Dockerfile is a whole file after parsing.
type Dockerfile struct {
	File     string
	Lines    []string  // without line ends and byte order mark
	Escape   rune      // '\\', or '`' after "# escape=`"
	Args     []*Arg    // the ones before the first FROM, in order
	Stages   []*Stage  // at least one
	Warnings []Warning // of the text alone, BuildKit's in the order in which it finds them, then ours; without those that a check directive skips
	Syntax   string    // the frontend a syntax directive asks for, or empty
	Check    Check     // what a check directive asks for

	syntaxAt, checkAt Range // of the directives
}

// Stage is one FROM and what follows it.
type Stage struct {
	Index int
	Name  string // lower-cased, or empty
	From  *From
	Body  []Instruction
}

// Warning is a finding that does not stop a build.
type Warning struct {
	Range Range
	Rule  string // the name of a Rule, e.g. "MaintainerDeprecated"
	Msg   string
}

// Excerpt renders the lines of r and some around it, each with its number,
// those of r with a marker: two lines before and after a single one, one
// before and after several, as BuildKit does. It is empty when r lies outside
// the text, and ends in a newline otherwise.
func Excerpt(text []byte, r Range) string {
	lines := splitLines(text)
	if bytes.HasSuffix(text, []byte("\n")) {
		lines = append(lines, "") // BuildKit counts what follows the last line end
	}
	if r.Start < 1 || r.Start > len(lines) || r.End < r.Start {
		return ""
	}
	around := 1
	if r.End == r.Start {
		around = 2
	}
	var b strings.Builder
	for n := max(r.Start-around, 1); n <= min(r.End+around, len(lines)); n++ {
		marker := "   "
		if r.Start <= n && n <= r.End {
			marker = ">>>"
		}
		fmt.Fprintf(&b, " %3d | %s %s\n", n, marker, lines[n-1])
	}
	return b.String()
}

// splitLines gives the lines of a text without their ends and without a byte
// order mark. A final newline begins no line.
func splitLines(text []byte) []string {
	s := strings.TrimPrefix(string(text), "\ufeff")
	if s == "" {
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, "\r")
	}
	return lines
}
