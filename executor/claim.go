package executor

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// Where there is one user id, nothing tells who has made a file. But an ordinary user cannot
// become another one: what a step of such a user has made, and has not given away, is his.

// linksAttr is on a directory, "uid:gid" of the symbolic links that a step has made in it, on
// which nothing can be noted.
const linksAttr = "user.ocibuild.links"

// claim is what a step's user has made.
type claim struct {
	uid, gid uint32
	skip     map[string]bool // paths that are not the step's
	// below tells what was there before the step: whether anything was, and whether that is
	// the file which is there now, or may be.
	below func(name string, st *unix.Stat_t) (there, same bool, err error)
}

// claim is what a step of this plan has made, but for what was below it.
func (p *plan) claim() claim {
	c := claim{uid: uint32(p.UID), gid: uint32(p.GID), skip: map[string]bool{}}
	for _, dir := range p.lasting {
		c.skip[strings.TrimPrefix(path.Clean(dir), "/")] = true
	}
	return c
}

// nobodys says that the step was root's, whose files need no note.
func (c claim) nobodys() bool { return c.uid == 0 && c.gid == 0 }

// claim notes in the snapshot's copy whose new files are.
func (w *workingTree) claim(c claim) error {
	c.below = func(name string, st *unix.Stat_t) (bool, bool, error) {
		was, there := w.before[name]
		return there, was.Ino == st.Ino, nil
	}
	for name := range w.skip {
		c.skip[name] = true
	}
	return c.all(w.root)
}

// claimUpper notes in the snapshot's upper directory whose new files are.
func (sn *Snapshot) claimUpper(c claim) error {
	upper, err := os.Open(sn.Upper())
	if err != nil {
		return fmt.Errorf("note owners: %w", err)
	}
	defer upper.Close()
	var view *os.File
	c.below = func(name string, st *unix.Stat_t) (there, same bool, err error) {
		if view == nil {
			if view, err = sn.store.View(context.Background(), sn.parents); err != nil {
				return false, false, err
			}
		}
		return existed(view, name, st)
	}
	err = c.all(upper)
	if view != nil {
		view.Close()
	}
	return err
}

// existed looks for a file in a tree. One that has a note there and none any more is another.
func existed(tree *os.File, name string, now *unix.Stat_t) (there, same bool, err error) {
	dir, base := rootfs.Split(name)
	fd, err := openBelow(tree, dir)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, false, ignoreMissing(err)
	}
	if st.Mode&unix.S_IFMT != now.Mode&unix.S_IFMT {
		return true, false, nil
	}
	note, err := noted(fd, base, ownerAttr)
	return true, note == "", err
}

// noted reads a note from a file in a directory; a link or a device has none.
func noted(dir int, name, attr string) (string, error) {
	at := fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)
	note, err := readXattr(func(buf []byte) (int, error) { return unix.Lgetxattr(at, attr, buf) })
	if err == unix.EPERM {
		return "", nil
	}
	return note, err
}

// all claims everything below a directory that the step has made.
func (c claim) all(root *os.File) error {
	fd, err := unix.Openat(int(root.Fd()), ".", openDirectory, 0)
	if err == nil {
		err = c.directory(fd, "", false, c.gid)
	}
	if err != nil {
		return fmt.Errorf("note owners: %w", err)
	}
	return nil
}

// directory claims what is in a directory, which it closes. fresh says that nothing of it was
// there before, gid whose its new files are.
func (c claim) directory(dir int, at string, fresh bool, gid uint32) error {
	defer unix.Close(dir)
	entries, err := rootfs.List(dir)
	if err != nil {
		return err
	}
	links := false
	for _, e := range entries {
		name := joinPath(at, e.Name)
		if c.skip[name] {
			continue
		}
		if c.nobodys() && e.Type != unix.DT_DIR && e.Type != unix.DT_UNKNOWN {
			continue
		}
		link, err := c.entry(dir, e.Name, name, fresh, gid)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		links = links || link
	}
	return c.noteLinks(dir, links, gid)
}

// entry claims one name and what is below it. It tells whether that is a symbolic link of the step's.
func (c claim) entry(dir int, base, name string, fresh bool, gid uint32) (link bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && (c.nobodys() || kind != unix.S_IFREG && kind != unix.S_IFLNK) {
		return false, nil // nothing can be noted on what is left
	}
	made := fresh
	if !fresh && !c.nobodys() {
		there, same, err := c.below(name, &st)
		if err != nil {
			return false, err
		}
		made = !there || !same
	}
	switch {
	case kind == unix.S_IFLNK:
		return made, nil
	case made:
		if err := c.take(dir, base, gid); err != nil {
			return false, err
		}
	}
	if kind != unix.S_IFDIR {
		return false, nil
	}
	return false, c.enter(dir, base, name, made, st.Mode&unix.S_ISGID != 0)
}

// enter claims what is in a directory.
func (c claim) enter(dir int, base, name string, fresh, setgid bool) error {
	fd, err := unix.Openat(dir, base, openDirectory, 0)
	if err != nil {
		return err
	}
	if !fresh && !c.nobodys() {
		if fresh, err = isOpaqueFD(fd); err != nil {
			unix.Close(fd)
			return err
		}
	}
	gid := c.gid
	if setgid { // its files have its group
		text, err := noted(dir, base, ownerAttr)
		if err != nil {
			unix.Close(fd)
			return err
		}
		_, gid = parseOwner(text)
	}
	return c.directory(fd, name, fresh, gid)
}

// take notes on a file of the step's that it is, unless a note says whose it is.
func (c claim) take(dir int, base string, gid uint32) error {
	at := fmt.Sprintf("/proc/self/fd/%d/%s", dir, base)
	err := unix.Lsetxattr(at, ownerAttr, fmt.Appendf(nil, "%d:%d", c.uid, gid), unix.XATTR_CREATE)
	if err == unix.EEXIST {
		return nil
	}
	return ignoreUnnotable(err)
}

// noteLinks notes on a directory whose its new links are, and nothing of those that a
// step before it has made.
func (c claim) noteLinks(dir int, links bool, gid uint32) error {
	if links {
		return ignoreUnnotable(unix.Fsetxattr(dir, linksAttr, fmt.Appendf(nil, "%d:%d", c.uid, gid), 0))
	}
	return ignoreUnnotable(unix.Fremovexattr(dir, linksAttr))
}

// ignoreUnnotable passes over what nothing can be noted on: the files of some systems.
func ignoreUnnotable(err error) error {
	switch err {
	case unix.ENODATA, unix.EPERM, unix.ENOTSUP, unix.EACCES, unix.EROFS:
		return nil
	}
	return err
}
