package layer

import (
	"archive/tar"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links one path may lead through, as in Linux.
const maxLinks = 40

// Tree is what layers on top of each other look like: their whiteouts carried out,
// their symbolic links in parents followed as Apply does. Paths are relative and
// "" is the root; a slash at the start and "." are taken the same. It is not
// changed after NewTree, and safe for concurrent use.
type Tree struct {
	root *Node
}

// Node is one file of a Tree.
type Node struct {
	// Entry describes the file. Its Name is that in its layer's tar. For a hard link it
	// is the entry that holds the file. A directory that no layer mentions is 0755 and
	// root's.
	Entry Entry
	// Layer and Index say where Entry is: the layer (0 is the bottom, -1 is none of
	// them) and the place in its TOC. Nodes that are no directories and share both are
	// hard links to one file.
	Layer, Index int

	children map[string]*Node
	// touched is the uppermost layer that has put something here or below, which its
	// own whiteouts spare.
	touched int
}

// Children returns the names in a directory, sorted.
func (n *Node) Children() []string {
	return slices.Sorted(maps.Keys(n.children))
}

// IsDir reports whether the node is a directory.
func (n *Node) IsDir() bool { return n.Entry.Type == tar.TypeDir }

// NewTree merges tables of contents, the bottom layer first. Entries that Apply would
// fail on, such as hard links to nowhere, are left out.
func NewTree(tocs ...*TOC) *Tree {
	t := &Tree{root: impliedDir(-1)}
	for layer, toc := range tocs {
		nodes := make([]Node, len(toc.Entries)) // one allocation
		for i := range toc.Entries {
			n := &nodes[i]
			*n = Node{Entry: toc.Entries[i], Layer: layer, Index: i, touched: layer}
			t.add(n)
		}
	}
	return t
}

func impliedDir(layer int) *Node {
	return &Node{
		Entry:   Entry{Name: ".", Type: tar.TypeDir, Mode: 0o755},
		Layer:   -1,
		Index:   -1,
		touched: layer,
	}
}

// add puts one entry of a layer into the tree.
func (t *Tree) add(n *Node) {
	e := &n.Entry
	if e.Name == "." {
		n.children = t.root.children
		t.root = n
		return
	}
	dir, base := splitName(e.Name)
	up := t.mkdir(dir, n.Layer)
	if up == nil {
		return
	}
	if target, ok := e.Whiteout(); ok {
		_, base := splitName(target)
		up.delete(base, n.Layer)
		return
	}
	if _, ok := e.Opaque(); ok {
		up.purge(n.Layer)
		return
	}
	old := up.children[base]
	switch {
	case e.Type == tar.TypeDir && old != nil && old.IsDir():
		n.children = old.children
	case e.Type == tar.TypeLink:
		target, ok := t.linkTarget(e.Linkname)
		if !ok {
			return
		}
		n.Entry, n.Layer, n.Index = target.Entry, target.Layer, target.Index
	}
	up.set(base, n)
}

// set makes n the child of that name.
func (n *Node) set(name string, child *Node) {
	if n.children == nil {
		n.children = make(map[string]*Node)
	}
	n.children[name] = child
}

// delete removes a child, all but what the layer itself has put there.
func (n *Node) delete(name string, layer int) {
	child := n.children[name]
	switch {
	case child == nil:
	case child.touched < layer:
		delete(n.children, name)
	default:
		child.purge(layer)
	}
}

// purge removes all children but what the layer itself has put there.
func (n *Node) purge(layer int) {
	for name := range n.children {
		n.delete(name, layer)
	}
}

// mkdir returns the directory at a path for an entry of the layer to be put in, and
// makes it where it is missing. It returns nil where no directory can be.
func (t *Tree) mkdir(path string, layer int) *Node {
	if n, ok := t.touch(path, layer); ok {
		return n
	}
	real, _, err := t.Resolve(path)
	if err != nil {
		return nil
	}
	n, _ := t.touch(real, layer)
	return n
}

// touch goes down a path of directories, marks them as the layer's and makes the
// missing ones. It stops at anything else.
func (t *Tree) touch(path string, layer int) (*Node, bool) {
	n := t.root
	for rest := path; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		child := n.children[name]
		if child == nil {
			child = impliedDir(layer)
			n.set(name, child)
		}
		if !child.IsDir() {
			return nil, false
		}
		child.touched = layer
		n = child
	}
	return n, true
}

// linkTarget finds what a hard link points to: links above it are followed, it is not.
func (t *Tree) linkTarget(path string) (*Node, bool) {
	_, n, err := t.ResolveParent(path)
	return n, err == nil && n != nil && !n.IsDir()
}

// Lookup returns what is at a path, no link followed.
func (t *Tree) Lookup(path string) (*Node, bool) {
	n := t.root
	for _, name := range pathComponents(path) {
		child, ok := n.children[name]
		if !ok {
			return nil, false
		}
		n = child
	}
	return n, true
}

// File returns the layer and the entry that hold the bytes of the regular file at a
// path, no link followed.
func (t *Tree) File(path string) (layer int, e Entry, ok bool) {
	n, ok := t.Lookup(path)
	if !ok || n.Entry.Type != tar.TypeReg {
		return 0, Entry{}, false
	}
	return n.Layer, n.Entry, true
}

// Resolve follows every symbolic link in a path, the last one too, inside the root.
// It returns the path that it leads to, without links, and what is there. What
// does not exist is kept as it is written, and the node is nil then. A path through
// something that is no directory and links in a circle are errors.
func (t *Tree) Resolve(path string) (string, *Node, error) {
	return t.resolve(path, true)
}

// ResolveParent is like Resolve, but does not follow a link at the end of the path.
func (t *Tree) ResolveParent(path string) (string, *Node, error) {
	return t.resolve(path, false)
}

func (t *Tree) resolve(path string, last bool) (string, *Node, error) {
	// stack holds the nodes of names, as far as they exist.
	var names []string
	stack := []*Node{t.root}
	todo := pathComponents(path)
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if name == ".." {
			names = names[:max(len(names)-1, 0)]
			stack = stack[:min(len(stack), len(names)+1)]
			continue
		}
		names = append(names, name)
		if len(stack) < len(names) {
			continue // below something that does not exist
		}
		up := stack[len(stack)-1]
		if !up.IsDir() {
			return "", nil, fmt.Errorf("resolve %s: %w", path, syscall.ENOTDIR)
		}
		n := up.children[name]
		if n == nil {
			continue
		}
		if n.Entry.Type != tar.TypeSymlink || (len(todo) == 0 && !last) {
			stack = append(stack, n)
			continue
		}
		if links++; links > maxLinks {
			return "", nil, fmt.Errorf("resolve %s: %w", path, syscall.ELOOP)
		}
		names = names[:len(names)-1]
		if strings.HasPrefix(n.Entry.Linkname, "/") {
			names, stack = names[:0], stack[:1]
		}
		todo = append(pathComponents(n.Entry.Linkname), todo...)
	}
	real := strings.Join(names, "/")
	if len(stack) <= len(names) {
		return real, nil, nil
	}
	return real, stack[len(stack)-1], nil
}

// pathComponents returns the components of a path, empty ones and "." dropped.
func pathComponents(path string) []string {
	var out []string
	for c := range strings.SplitSeq(path, "/") {
		if c != "" && c != "." {
			out = append(out, c)
		}
	}
	return out
}

// Walk calls fn for the file at a path and everything below it, sorted, each
// directory before what is in it. It stops at the first error.
func (t *Tree) Walk(path string, fn func(path string, n *Node) error) error {
	n, ok := t.Lookup(path)
	if !ok {
		return fmt.Errorf("walk %s: %w", path, syscall.ENOENT)
	}
	return n.walk(strings.Join(pathComponents(path), "/"), fn)
}

func (n *Node) walk(path string, fn func(path string, n *Node) error) error {
	if err := fn(path, n); err != nil {
		return err
	}
	for _, name := range n.Children() {
		if err := n.children[name].walk(joinName(path, name), fn); err != nil {
			return err
		}
	}
	return nil
}

// Child returns what a directory has of that name, nil if it has nothing.
func (n *Node) Child(name string) *Node { return n.children[name] }
