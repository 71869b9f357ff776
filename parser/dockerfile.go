package parser

import (
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
	Warnings []Warning // in line order, without those that a check directive skips
	Syntax   string    // the frontend a syntax directive asks for, or empty
	Check    Check     // what a check directive asks for
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
	Rule  string // BuildKit's name for it, e.g. "MaintainerDeprecated"
	Msg   string
}

// Excerpt renders the lines of r and as many as context before and after it,
// each with its number, those of r with a marker. It is empty when r lies
// outside the file, and ends in a newline otherwise.
func (d *Dockerfile) Excerpt(r Range, context int) string {
	return excerpt(d.Lines, r, context)
}

// Excerpt is Dockerfile.Excerpt for a text that did not parse.
func Excerpt(text []byte, r Range, context int) string {
	return excerpt(splitLines(text), r, context)
}

func excerpt(lines []string, r Range, context int) string {
	if r.Start < 1 || r.Start > len(lines) || r.End < r.Start {
		return ""
	}
	context = max(context, 0)
	first := max(r.Start-context, 1)
	last := r.End
	if last < len(lines)-context {
		last += context
	} else {
		last = len(lines)
	}
	var b strings.Builder
	for n := first; n <= last; n++ {
		marker := "   "
		if r.Start <= n && n <= r.End {
			marker = ">>>"
		}
		line := fmt.Sprintf("%4d | %s %s", n, marker, lines[n-1])
		b.WriteString(strings.TrimRight(line, " \t"))
		b.WriteByte('\n')
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
