package parser

import (
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// statement is one instruction as the line parser leaves it, before anything
// is known of what it means.
type statement struct {
	Node
	original string // the line, with the blanks at its end
	flags    []string
	args     []string
	json     bool // args come from a JSON array
	heredocs []Heredoc
	trigger  *statement // of an ONBUILD
}

func newStatement(n *parser.Node) (*statement, error) {
	s := &statement{
		Node: Node{
			keyword:  strings.ToUpper(n.Value),
			text:     strings.TrimSpace(n.Original),
			lines:    Range{n.StartLine, n.EndLine},
			word:     n.Value,
			comments: n.PrevComment,
		},
		original: n.Original,
		json:     n.Attributes["json"],
		heredocs: newHeredocs(n.Heredocs),
	}
	for _, f := range n.Flags {
		f, err := flagBytes(f)
		if err != nil {
			return nil, err
		}
		s.flags = append(s.flags, f)
	}
	for arg := n.Next; arg != nil; arg = arg.Next {
		if len(arg.Children) == 0 {
			s.args = append(s.args, arg.Value)
			continue
		}
		sub, err := newStatement(arg.Children[0])
		if err != nil {
			return nil, err
		}
		sub.lines, sub.heredocs = s.lines, s.heredocs
		s.trigger = sub
	}
	return s, nil
}

// takesNoFlags refuses flags.
func (s *statement) takesNoFlags() error { return parseFlags(s.flags) }

// one gives the only argument of an instruction that has no flags.
func (s *statement) one(hint string) (string, error) {
	if len(s.args) != 1 {
		return "", refuse(hint, "%s requires exactly one argument", s.keyword)
	}
	return s.args[0], s.takesNoFlags()
}

// some refuses an instruction without arguments, or with flags.
func (s *statement) some(hint string) error {
	if len(s.args) == 0 {
		return refuse(hint, "%s requires at least one argument", s.keyword)
	}
	return s.takesNoFlags()
}

// command gives the arguments as a command line. args is what stands behind
// the words that are not part of it.
func (s *statement) command(args []string) Command {
	c := Command{Shell: !s.json, Args: args, Heredocs: s.heredocs}
	if c.Shell {
		c.Args = []string{strings.Join(args, " ")}
	}
	return c
}
