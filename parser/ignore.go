package parser

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Ignore holds the patterns of a .dockerignore file. A nil Ignore leaves
// nothing out. Its methods may be called from several goroutines.
type Ignore struct {
	mu         sync.Mutex // the matcher compiles patterns when it first meets them
	matcher    *patternmatcher.PatternMatcher
	exceptions []string // the patterns behind "!", slash-separated
}

// Match is what the patterns said of one path. Handing a directory's Match to
// its children saves matching the directory again for each of them.
type Match struct {
	Excluded bool
	info     patternmatcher.MatchInfo
}

// ParseIgnore reads a .dockerignore file. A pattern that can never match
// anything because it is malformed is an *Error with its line.
func ParseIgnore(r io.Reader) (*Ignore, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, &Error{File: ignoreName, Msg: fmt.Sprintf("read: %v", err), Err: err}
	}
	for i, line := range splitLines(text) {
		if err := checkIgnoreLine(line); err != nil {
			return nil, &Error{
				File:  ignoreName,
				Range: Range{i + 1, i + 1},
				Msg:   fmt.Sprintf("bad pattern %q: %v", strings.TrimSpace(line), err),
				Hint:  "a backslash makes the next character literal",
				Err:   err,
			}
		}
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
	if err != nil {
		return nil, &Error{File: ignoreName, Msg: fmt.Sprintf("read patterns: %v", err), Err: err}
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, &Error{File: ignoreName, Msg: fmt.Sprintf("compile patterns: %v", err), Err: err}
	}
	ig := &Ignore{matcher: matcher}
	for _, p := range matcher.Patterns() {
		if p.Exclusion() {
			ig.exceptions = append(ig.exceptions, p.String())
		}
	}
	return ig, nil
}

const ignoreName = ".dockerignore"

// checkIgnoreLine compiles one line's pattern. The matcher itself compiles
// late and then names no line.
func checkIgnoreLine(line string) error {
	patterns, err := ignorefile.ReadAll(strings.NewReader(line))
	if err != nil || len(patterns) == 0 {
		return err
	}
	if _, err := patternmatcher.New(patterns); err != nil {
		return err
	}
	matcher, err := patternmatcher.New([]string{strings.TrimPrefix(patterns[0], "!")})
	if err != nil {
		return err
	}
	_, err = matcher.MatchesOrParentMatches("x")
	return err
}

// Excluded tells whether a path is left out. The path is relative to the
// context and slash-separated. parent is what Excluded gave for the path's
// directory; the zero Match, which a path at the top has, is always right but
// makes the matcher look at every directory above.
func (ig *Ignore) Excluded(name string, parent Match) (Match, error) {
	if ig == nil {
		return Match{}, nil
	}
	if parent.Excluded && len(ig.exceptions) == 0 {
		return parent, nil
	}
	ig.mu.Lock()
	defer ig.mu.Unlock()
	excluded, info, err := ig.matcher.MatchesUsingParentResults(name, parent.info)
	if err != nil {
		return Match{}, fmt.Errorf("match %s against %s: %w", name, ignoreName, err)
	}
	return Match{Excluded: excluded, info: info}, nil
}

// CanSkip tells whether a walk need not go into dir: dir is excluded, and no
// exception can bring back anything below it.
func (ig *Ignore) CanSkip(dir string) bool {
	if ig == nil {
		return false
	}
	for _, exception := range ig.exceptions {
		if mayMatchBelow(exception, dir) {
			return false
		}
	}
	m, err := ig.Excluded(dir, Match{})
	return err == nil && m.Excluded
}

// mayMatchBelow tells whether a pattern may match a path inside dir that it
// does not match through dir itself. It may say yes too often, never no.
func mayMatchBelow(pattern, dir string) bool {
	want := strings.Split(pattern, "/")
	have := strings.Split(dir, "/")
	for i, part := range want {
		if strings.Contains(part, "**") || strings.ContainsAny(part, `[\`) {
			return true // many components, or a class that may hold a slash
		}
		if i == len(have) {
			return true
		}
		if ok, err := path.Match(part, have[i]); err == nil && !ok {
			return false
		}
	}
	return false
}
