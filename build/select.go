package build

import (
	"context"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// selection is what the sources of a COPY or ADD stand for: for each path
// that a source names or matches, the tree below it.
type selection struct {
	matches []match
	digest  digest.Digest
}

// match is one path that a source stands for, or what a source that is fetched gives.
type match struct {
	// name is the path as the source has it: a link's own name decides what
	// its target is called at the destination.
	name  string
	items []item
	// from gives the bytes of the items: the tree that they are in, if it is one.
	from opener
	// unpack says that an archive is meant for what it holds.
	unpack bool
	// whole, if set, identifies the match before there are items, and fill
	// fetches them.
	whole []string
	fill  func(ctx context.Context, m *match) error
}

// item is one file of a match, in depth-first order, the top first.
type item struct {
	// rel is the path below the match, "" for the match itself; at is the path in the tree.
	rel, at string
	entry   *layer.Entry
	digest  digest.Digest
	link    string
	// passing marks a directory that is not selected but leads to something that is.
	passing bool
}

// dir reports whether the match is a directory, of which only the contents are copied.
func (m match) dir() bool { return m.items[0].entry.Type == typeDir }

// missingError makes the error for a source that is not there.
type missingError interface{ missing(path string) error }

// source is one source of a COPY or ADD: a path or a pattern of paths, and what
// below it is meant.
type source struct {
	path string
	// include, if set, selects paths below; directories on the way to them come
	// along. exclude leaves out what it matches, and what is below that.
	include, exclude *parser.Ignore
	pattern          string // what include is made of
	// unpack takes a file for an archive, if it is one.
	unpack bool
	// required, if set, is a path that must be among what is selected: itself or
	// something that begins with it.
	required string
}

// plainSources are paths with all that is below them.
func plainSources(paths ...string) []source {
	out := make([]source, len(paths))
	for i, p := range paths {
		out[i].path = p
	}
	return out
}

// selectSource finds what a source names. No file is read yet.
func selectSource(ctx context.Context, t tree, src source) ([]match, error) {
	names, err := glob(t, src.path)
	if err != nil {
		return nil, err
	}
	var out []match
	for _, name := range names {
		m, err := matchTree(ctx, t, name, src)
		if err != nil {
			return nil, err
		}
		if src.required != "" && !m.selects(t, src.required) {
			return nil, notFound(t, clean(src.required))
		}
		if err := src.included(t, m); err != nil {
			if hasWildcards(src.path) {
				continue // a wildcard does not find what is not there
			}
			return nil, err
		}
		if name == "" && (src.include != nil || src.exclude != nil) {
			if err := m.checkLinks(t); err != nil {
				return nil, err
			}
		}
		m.unpack = src.unpack
		out = append(out, m)
	}
	return out, nil
}

// included tells of a match of one file that include does not let be there.
func (src source) included(t tree, m match) error {
	if src.include == nil || len(m.items) != 1 || m.items[0].at == "" {
		return nil
	}
	return sent(t, m.items[0].at, src.pattern)
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

// find looks a source up through its links.
func find(t tree, name string) (at string, e *layer.Entry, err error) {
	if at, err = resolve(t.lookup, name); err != nil {
		return "", nil, err
	}
	e, err = t.lookup(at)
	if !isNotExist(err) {
		return at, e, err
	}
	return "", nil, notFound(t, name)
}

func notFound(t tree, name string) error {
	if mt, ok := t.(missingError); ok {
		return mt.missing(name)
	}
	err := fmt.Errorf("%q: not found", "/"+name)
	if near := nearPath(t, name); near != "" {
		return &Hinted{err, "did you mean /" + near + "?"}
	}
	return err
}

// selects reports whether a path that begins with prefix is selected itself.
// A match that is a link has nothing below it, though its target may have.
func (m match) selects(t tree, prefix string) bool {
	dir, base := path.Split(m.name)
	if at, err := resolve(t.lookup, dir); err == nil {
		if e, err := t.lookup(join(at, base)); err == nil && e.Type == typeSymlink {
			return false
		}
	}
	return slices.ContainsFunc(m.items[1:], func(it item) bool {
		return !it.passing && strings.HasPrefix("/"+join(m.name, it.rel), prefix)
	})
}

// matchTree walks what one source path stands for.
func matchTree(ctx context.Context, t tree, name string, src source) (match, error) {
	m := match{name: name, from: t}
	top, e, err := find(t, name)
	if err != nil {
		return m, err
	}
	if ahead, ok := t.(interface{ readAhead(path string) }); ok && src.include == nil {
		ahead.readAhead(top)
	}
	w := walker{tree: t, src: src, top: top, match: &m}
	if err := w.visit(ctx, top, e, verdicts{}); err != nil {
		return m, err
	}
	return m, nil
}

// checkLinks wants the links at the top of a root directory to lead somewhere.
// BuildKit follows them, and them alone, to identify what patterns select there.
func (m match) checkLinks(t tree) error {
	for _, it := range m.items {
		if it.entry.Type == typeSymlink && !strings.Contains(it.rel, "/") {
			if _, _, err := find(t, it.at); err != nil {
				return err
			}
		}
	}
	return nil
}

// walker collects the selected files of one match.
type walker struct {
	tree  tree
	src   source
	top   string
	match *match
	// waiting are the directories above that are not selected themselves: they
	// come along as soon as something in them is.
	waiting []item
}

// verdicts are what the patterns said of a directory.
type verdicts struct{ include, exclude parser.Match }

// visit adds the file at a path, if it is selected, and what is below it.
func (w *walker) visit(ctx context.Context, at string, e *layer.Entry, above verdicts) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	it := item{rel: below(w.top, at), at: at, entry: e, link: w.tree.linkID(at, e)}
	v, selected, err := w.judge(it.rel, above)
	if err != nil {
		return err
	}
	if selected {
		w.match.items = append(append(w.match.items, w.waiting...), it)
		w.waiting = w.waiting[:0]
	}
	if e.Type != typeDir || v.exclude.Excluded && !w.src.exclude.Exceptions() {
		return nil
	}
	depth := len(w.waiting)
	if !selected {
		it.passing = true
		w.waiting = append(w.waiting, it)
	}
	names, err := w.tree.names(at)
	if err != nil {
		return err
	}
	for _, name := range names {
		p := join(at, name)
		child, err := w.tree.lookup(p)
		if err != nil {
			return err
		}
		if err := w.visit(ctx, p, child, v); err != nil {
			return err
		}
	}
	if len(w.waiting) > depth {
		w.waiting = w.waiting[:depth]
	}
	return nil
}

// judge asks the patterns about a path. The match itself is always selected.
func (w *walker) judge(rel string, above verdicts) (v verdicts, selected bool, err error) {
	if rel == "" {
		return v, true, nil
	}
	selected = true
	if w.src.include != nil {
		if v.include, err = w.src.include.Excluded(rel, above.include); err != nil {
			return v, false, err
		}
		selected = v.include.Excluded
	}
	if v.exclude, err = w.src.exclude.Excluded(rel, above.exclude); err != nil {
		return v, false, err
	}
	return v, selected && !v.exclude.Excluded, nil
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
		t, ok := m.from.(tree)
		if !ok || m.whole != nil {
			continue // it is identified by other means
		}
		for i := range m.items {
			it := &m.items[i]
			if it.entry.Type != typeReg || it.digest != "" {
				continue
			}
			var ok bool
			if it.digest, ok = t.known(it.at, it.entry); ok {
				continue
			}
			g.Go(func() error {
				var err error
				it.digest, err = t.digest(ctx, it.at, it.entry)
				return err
			})
		}
	}
	return g.Wait()
}
