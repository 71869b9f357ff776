package image

import (
	"archive/tar"
	"maps"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image/layer"
)

// ChangeKind tells what happened to a file; its text is what docker diff prints.
type ChangeKind string

// The kinds of changes.
const (
	Added   ChangeKind = "A"
	Removed ChangeKind = "D"
	Changed ChangeKind = "C"
)

// Change is a difference between two images at one path.
type Change struct {
	Kind ChangeKind
	Path string // absolute
	// Old and New are the file before and after; one is nil unless it was
	// changed.
	Old, New *File
	// What tells what was changed: type, content, link, mode, owner, device,
	// xattrs, time.
	What []string
}

// DiffOptions says what counts as a difference.
type DiffOptions struct {
	// Times makes another modification time one.
	Times bool
}

// Diff gives what was added, removed and changed from old to new, sorted by
// path. What a directory has is told of each file in it.
func Diff(old, new *Files, o DiffOptions) []Change {
	d := differ{options: o}
	before, _ := old.tree.Lookup("")
	after, _ := new.tree.Lookup("")
	d.compare("", before, after)
	return d.changes
}

type differ struct {
	options DiffOptions
	changes []Change
}

// compare compares what two images have at a path; nil is nothing.
func (d *differ) compare(path string, old, new *layer.Node) {
	c := Change{Path: "/" + path}
	if old != nil {
		f := newFile(path, old)
		c.Old = &f
	}
	if new != nil {
		f := newFile(path, new)
		c.New = &f
	}
	switch {
	case old == nil:
		c.Kind = Added
	case new == nil:
		c.Kind = Removed
	default:
		c.Kind, c.What = Changed, d.differences(&old.Entry, &new.Entry)
	}
	if c.Kind != Changed || len(c.What) > 0 {
		d.changes = append(d.changes, c)
	}
	for _, name := range childNames(old, new) {
		d.compare(strings.TrimPrefix(path+"/"+name, "/"), child(old, name), child(new, name))
	}
}

func childNames(nodes ...*layer.Node) []string {
	var names []string
	for _, n := range nodes {
		if n != nil {
			names = append(names, n.Children()...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func child(n *layer.Node, name string) *layer.Node {
	if n == nil {
		return nil
	}
	return n.Child(name)
}

// differences lists what differs between two entries.
func (d *differ) differences(a, b *layer.Entry) []string {
	var what []string
	note := func(differs bool, word string) {
		if differs {
			what = append(what, word)
		}
	}
	note(a.Type != b.Type, "type")
	note(a.Type == b.Type && a.Type == tar.TypeReg && (a.Size != b.Size || a.Digest != b.Digest), "content")
	note(a.Type == b.Type && a.Linkname != b.Linkname, "link")
	note(a.Type == b.Type && (a.Devmajor != b.Devmajor || a.Devminor != b.Devminor), "device")
	note(a.Mode != b.Mode, "mode")
	note(a.UID != b.UID || a.GID != b.GID, "owner")
	note(!maps.Equal(a.Xattrs, b.Xattrs), "xattrs")
	note(d.options.Times && !a.ModTime.Equal(b.ModTime), "time")
	return what
}
