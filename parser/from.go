package parser

import "strings"

// From begins a stage.
type From struct {
	Node
	Image    string // unexpanded
	Platform string // unexpanded, or empty
	As       string // as it is written, or empty
}

func convertFrom(s *statement) (Instruction, error) {
	f := &From{Node: s.Node}
	switch {
	case len(s.args) == 1:
	case len(s.args) == 3 && strings.EqualFold(s.args[1], "as"):
		f.As = s.args[2]
		if !validStageName(strings.ToLower(f.As)) {
			return nil, refuse("begin it with a letter; digits, - _ and . may follow",
				"invalid name for build stage: %q, name can't start with a number or contain symbols", f.As)
		}
	default:
		return nil, refuse("write FROM <image> [AS <name>]", "FROM requires either one or three arguments")
	}
	f.Image = s.args[0]
	if err := parseFlags(s.flags, f.flags()...); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *From) flags() []flag { return []flag{textFlag("platform", &f.Platform)} }

// validStageName tells whether a lower-cased name can be a stage's.
func validStageName(name string) bool {
	for i := range len(name) {
		letter := 'a' <= name[i] && name[i] <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789-_.", rune(name[i]))) {
			return false
		}
	}
	return name != ""
}
