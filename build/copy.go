package build

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/parser"
)

// transfer is a COPY or ADD with everything expanded.
type transfer struct {
	keyword string
	sources []origin
	docs    []document
	exclude []string
	parents bool
	// dest is absolute and keeps the slash, or slash and dot, it ends in;
	// destText is as the instruction has it.
	dest, destText string
	chown          string
	chmod          chmod
	link           bool
	unpack         bool
	fetched        fetched
}

// document is a heredoc: a file made by the instruction itself.
type document struct{ name, body string }

// expandTransfer settles what a COPY or ADD says.
func expandTransfer(c scoped, in parser.Instruction) (*transfer, error) {
	t := &transfer{keyword: in.Keyword()} // --exclude takes no variables
	var p parser.Transfer
	add, isAdd := in.(*parser.Add)
	if isAdd {
		p = add.Transfer
		t.unpack = add.Unpack == nil || *add.Unpack
	} else {
		add, p = &parser.Add{}, in.(*parser.Copy).Transfer
	}
	t.parents = p.Parents
	t.exclude = p.Exclude // no variables there
	own, err := c.words([]string{p.Chown, p.Chmod, add.Checksum})
	if err != nil {
		return nil, err
	}
	sources, err := c.words(p.Sources)
	if err != nil {
		return nil, err
	}
	if t.sources, err = originsOf(sources); err != nil {
		return nil, err
	}
	if !isAdd && slices.ContainsFunc(t.sources, origin.remote) {
		return nil, &Hinted{errors.New("source can't be a URL or a git repository for COPY"), "ADD fetches them"}
	}
	if t.destText, err = c.word(p.Dest); err != nil {
		return nil, err
	}
	if t.docs, err = c.documents(p.Heredocs); err != nil {
		return nil, err
	}
	if err := t.expandFetched(add, own[2]); err != nil {
		return nil, err
	}
	t.chown = own[0]
	t.dest = destination(c.state.Config.Config.WorkingDir, t.destText)
	if t.chmod, err = parseChmod(own[1]); err != nil {
		return nil, err
	}
	t.link = p.Link && t.chmod.text == "" // BuildKit drops --link beside --chmod
	if p.Link && parseOwnership(t.chown).byName() {
		return nil, &Hinted{fmt.Errorf("--chown=%s: user and group names can't be resolved when used with --link", t.chown), "use numeric uid[:gid] instead"}
	}
	return t, nil
}

func (c scoped) documents(list []parser.Heredoc) ([]document, error) {
	var out []document
	for _, h := range list {
		body := h.Body
		if h.Expand {
			var err error
			body, err = c.noting(c.state.Env, func(l parser.Lookup) (string, error) { return c.x.Body(h.Body, l) })
			if err != nil {
				return nil, err
			}
		}
		out = append(out, document{name: h.Name, body: body})
	}
	return out, nil
}

// destination makes dest absolute; an ending in "/" or "/." is kept, for it
// says that the destination is a directory.
func destination(workdir, dest string) string {
	if dest == "" || dest == "." {
		dest = "./"
	}
	abs := dest
	if !path.IsAbs(dest) {
		abs = path.Join("/", workdir, dest)
	}
	abs = path.Clean(abs)
	switch {
	case strings.HasSuffix(dest, "/."):
		return strings.TrimSuffix(abs, "/") + "/."
	case strings.HasSuffix(dest, "/") && abs != "/":
		return abs + "/"
	}
	return abs
}

// selectors are the sources with their patterns. With --parents a source is the
// directory before its pivot, /./, and what below it matches the rest.
func (t *transfer) selectors() ([]source, error) {
	exclude, err := t.excludes()
	if err != nil {
		return nil, err
	}
	out := plainSources(paths(t.sources)...)
	for i := range out {
		s := &out[i]
		s.exclude, s.unpack = exclude, t.unpack
		if !t.parents {
			continue
		}
		dir, pattern, pivot := strings.Cut(s.path, "/./")
		if !pivot {
			dir, pattern = "", s.path
		}
		pattern = clean(pattern)
		if !hasWildcards(dir) && !hasWildcards(pattern) {
			s.required = path.Join("/", dir, pattern)
		}
		s.path, s.pattern = "/"+dir, pattern
		if s.include, err = parser.NewIgnore([]string{pattern}); err != nil {
			return nil, fmt.Errorf("--parents: %w", err)
		}
	}
	return out, nil
}

// excludes are the patterns of --exclude, or nil.
func (t *transfer) excludes() (*parser.Ignore, error) {
	if len(t.exclude) == 0 {
		return nil, nil
	}
	patterns, err := parser.NewIgnore(t.exclude)
	if err != nil {
		return nil, fmt.Errorf("--exclude: %w", err)
	}
	return patterns, nil
}

// history is the text of the image's history for the instruction.
func (t *transfer) history() string {
	var b strings.Builder
	b.WriteString(t.keyword)
	if t.parents {
		b.WriteString(" --parents")
	}
	if t.chown != "" {
		b.WriteString(" --chown=" + t.chown)
	}
	if t.chmod.text != "" {
		b.WriteString(" --chmod=" + t.chmod.text)
	}
	for _, s := range t.sources {
		b.WriteString(" " + s.text)
	}
	for _, d := range t.docs {
		b.WriteString(" <<" + d.name)
	}
	return b.String() + " " + t.destText + " # buildkit"
}

// land decides where every selected file goes. own is the resolved --chown.
func (t *transfer) land(ctx context.Context, l *landing, sel *selection, own *owner, arch *archives) error {
	for i, m := range sel.matches {
		if m.unpack && !m.dir() {
			done, err := t.landArchive(ctx, l, m.from, m, own, arch)
			if err != nil {
				return err
			}
			if done {
				continue
			}
		}
		if err := t.landMatch(l, m.from, m, own, i); err != nil {
			return err
		}
	}
	for _, d := range t.docs {
		if name := clean(d.name); name == "" || strings.Contains(name, "/") {
			return fmt.Errorf("heredoc %s: its name is that of a file, and names no directories", d.name)
		}
		e := layer.Entry{Type: typeReg, Mode: 0o644, Size: int64(len(d.body)), ModTime: l.now}
		m := match{name: d.name, items: []item{{at: d.name, entry: &e}}}
		if err := t.landMatch(l, memory(d.body), m, own, -1); err != nil {
			return err
		}
	}
	return nil
}

// landMatch lands one match: a file at the destination or inside it when that
// is a directory, a directory's contents in the destination. group tells the
// hard links of one match from those of another.
func (t *transfer) landMatch(l *landing, from opener, m match, own *owner, group int) error {
	dst, err := t.prepare(l, own)
	if err != nil {
		return err
	}
	e, err := l.lookup(dst)
	if err != nil && !isNotExist(err) {
		return err
	}
	switch {
	case !m.dir() && err == nil && e.Type == typeDir:
		dst = path.Join(dst, path.Base(m.name))
	case m.dir() && err != nil:
		if _, err := l.mkdirAll(dst, t.chmod.parents(), own); err != nil {
			return err
		}
	}
	if _, err := l.mkdirAll(parentOf(dst), t.chmod.parents(), own); err != nil {
		return err
	}
	for i := range m.items {
		it := &m.items[i]
		if err := t.landItem(l, from, it, join(dst, it.rel), own, group); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the directories that the destination's spelling asks for, and
// follows its links.
func (t *transfer) prepare(l *landing, own *owner) (string, error) {
	dir := t.dest
	if !strings.HasSuffix(dir, "/") && !strings.HasSuffix(dir, "/.") {
		dir = path.Dir(dir)
	}
	if _, err := l.mkdirAll(dir, t.chmod.parents(), own); err != nil {
		return "", err
	}
	return l.resolve(t.dest)
}

func (t *transfer) landItem(l *landing, from opener, it *item, to string, own *owner, group int) error {
	e := *it.entry
	e.Name, e.Digest = to, it.digest
	if e.ModTime.IsZero() {
		e.ModTime = l.now // a stage's root, which has no entry
	}
	if e.Type == typeBlock {
		e.Type = typeChar // BuildKit's copier loses this bit along with that of sockets
	}
	if own != nil {
		e.UID, e.GID = own.uid, own.gid
	}
	if e.Type != typeSymlink {
		e.Mode = t.chmod.apply(e.Mode, e.Type == typeDir)
	}
	if it.passing {
		return l.putPassing(e, it.entry.Mode)
	}
	if e.Type == typeDir {
		return l.putDir(e, it.rel != "")
	}
	f := &landed{entry: e, from: from, at: it.at, item: it}
	if it.link != "" && e.Type == typeReg { // the copier links nothing else
		f.link = strconv.Itoa(group) + ":" + it.link
	}
	return l.putFile(f)
}
