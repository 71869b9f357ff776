package parser

import (
	"errors"
	"io"
)

// Ignore holds the patterns of a .dockerignore file.
type Ignore struct{}

// Match is what one path's patterns gave; a child's look-up takes it.
type Match struct {
	Excluded bool
}

// ParseIgnore reads a .dockerignore file.
func ParseIgnore(r io.Reader) (*Ignore, error) { return nil, errors.New("not written yet") }

// Excluded tells whether a path is left out.
func (ig *Ignore) Excluded(path string, parent Match) (Match, error) {
	return Match{}, errors.New("not written yet")
}

// CanSkip tells whether nothing below dir can be re-included.
func (ig *Ignore) CanSkip(dir string) bool { return false }
