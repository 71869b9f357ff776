package build

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// selection is what the sources of a COPY or ADD stand for: for each path
// that a source names or matches, the tree below it.
type selection struct {
	tree    tree
	matches []match
	digest  digest.Digest
}

// match is one path that a source stands for.
type match struct {
	// name is the path as the source has it: a link's own name decides what
	// its target is called at the destination.
	name  string
	items []item
}

// item is one file of a match, in depth-first order, the top first.
type item struct {
	// rel is the path below the match, "" for the match itself; at is the path in the tree.
	rel, at string
	entry   *layer.Entry
	digest  digest.Digest
	link    string
}

// attribute gives the item extended attributes that were found when its file
// was read. The entry is shared with other steps: a copy is changed.
func (it *item) attribute(xattrs map[string]string) {
	if len(xattrs) == 0 {
		return
	}
	e := *it.entry
	e.Xattrs = xattrs
	it.entry = &e
}

// dir reports whether the match is a directory, of which only the contents are copied.
func (m match) dir() bool { return m.items[0].entry.Type == typeDir }

// missingError makes the error for a source that is not there.
type missingError interface{ missing(path string) error }

// selectSources finds what the sources name. No file is read yet.
func selectSources(ctx context.Context, t tree, sources []string) (*selection, error) {
	s := &selection{tree: t}
	for _, src := range sources {
		names, err := glob(t, src)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			m, err := matchTree(ctx, t, name)
			if err != nil {
				return nil, err
			}
			s.matches = append(s.matches, m)
		}
	}
	return s, nil
}

// identify computes the selection's digest. Files whose digests are not known
// yet, from the memo or from having been copied, are read.
func (s *selection) identify(ctx context.Context) (digest.Digest, error) {
	if s.digest != "" {
		return s.digest, nil
	}
	if err := s.hashFiles(ctx); err != nil {
		return "", err
	}
	s.digest = selectionDigest(s)
	return s.digest, nil
}

// matchTree walks what one source path stands for.
func matchTree(ctx context.Context, t tree, name string) (match, error) {
	m := match{name: name}
	top, err := resolve(t.lookup, name)
	if err != nil {
		return m, err
	}
	e, err := t.lookup(top)
	if isNotExist(err) {
		if mt, ok := t.(missingError); ok {
			return m, mt.missing(name)
		}
		return m, fmt.Errorf("%q: not found", "/"+name)
	}
	if err != nil {
		return m, err
	}
	if ahead, ok := t.(interface{ readAhead(path string) }); ok {
		ahead.readAhead(top)
	}
	err = m.walk(ctx, t, top, top, e)
	return m, err
}

// walk adds the file at a path and what is below it.
func (m *match) walk(ctx context.Context, t tree, top, at string, e *layer.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.items = append(m.items, item{rel: below(top, at), at: at, entry: e, link: t.linkID(at, e)})
	if e.Type != typeDir {
		return nil
	}
	names, err := t.names(at)
	if err != nil {
		return err
	}
	for _, name := range names {
		p := join(at, name)
		child, err := t.lookup(p)
		if err != nil {
			return err
		}
		if err := m.walk(ctx, t, top, p, child); err != nil {
			return err
		}
	}
	return nil
}

// below gives the part of p below the directory top, which p is or is in.
func below(top, p string) string {
	if top == "" {
		return p
	}
	return strings.TrimPrefix(p[len(top):], "/")
}

// join joins two clean relative paths, of which either may be "".
func join(dir, p string) string {
	switch {
	case dir == "":
		return p
	case p == "":
		return dir
	}
	return dir + "/" + p
}

// hashFiles finds the digests of all regular files; those that must be read
// are read several at a time.
func (s *selection) hashFiles(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0) + 1)
	for _, m := range s.matches {
		for i := range m.items {
			it := &m.items[i]
			if it.entry.Type != typeReg || it.digest != "" {
				continue
			}
			var ok bool
			if it.digest, ok = s.tree.known(it.at, it.entry); ok {
				continue
			}
			g.Go(func() error {
				d, xattrs, err := s.tree.digest(ctx, it.at, it.entry)
				it.digest = d
				it.attribute(xattrs)
				return err
			})
		}
	}
	return g.Wait()
}
