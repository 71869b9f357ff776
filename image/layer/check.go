package layer

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"
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
// mount of those below it cannot be checked: links there may have led its files
// elsewhere.
func Check(ctx context.Context, dir string, toc *TOC, o CheckOptions) error {
	w := NewWriter(io.Discard)
	if err := Diff(ctx, dir, w); err != nil {
		return err
	}
	_, found, err := w.Close()
	if err != nil {
		return err
	}
	c := treeChecker{have: NewTree(found), options: o}
	if err := NewTree(toc).Walk("", c.node); err != nil {
		return err
	}
	return checkWhiteouts(toc, found)
}

// treeChecker carries one Check.
type treeChecker struct {
	have    *Tree
	options CheckOptions
}

func (c *treeChecker) node(p string, want *Node) error {
	e := &want.Entry
	device := e.Type == tar.TypeChar || e.Type == tar.TypeBlock
	if want.Layer < 0 || p == "" || device && c.options.SkipDevices {
		return nil
	}
	n, ok := c.have.Lookup(p)
	if !ok {
		return fmt.Errorf("%s is gone", p)
	}
	is := &n.Entry
	switch {
	case is.Type != e.Type:
		return fmt.Errorf("%s is another type of file", p)
	case e.Type == tar.TypeReg && is.Size != e.Size:
		return fmt.Errorf("%s has %d bytes instead of %d", p, is.Size, e.Size)
	case e.Type == tar.TypeReg && e.Digest != "" && is.Digest != e.Digest:
		return fmt.Errorf("%s has other bytes", p)
	case e.Type == tar.TypeSymlink && is.Linkname != e.Linkname:
		return fmt.Errorf("%s leads to %q instead of %q", p, is.Linkname, e.Linkname)
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
