package parser

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Ignore holds the patterns of a .dockerignore file. A nil Ignore leaves
// nothing out. Its methods may be called from several goroutines.
type Ignore struct {
	mu         sync.Mutex // the matcher compiles patterns when it first meets them
	matcher    *patternmatcher.PatternMatcher
	exceptions []string // the patterns behind "!", slash-separated
	ends       []ends   // of every pattern
}

// Match is what the patterns said of one path. Handing a directory's Match to
// its children saves matching the directory again for each of them.
type Match struct {
	Excluded bool
	asked    bool // it comes from Excluded
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
	ig, err := NewIgnore(patterns)
	if err != nil {
		return nil, &Error{File: ignoreName, Msg: err.Error(), Err: err}
	}
	return ig, nil
}

// NewIgnore makes an Ignore of patterns alone: those of --exclude, or, where
// Excluded is read as "selected", those that --parents selects by.
func NewIgnore(patterns []string) (*Ignore, error) {
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("compile patterns: %w", err)
	}
	ig := &Ignore{matcher: matcher}
	for _, p := range matcher.Patterns() {
		ig.ends = append(ig.ends, endsOf(p.String()))
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
// context, clean and slash-separated. parent is what Excluded gave for the
// path's directory; a path at the top has the zero Match. Elsewhere the zero
// Match makes the matcher look at every directory above, and gives another
// answer than a walk does where exceptions and exclusions of directories
// interleave; the walk is what BuildKit does.
func (ig *Ignore) Excluded(name string, parent Match) (Match, error) {
	if ig == nil {
		return Match{}, nil
	}
	if parent.Excluded && len(ig.exceptions) == 0 || parent.asked && !ig.mayMatch(name) {
		return parent, nil
	}
	ig.mu.Lock()
	defer ig.mu.Unlock()
	excluded, info, err := ig.matcher.MatchesUsingParentResults(name, parent.info)
	if err != nil {
		return Match{}, fmt.Errorf("match %s against %s: %w", name, ignoreName, err)
	}
	return Match{Excluded: excluded, asked: true, info: info}, nil
}

// mayMatch tells whether a pattern may match the path itself. Where none does
// the path shares its directory's Match; that is the case for most files of
// most contexts, and spares them the regular expressions.
func (ig *Ignore) mayMatch(name string) bool {
	for _, e := range ig.ends {
		if strings.HasPrefix(name, e.prefix) && strings.HasSuffix(name, e.suffix) {
			return true
		}
	}
	return false
}

// ends are what every match of a pattern begins and ends with.
type ends struct{ prefix, suffix string }

// endsOf may give less than there is, never more.
func endsOf(pattern string) ends {
	const special = `*?[]\`
	first, last := strings.IndexAny(pattern, special), strings.LastIndexAny(pattern, special)
	switch {
	case !plainPattern(pattern):
		return ends{}
	case first < 0:
		return ends{pattern, pattern}
	}
	e := ends{prefix: pattern[:first], suffix: pattern[last+1:]}
	switch pattern[last] {
	case '*':
		if last > 0 && pattern[last-1] == '*' {
			e.suffix = strings.TrimPrefix(e.suffix, "/") // **/ may match nothing at all
		}
	case '\\':
		_, size := utf8.DecodeRuneInString(e.suffix)
		e.suffix = e.suffix[size:]
	}
	return e
}

// plainPattern tells whether a pattern means what it looks like. The matcher
// lets some signs of regular expressions through as such, and reads what is
// not UTF-8 in its own way.
func plainPattern(pattern string) bool {
	return utf8.ValidString(pattern) && !strings.ContainsAny(pattern, "|{}^\ufffd\ufeff")
}

// Exceptions tells whether a pattern begins with "!": then an excluded
// directory may hold what is not.
func (ig *Ignore) Exceptions() bool { return ig != nil && len(ig.exceptions) > 0 }

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
	var m Match
	for i, c := range dir + "/" {
		if c != '/' {
			continue
		}
		var err error
		if m, err = ig.Excluded(dir[:i], m); err != nil {
			return false
		}
	}
	return m.Excluded
}

// mayMatchBelow tells whether a pattern may match a path inside dir that it
// does not match through dir itself. It may say yes too often, never no.
func mayMatchBelow(pattern, dir string) bool {
	if !plainPattern(pattern) {
		return true
	}
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

// Hides tells whether a source that COPY names is certain to be left out.
// With exceptions nothing is: a file in a directory that is left out may be
// in. source is cleaned; "." and "/" are the whole context.
func (ig *Ignore) Hides(source string) (bool, error) {
	if ig == nil || len(ig.exceptions) > 0 {
		return false, nil
	}
	if (source == "." || source == "/") && !ig.everything() {
		return false, nil
	}
	ig.mu.Lock()
	defer ig.mu.Unlock()
	hidden, err := ig.matcher.MatchesOrParentMatches(source)
	if err != nil {
		return false, fmt.Errorf("match %s against %s: %w", source, ignoreName, err)
	}
	return hidden, nil
}

// everything tells whether some pattern alone leaves everything out.
func (ig *Ignore) everything() bool {
	return slices.ContainsFunc(ig.matcher.Patterns(), func(p *patternmatcher.Pattern) bool {
		return !p.Exclusion() && slices.Contains([]string{"*", "**", "**/*"}, p.String())
	})
}

// Allowlist tells whether the file leaves everything out but its exceptions.
func (ig *Ignore) Allowlist() bool {
	return ig != nil && len(ig.exceptions) > 0 && ig.everything()
}
