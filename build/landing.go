package build

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image/layer"
)

// landing is where a COPY, ADD or WORKDIR puts files: the root filesystem
// below, which is only looked at, and what the step adds to it. Nothing is
// written before everything has landed, and every look below that decides the
// outcome is noted, so that the step can be keyed on just these facts.
type landing struct {
	below base
	// facts holds what was asked of the tree below, by path.
	facts map[string]string
	added map[string]*landed
	// hidden are the paths where something has taken the place of whatever is
	// below, directories with all that is in them included.
	hidden map[string]bool
	groups int // of hard links that archives have made
	now    time.Time
}

// base is a root filesystem that a landing adds to.
type base interface {
	lookup(path string) (*layer.Entry, error)
	opener
}

// landed is one path that the step makes.
type landed struct {
	entry layer.Entry
	// from, at and link are where a regular file's bytes come from, and its
	// group of hard links.
	from opener
	at   string
	link string
	// opaque marks a directory that has nothing of the one below.
	opaque bool
	// item is what was selected; it learns the digest when the file is read.
	item *item
}

// opener gives the bytes of regular files: a tree, a heredoc, an archive.
type opener interface {
	open(ctx context.Context, path string, e *layer.Entry) (io.ReadCloser, error)
}

// owner is what --chown or USER makes of new files; nil keeps what they have.
type owner struct{ uid, gid int }

func newLanding(below base, now time.Time) *landing {
	return &landing{below: below, facts: map[string]string{}, added: map[string]*landed{}, hidden: map[string]bool{}, now: now}
}

// look looks at the tree below, less what is hidden.
func (l *landing) look(p string) (*layer.Entry, error) {
	for dir := p; dir != "" && len(l.hidden) > 0; dir = parentOf(dir) {
		if l.hidden[dir] {
			return nil, fs.ErrNotExist
		}
	}
	return l.below.lookup(p)
}

// replace lands f in place of whatever is there, but a directory on a directory.
func (l *landing) replace(f *landed) error {
	name := f.entry.Name
	f.opaque = f.entry.Type == typeDir && l.hidden[name]
	if f.entry.Type != typeDir {
		_, dir, err := l.kind(name)
		if err != nil {
			return err
		}
		if dir {
			maps.DeleteFunc(l.added, func(p string, _ *landed) bool { return strings.HasPrefix(p, name+"/") })
		}
		l.hidden[name] = true
	}
	l.added[name] = f
	return nil
}

// lookup looks at a path whose every detail matters: a component of a destination.
func (l *landing) lookup(p string) (*layer.Entry, error) {
	if a, ok := l.added[p]; ok {
		return &a.entry, nil
	}
	e, err := l.look(p)
	switch {
	case isNotExist(err):
		l.facts[p] = "absent"
	case err != nil:
		return e, err
	default:
		l.facts[p] = factOf(e)
	}
	return e, err
}

// take gives a file that is there to be landed again, whose every detail
// matters then, its bytes included.
func (l *landing) take(p string) (*landed, error) {
	if f, ok := l.added[p]; ok {
		if f.entry.Type == typeDir {
			return nil, errIsDir
		}
		return f, nil
	}
	e, err := l.lookup(p)
	if err != nil {
		return nil, err
	}
	if e.Type == typeDir {
		return nil, errIsDir
	}
	l.facts[p] = fmt.Sprintf("%c %04o %d:%d %s %q %d,%d", e.Type, e.Mode, e.UID, e.GID, e.Digest, e.Linkname, e.Devmajor, e.Devminor)
	f := &landed{entry: *e, from: l.below, at: p}
	f.entry.Name = p
	l.added[p] = f
	return f, nil
}

// factOf tells what of an existing path a landing depends on.
func factOf(e *layer.Entry) string {
	switch e.Type {
	case typeSymlink:
		return "link " + e.Linkname
	case typeDir:
		var xattrs strings.Builder
		for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
			fmt.Fprintf(&xattrs, " %q=%q", k, e.Xattrs[k])
		}
		return fmt.Sprintf("dir %04o %d:%d%s", e.Mode, e.UID, e.GID, xattrs.String())
	}
	return "file"
}

// kind looks at a path of which only this matters: whether it is a directory,
// something else, or absent. It leaves no fact, for each outcome but one is an error.
func (l *landing) kind(p string) (there, dir bool, err error) {
	if a, ok := l.added[p]; ok {
		return true, a.entry.Type == typeDir, nil
	}
	e, err := l.look(p)
	if isNotExist(err) {
		return false, false, nil
	}
	return err == nil, err == nil && e.Type == typeDir, err
}

func (l *landing) resolve(p string) (string, error) { return resolve(l.lookup, p) }

// mkdirAll makes the missing directories of p, which is followed through
// links, and gives the resolved path.
func (l *landing) mkdirAll(p string, mode int64, o *owner) (string, error) {
	p, err := l.resolve(p)
	if err != nil {
		return "", err
	}
	at := ""
	for name := range strings.SplitSeq(p, "/") {
		if name == "" {
			continue
		}
		parent := at
		at = path.Join(at, name)
		e, err := l.lookup(at)
		if err == nil && e.Type != typeDir {
			return "", fmt.Errorf("mkdir /%s: %w", at, errNotDir)
		}
		if err == nil {
			continue
		}
		if !isNotExist(err) {
			return "", err
		}
		if err := l.mkdir(parent, at, mode, o); err != nil {
			return "", err
		}
	}
	return p, nil
}

// mkdir makes a directory as mkdir(2) does: one with the setgid bit hands down
// the bit and its group.
func (l *landing) mkdir(parent, at string, mode int64, o *owner) error {
	dir := layer.Entry{Name: at, Type: typeDir, Mode: mode & 0o777, ModTime: l.now}
	above, err := l.lookup(parent)
	if err != nil {
		return err
	}
	if above.Mode&0o2000 != 0 {
		dir.Mode |= 0o2000
		dir.GID = above.GID
	}
	if o != nil {
		dir.UID, dir.GID = o.uid, o.gid
	}
	l.added[at] = &landed{entry: dir}
	return nil
}

// putDir lands a directory. An existing one keeps its own metadata but for the
// time of modification, unless overwrite is set.
func (l *landing) putDir(e layer.Entry, overwrite bool) error {
	there, dir, err := l.kind(e.Name)
	switch {
	case err != nil:
		return err
	case there && !dir:
		return fmt.Errorf("cannot copy to non-directory: /%s", e.Name)
	case there && !overwrite:
		have, err := l.lookup(e.Name)
		if err != nil {
			return err
		}
		kept := *have
		kept.Name, kept.ModTime = e.Name, e.ModTime
		e = kept
	}
	l.added[e.Name] = &landed{entry: e}
	return nil
}

// putPassing lands a directory that only leads to what is selected: one that
// exists keeps its owner and takes the source's mode, as with BuildKit.
func (l *landing) putPassing(e layer.Entry, sourceMode int64) error {
	have, err := l.lookup(e.Name)
	if isNotExist(err) {
		l.added[e.Name] = &landed{entry: e}
		return nil
	}
	if err != nil {
		return err
	}
	if have.Type != typeDir {
		return fmt.Errorf("cannot copy to non-directory: /%s", e.Name)
	}
	kept := *have
	kept.Name, kept.Mode = e.Name, sourceMode
	l.added[e.Name] = &landed{entry: kept}
	return nil
}

// putFile lands anything that is not a directory; what is there is replaced.
func (l *landing) putFile(f *landed) error {
	there, dir, err := l.kind(f.entry.Name)
	if err != nil {
		return err
	}
	if there && dir {
		return fmt.Errorf("cannot replace directory /%s with file", f.entry.Name)
	}
	l.added[f.entry.Name] = f
	return nil
}

// settled is the layer that the landing makes, parents before children and in
// byte order of path components: the added paths, and the directories that
// lead to them as they are below, since a layer that lacks them would change them.
func (l *landing) settled() ([]*landed, error) {
	list := make([]*landed, 0, len(l.added))
	parents := map[string]bool{"": true}
	for p, f := range l.added {
		if p != "" {
			list = append(list, f)
		}
		for dir := parentOf(p); !parents[dir]; dir = parentOf(dir) {
			parents[dir] = true
			if _, ok := l.added[dir]; ok {
				continue
			}
			e, err := l.below.lookup(dir)
			if err != nil {
				return nil, fmt.Errorf("look up /%s: %w", dir, err)
			}
			parent := *e
			parent.Name = dir
			list = append(list, &landed{entry: parent})
		}
	}
	slices.SortFunc(list, func(a, b *landed) int { return comparePaths(a.entry.Name, b.entry.Name) })
	return list, nil
}

func parentOf(p string) string {
	dir, _ := path.Split(p)
	return strings.TrimSuffix(dir, "/")
}

// comparePaths orders paths as a depth-first walk meets them: "/" sorts before
// every other byte.
func comparePaths(a, b string) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		}
		return int(a[i]) - int(b[i])
	}
	return len(a) - len(b)
}
