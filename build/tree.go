package build

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/opencontainers/go-digest"
)

// tree is a file tree that COPY and ADD read: the build context, or the root
// filesystem of a stage. Paths are relative, clean and slash-separated; "" is
// the root. No method follows a link.
type tree interface {
	// lookup gives a path's entry, which must not be changed; a path that is
	// not there is fs.ErrNotExist.
	lookup(path string) (*layer.Entry, error)
	// names lists a directory, sorted.
	names(dir string) ([]string, error)
	// known gives the digest of a regular file's bytes if it is known without
	// reading the file.
	known(path string, e *layer.Entry) (digest.Digest, bool)
	// digest reads a regular file for its digest.
	digest(ctx context.Context, path string, e *layer.Entry) (digest.Digest, error)
	opener
	// linkID names the group of hard links a file belongs to; "" if it stands alone.
	linkID(path string, e *layer.Entry) string
}

// maxLinks bounds the symbolic links that one path may lead through.
const maxLinks = 255

// clean makes a tree path of what an instruction says: `..` stops at the root.
func clean(p string) string {
	return strings.TrimPrefix(path.Join("/", filepath.ToSlash(p)), "/")
}

// resolve follows every link of p, the last component's too, without leaving
// the root. What is not there is kept as it is written.
func resolve(lookup func(string) (*layer.Entry, error), p string) (string, error) {
	done, rest, links := "", clean(p), 0
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		next := path.Join(done, name)
		e, err := lookup(next)
		if err != nil && !isNotExist(err) {
			return "", err
		}
		if err != nil {
			return path.Join(next, rest), nil
		}
		if e.Type != typeSymlink {
			if rest != "" && e.Type != typeDir {
				return "", fmt.Errorf("/%s: %w", next, errNotDir)
			}
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("/%s: too many levels of symbolic links", clean(p))
		}
		target := e.Linkname
		if !path.IsAbs(target) {
			target = path.Join("/", done, target)
		}
		done, rest = "", clean(path.Join(target, rest))
	}
	return done, nil
}

// hasWildcards reports whether a source is a pattern; a backslash takes the
// meaning from the character after it.
func hasWildcards(p string) bool {
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// glob gives the paths in t that a source pattern matches, in byte order of
// their components. A pattern without wildcards is its own match, there or not.
// The directory that a pattern begins with must be there, even if nothing matches.
func glob(t tree, pattern string) ([]string, error) {
	pattern = clean(pattern)
	found, err := globbed(t, pattern)
	if err != nil || len(found) > 0 {
		return found, err
	}
	dir, _ := splitPattern(pattern)
	at, err := resolve(t.lookup, dir)
	if err != nil || at == "" {
		return nil, err
	}
	return nil, sent(t, at, pattern)
}

// sent wants a directory to be there of which a pattern has matched nothing.
func sent(t tree, dir, pattern string) error {
	if _, err := t.lookup(dir); isNotExist(err) {
		return notFound(t, dir)
	}
	s, ok := t.(interface{ sends(dir string) bool })
	if !ok || s.sends(dir) {
		return nil
	}
	return &Hinted{
		fmt.Errorf("%q: not found: nothing matches %s, and nothing else of the directory is copied", "/"+dir, pattern),
		"leave the pattern out, or copy from the directory above",
	}
}

// splitPattern parts the leading components without wildcards from the rest.
func splitPattern(pattern string) (dir string, rest []string) {
	parts := strings.Split(pattern, "/")
	n := 0
	for n < len(parts) && !hasWildcards(parts[n]) {
		n++
	}
	return path.Join(parts[:n]...), parts[n:]
}

func globbed(t tree, pattern string) ([]string, error) {
	if !hasWildcards(pattern) {
		return []string{pattern}, nil
	}
	if _, err := filepath.Match(pattern, ""); err != nil {
		return nil, &Hinted{fmt.Errorf("pattern %q: %w", pattern, err), "write [[] for a [ that is meant as itself"}
	}
	dir, rest := splitPattern(pattern)
	base, err := resolve(t.lookup, dir)
	if err != nil {
		return nil, err
	}
	found := []string{base}
	for _, part := range rest {
		if found, err = globPart(t, found, part); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// globPart gives the children of dirs whose names match part.
func globPart(t tree, dirs []string, part string) ([]string, error) {
	var out []string
	for _, dir := range dirs {
		e, err := t.lookup(dir)
		if isNotExist(err) || err == nil && e.Type != typeDir {
			continue
		}
		if err != nil {
			return nil, err
		}
		names, err := t.names(dir)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if ok, err := filepath.Match(part, name); err == nil && ok {
				out = append(out, path.Join(dir, name))
			}
		}
	}
	return out, nil
}

func isNotExist(err error) bool { return errorIs(err, fs.ErrNotExist) }
