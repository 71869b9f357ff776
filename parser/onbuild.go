package parser

import "strings"

// OnBuild keeps an instruction for the images that are built from this one.
type OnBuild struct {
	Node
	Trigger     string // the text an image config stores, heredoc bodies included
	Instruction Instruction
}

func convertOnBuild(s *statement) (Instruction, error) {
	if s.trigger == nil {
		return nil, refuse("write ONBUILD <instruction>", "ONBUILD requires at least one argument")
	}
	if err := s.takesNoFlags(); err != nil {
		return nil, err
	}
	trigger, err := convertTrigger(s.trigger)
	if err != nil {
		return nil, err
	}
	line := strings.TrimLeft(s.original, blanks)[len(onBuild):]
	return &OnBuild{
		Node:        s.Node,
		Trigger:     withHeredocs(strings.TrimLeft(line, blanks), s.heredocs),
		Instruction: trigger,
	}, nil
}

const blanks = " \t\r\n\f"

// convertTrigger refuses what a trigger cannot be.
func convertTrigger(s *statement) (Instruction, error) {
	switch s.keyword {
	case onBuild:
		return nil, refuse("write the inner instruction once", "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
	case "FROM", "MAINTAINER":
		return nil, refuse("", "%s isn't allowed as an ONBUILD trigger", s.keyword)
	}
	return convert(s)
}
