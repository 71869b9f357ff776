package layer

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
)

// CheckOptions say how the directory that Check looks at was made.
type CheckOptions struct {
	// SkipDevices says that device files were left out.
	SkipDevices bool
}

// Check compares a directory that a layer was unpacked into, in Overlay format,
// with the layer's table of contents, and gives the first difference: every file of
// the table must be there with the same bytes. Owners, times and attributes are not
// compared, nor what the directory has beside it. A layer that was unpacked through a
// mount of those below it is for CheckOnto: links there may have led its files
// elsewhere.
func Check(ctx context.Context, dir string, toc *TOC, o CheckOptions) error {
	found, err := contents(ctx, dir)
	if err != nil {
		return err
	}
	c := treeChecker{have: NewTree(found), options: o}
	if err := NewTree(toc).Walk("", c.node); err != nil {
		return err
	}
	return checkWhiteouts(toc, found)
}

// CheckOnto compares a directory that holds what unpacking the last of some layers
// changed in a mount of those below it, the bottom first: on top of what these hold, it
// must give the files that the layers' tables of contents together say, and no others.
// Owners, times and attributes are not compared.
func CheckOnto(ctx context.Context, dir string, tocs []*TOC, o CheckOptions) error {
	found, err := contents(ctx, dir)
	if err != nil {
		return err
	}
	below := tocs[:len(tocs)-1]
	c := treeChecker{have: NewTree(append(slices.Clone(below), found)...), options: o}
	return c.same("", NewTree(tocs...).root, c.have.root)
}

// contents reads a directory in Overlay format.
func contents(ctx context.Context, dir string) (*TOC, error) {
	w := NewWriter(io.Discard)
	if err := Diff(ctx, dir, w); err != nil {
		return nil, err
	}
	_, found, err := w.Close()
	return found, err
}

// treeChecker carries one check.
type treeChecker struct {
	have    *Tree
	options CheckOptions
}

// skips reports whether the file was left out.
func (c *treeChecker) skips(e *Entry) bool {
	return c.options.SkipDevices && (e.Type == tar.TypeChar || e.Type == tar.TypeBlock)
}

func (c *treeChecker) node(p string, want *Node) error {
	if want.Layer < 0 || p == "" || c.skips(&want.Entry) {
		return nil
	}
	n, ok := c.have.Lookup(p)
	if !ok {
		return fmt.Errorf("%s is gone", p)
	}
	return sameFile(p, &n.Entry, &want.Entry)
}

// same compares what two trees have at a path and below it.
func (c *treeChecker) same(p string, want, have *Node) error {
	if p != "" {
		if err := sameFile(p, &have.Entry, &want.Entry); err != nil {
			return err
		}
	}
	for _, name := range want.Children() {
		child, at := want.children[name], joinName(p, name)
		if c.skips(&child.Entry) {
			continue
		}
		is, ok := have.children[name]
		if !ok {
			return fmt.Errorf("%s is gone", at)
		}
		if err := c.same(at, child, is); err != nil {
			return err
		}
	}
	for _, name := range have.Children() {
		if want.children[name] == nil {
			return fmt.Errorf("%s should not be there", joinName(p, name))
		}
	}
	return nil
}

// sameFile compares what is at a path with what should be.
func sameFile(p string, is, want *Entry) error {
	switch {
	case is.Type != want.Type:
		return fmt.Errorf("%s is another type of file", p)
	case want.Type == tar.TypeReg && is.Size != want.Size:
		return fmt.Errorf("%s has %d bytes instead of %d", p, is.Size, want.Size)
	case want.Type == tar.TypeReg && want.Digest != "" && is.Digest != want.Digest:
		return fmt.Errorf("%s has other bytes", p)
	case want.Type == tar.TypeSymlink && is.Linkname != want.Linkname:
		return fmt.Errorf("%s leads to %q instead of %q", p, is.Linkname, want.Linkname)
	}
	return nil
}

// checkWhiteouts wants every whiteout to be there, but for those in directories
// that hide everything.
func checkWhiteouts(want, have *TOC) error {
	found := make(map[string]bool)
	for i := range have.Entries {
		found[have.Entries[i].Name] = true
	}
	opaque := make(map[string]bool)
	for i := range want.Entries {
		if dir, ok := want.Entries[i].Opaque(); ok {
			opaque[dir] = true
		}
	}
	own := NewTree(want)
	for i := range want.Entries {
		name := want.Entries[i].Name
		target, ok := want.Entries[i].Whiteout()
		if !ok || found[name] || isBelow(target, opaque) {
			continue
		}
		if _, replaced := own.Lookup(target); !replaced {
			return fmt.Errorf("the whiteout of %s is gone", target)
		}
	}
	return nil
}

// isBelow reports whether one of the directories is above the path.
func isBelow(p string, dirs map[string]bool) bool {
	for p != "." && p != "/" && p != "" {
		p = path.Dir(p)
		if dirs[p] {
			return true
		}
	}
	return false
}
