package main

import (
	"os"
	"strings"

	"github.com/ocibuild/ocibuild/parser"
)

// place is where the files of a build come from, as CONTEXT says: a directory,
// standard input, a git repository, or the URL of a file.
type place struct {
	text  string
	stdin bool
	git   *parser.Git
	url   bool
}

// parsePlace reads CONTEXT. A directory that is there is meant for itself, whatever
// its name could mean besides.
func parsePlace(text string) (place, error) {
	p := place{text: text, stdin: text == "-", url: isURL(text)}
	if info, err := os.Stat(text); p.stdin || err == nil && info.IsDir() {
		p.url = false
		return p, nil
	}
	var err error
	if p.git, err = parser.ParseGitContext(text); err != nil {
		return p, usagef("the context: %v", err)
	}
	p.url = p.url && p.git == nil
	if p.git == nil && !p.url && strings.Contains(text, "://") {
		return p, &usageError{
			msg: "a context cannot be " + text, hint: "it is a directory, - for standard input, or a URL of http, https, ssh or git",
		}
	}
	return p, nil
}

func isURL(text string) bool {
	return strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://")
}

// local says that the context is a directory of this machine.
func (p place) local() bool { return !p.stdin && !p.url && p.git == nil }
