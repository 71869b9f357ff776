package parser

import "strings"

// OnBuild keeps an instruction for the images that are built from this one.
// What it keeps is text: it need not be an instruction that can be carried
// out, nor one at all, until ParseTrigger reads it.
type OnBuild struct {
	Node
	Trigger string // the text an image config stores, heredoc bodies included
}

func convertOnBuild(s *statement) (Instruction, error) {
	if s.trigger == nil {
		return nil, refuse("write ONBUILD <instruction>", "ONBUILD requires at least one argument")
	}
	if err := s.takesNoFlags(); err != nil {
		return nil, err
	}
	switch s.trigger.keyword {
	case onBuild:
		return nil, refuse("write the inner instruction once", "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
	case "FROM", "MAINTAINER":
		return nil, refuse("", "%s isn't allowed as an ONBUILD trigger", s.trigger.keyword)
	}
	line := strings.TrimLeft(s.original, blanks)[len(onBuild):]
	return &OnBuild{
		Node:    s.Node,
		Trigger: withHeredocs(strings.TrimLeft(line, blanks), s.heredocs),
	}, nil
}

const blanks = " \t\r\n\f"
