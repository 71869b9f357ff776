package build

import (
	"io/fs"
	"sync"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/parser"
)

// ignoredTree is a tree less what .dockerignore takes out of it.
type ignoredTree struct {
	tree
	ignore *parser.Ignore

	mu      sync.Mutex
	matches map[string]parser.Match
}

// withoutIgnored gives t without what is ignored; nil ignores nothing.
func withoutIgnored(t tree, ignore *parser.Ignore) *ignoredTree {
	return &ignoredTree{tree: t, ignore: ignore, matches: map[string]parser.Match{"": {}}}
}

// match asks the patterns about a path, the directories above it first.
func (t *ignoredTree) match(p string) (parser.Match, error) {
	t.mu.Lock()
	m, ok := t.matches[p]
	t.mu.Unlock()
	if ok {
		return m, nil
	}
	above, err := t.match(parentOf(p))
	if err != nil {
		return m, err
	}
	if m, err = t.ignore.Excluded(p, above); err != nil {
		return m, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.matches[p] = m
	return m, nil
}

// shown reports whether a path that is there is part of the context: it is not
// ignored, or something below it is not.
func (t *ignoredTree) shown(p string) (bool, error) {
	m, err := t.match(p)
	if err != nil || !m.Excluded {
		return err == nil, err
	}
	e, err := t.tree.lookup(p)
	if err != nil || e.Type != typeDir || t.ignore.CanSkip(p) {
		return false, err
	}
	names, err := t.tree.names(p)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if ok, err := t.shown(join(p, name)); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (t *ignoredTree) lookup(p string) (*layer.Entry, error) {
	e, err := t.tree.lookup(p)
	if err != nil {
		return nil, err
	}
	if ok, err := t.shown(p); err != nil || !ok {
		if err == nil {
			err = fs.ErrNotExist
		}
		return nil, err
	}
	return e, nil
}

func (t *ignoredTree) names(dir string) ([]string, error) {
	names, err := t.tree.names(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		ok, err := t.shown(join(dir, name))
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, name)
		}
	}
	return out, nil
}

// missing is the error for a source that the context does not have.
func (t *ignoredTree) missing(p string) error {
	_, err := t.tree.lookup(p)
	return notInContext(t, p, err == nil)
}
