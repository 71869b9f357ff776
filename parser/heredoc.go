package parser

import (
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Heredoc is a text that an instruction carries along.
type Heredoc struct {
	Name   string // the delimiter without quotes; for COPY the file's name
	Body   string // for <<- without the tabs that begin its lines; ends in a newline unless empty
	Expand bool   // the delimiter has no quotes: COPY and ADD expand variables in Body
	FD     uint   // the descriptor in front of <<, 0 if there is none

	raw string // Body with its tabs
}

func newHeredoc(h parser.Heredoc) Heredoc {
	body := h.Content
	if h.Chomp {
		body = parser.ChompHeredocContent(body)
	}
	return Heredoc{Name: h.Name, Body: body, Expand: h.Expand, FD: h.FileDescriptor, raw: h.Content}
}

func newHeredocs(hs []parser.Heredoc) []Heredoc {
	var out []Heredoc
	for _, h := range hs {
		out = append(out, newHeredoc(h))
	}
	return out
}

// heredocWord gives the heredoc that a whole word begins: "<<EOF", "<<-'EOF'".
func heredocWord(word string) *parser.Heredoc { return parser.MustParseHeredoc(word) }

// withHeredocs is a line followed by the bodies that belong to it, as they
// stand in the file.
func withHeredocs(line string, hs []Heredoc) string {
	var b strings.Builder
	b.WriteString(line)
	for _, h := range hs {
		b.WriteByte('\n')
		b.WriteString(h.raw)
		b.WriteString(h.Name)
	}
	return b.String()
}

// Script gives what a shell form hands to its shell. Heredocs stay with their
// command line and the shell reads them, except when one heredoc is the whole
// command: then its body is the script. A body of that kind that begins with
// "#!" needs no shell: it is the program, to be run as a file of the heredoc's
// name, and Script gives it back as well.
func (c *Command) Script() (text string, program *Heredoc) {
	if len(c.Args) > 0 {
		text = c.Args[0]
	}
	if len(c.Heredocs) == 0 {
		return text, nil
	}
	if heredocWord(text) == nil {
		return withHeredocs(text, c.Heredocs), nil
	}
	only := c.Heredocs[0]
	if strings.HasPrefix(only.Body, "#!") {
		return only.Body, &only
	}
	return only.Body, nil
}
