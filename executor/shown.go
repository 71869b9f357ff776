package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// shown are the mounts of a step as files in its tree.
type shown struct {
	root  *rootfs.Root
	tree  *workingTree
	aside string // directory for what is in their places
	// layers are the directories of trees that nobody writes to.
	layers []string
	items  []*shownItem
}

// shownItem is one of them.
type shownItem struct {
	path   string // in the tree, without links
	aside  string // where what was there is, if anything was
	made   []string
	parent string      // the directory that there was already
	was    unix.Stat_t // of parent
	inside bool        // it is in another one
	back   *os.File    // where changes go back to, if they do
	before inventory   // what there was to be changed
}

// run runs a plan in the tree, with all that it is to be shown in place.
func (s *shown) run(ctx context.Context, p *plan, j job) (err error) {
	for _, m := range p.Mounts {
		if name, err := s.root.Resolve(m.Target); err == nil {
			s.tree.skip[name] = true
			delete(s.tree.before, name)
		}
	}
	if s.tree.before == nil {
		if err := s.tree.note(); err != nil {
			return err
		}
	}
	for _, dir := range p.lasting {
		name, err := s.root.Resolve(dir)
		if err != nil {
			return fmt.Errorf("make mount point %s: %w", dir, err)
		}
		if _, err := s.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			s.tree.lasting = append(s.tree.lasting, name)
			if err := s.root.MkdirAll(dir, 0o755, 0, 0); err != nil {
				return fmt.Errorf("make mount point %s: %w", dir, err)
			}
		}
	}
	if err := s.root.MkdirAll(p.Cwd, 0o755, int(p.UID), int(p.GID)); err != nil {
		return fmt.Errorf("make working directory: %w", err)
	}
	err = s.putAll(p)
	if err == nil {
		err = j.start(ctx, p, s.tree.root)
	}
	return withCleanup(err, s.takeAll())
}

func (s *shown) putAll(p *plan) error {
	for _, m := range p.Mounts {
		if m.Type == "mqueue" || m.Type == "cgroup2" {
			continue // nothing to look at without a kernel that answers
		}
		if err := s.put(p, m); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	return nil
}

// put puts one mount in its place.
func (s *shown) put(p *plan, m planMount) error {
	name, err := s.root.Resolve(m.Target)
	if err != nil {
		return err
	}
	item := &shownItem{path: name}
	for _, o := range s.items {
		item.inside = item.inside || strings.HasPrefix(name, o.path+"/")
	}
	s.items = append(s.items, item)
	if err := s.sameKind(m, name); err != nil {
		return err
	}
	if err := s.clear(item); err != nil {
		return err
	}
	dir, base, err := s.root.Parent(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := s.fill(p, m, item, int(dir.Fd()), base); err != nil {
		return err
	}
	if item.inside {
		return nil
	}
	return setTimes(s.root, item.parent, item.was)
}

// sameKind refuses what a mount would be refused for.
func (s *shown) sameKind(m planMount, name string) error {
	dir, err := isDirectory(m)
	if err != nil {
		return err
	}
	there, err := s.root.Lstat(name)
	if err != nil {
		return ignoreMissing(err)
	}
	return kindsMatch(dir, there.Mode&unix.S_IFMT == unix.S_IFDIR)
}

// clear makes the directories above a place, and moves away what is there.
func (s *shown) clear(item *shownItem) error {
	_, err := s.root.Lstat(item.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	there := err == nil
	if there {
		item.parent, _ = rootfs.Split(item.path)
	} else if item.parent, item.made, err = splitMissing(s.root, item.path); err != nil {
		return err
	}
	if item.was, err = s.root.Lstat(item.parent); err != nil {
		return err
	}
	if !there {
		item.made = item.made[:len(item.made)-1]
		for _, dir := range item.made {
			if err := s.root.MkdirAll(dir, 0o755, 0, 0); err != nil {
				return err
			}
		}
		return nil
	}
	if item.inside {
		return s.root.RemoveAll(item.path)
	}
	if err := os.MkdirAll(s.aside, 0o700); err != nil {
		return err
	}
	dir, base, err := s.root.Parent(item.path)
	if err != nil {
		return err
	}
	defer dir.Close()
	item.aside = filepath.Join(s.aside, strconv.Itoa(len(s.items)))
	return unix.Renameat(int(dir.Fd()), base, unix.AT_FDCWD, item.aside)
}

// fill makes what a mount would show.
func (s *shown) fill(p *plan, m planMount, item *shownItem, dir int, base string) error {
	switch {
	case m.Inline:
		return putFile(dir, base, []byte(m.Content), uint32(m.Mode), int(m.UID), int(m.GID))
	case m.Tree != 0:
		return s.copyIn(m, item, dir, base, p.trees[m.Tree-firstTreeFD])
	case m.Type == "":
		source, err := os.Open("/")
		if err != nil {
			return err
		}
		defer source.Close()
		return s.copyIn(m, item, dir, base, source)
	}
	mode, owner, group, err := modeOption(m)
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(dir, base, 0o700); err != nil {
		return err
	}
	if err := unix.Fchownat(dir, base, owner, group, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Fchmodat(dir, base, mode, 0); err != nil {
		return err
	}
	fd, err := unix.Openat(dir, base, openDirectory, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	switch {
	case m.Type == "proc":
		return fillProc(fd)
	case m.Type == "sysfs":
		return fillSys(fd)
	case m.isDev():
		return fillDev(fd, p.Devices)
	}
	return nil
}

// modeOption reads the options of a tmpfs that say what its root is.
func modeOption(m planMount) (mode uint32, uid, gid int, err error) {
	mode = 0o755
	if m.Type != "tmpfs" {
		return mode, 0, 0, nil
	}
	mode = 0o1777
	for _, o := range m.Data {
		name, value, _ := strings.Cut(o, "=")
		base := 10
		if name == "mode" {
			base = 8
		}
		n, e := strconv.ParseUint(value, base, 32)
		switch name {
		case "mode":
			mode, err = uint32(n), errors.Join(err, e)
		case "uid":
			uid, err = int(n), errors.Join(err, e)
		case "gid":
			gid, err = int(n), errors.Join(err, e)
		}
	}
	return mode, uid, gid, err
}

// putFile makes a file.
func putFile(dir int, base string, data []byte, mode uint32, uid, gid int) error {
	fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := fdWriter(fd).Write(data); err != nil {
		return err
	}
	return errors.Join(unix.Fchown(fd, uid, gid), unix.Fchmod(fd, mode))
}

// shared reports whether a tree is one that layers are read from, which nobody writes to.
func (s *shown) shared(tree *os.File) bool {
	name, err := os.Readlink(fdPath(tree))
	return err != nil || slices.ContainsFunc(s.layers, func(dir string) bool { return strings.HasPrefix(name, dir+"/") })
}

// copyIn copies a part of another tree. What is not read-only goes back afterwards.
func (s *shown) copyIn(m planMount, item *shownItem, dir int, base string, tree *os.File) error {
	source, err := duplicate(tree)
	if err != nil {
		return err
	}
	defer source.Close()
	if st, err := source.Stat(m.Source); err == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return linkSocket(source, m, dir, base)
	}
	f, err := source.OpenFile(m.Source, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return err
	}
	if m.Set&unix.MOUNT_ATTR_RDONLY == 0 && !s.shared(tree) {
		item.back = f
	} else {
		defer f.Close()
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		return s.copyFile(item, dir, base, f, &st)
	}
	target, err := enterDirectory(dir, base, true)
	if err != nil {
		return err
	}
	to := os.NewFile(uintptr(target), base)
	defer to.Close()
	if err := newCopier(to).directory(int(f.Fd()), target, ""); err != nil {
		return err
	}
	if err := describeOpen(int(f.Fd()), target, &st); err != nil || item.back == nil {
		return err
	}
	if item.before, err = takeInventory(to, nil); err == nil {
		item.before.settleClock()
	}
	return err
}

// linkSocket shows a socket, which can be had in the same file system alone (see Executor.Listen).
func linkSocket(source *rootfs.Root, m planMount, dir int, base string) error {
	from, name, err := source.Parent(m.Source)
	if err != nil {
		return err
	}
	defer from.Close()
	err = unix.Linkat(int(from.Fd()), name, dir, base, 0)
	if err == unix.EXDEV {
		return &LevelError{"the socket " + m.Target, "a mount"}
	}
	return err
}

func (s *shown) copyFile(item *shownItem, dir int, base string, f *os.File, st *unix.Stat_t) error {
	target, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	c := copier{}
	if err := c.content(int(f.Fd()), target, st.Size); err != nil {
		return err
	}
	if err := describeOpen(int(f.Fd()), target, st); err != nil || item.back == nil {
		return err
	}
	var now unix.Stat_t
	if err := unix.Fstat(target, &now); err != nil {
		return err
	}
	item.before = inventory{"": now}
	item.before.settleClock()
	return nil
}

// takeAll takes everything away again.
func (s *shown) takeAll() error {
	var errs []error
	for _, item := range slices.Backward(s.items) {
		if err := s.take(item); err != nil {
			errs = append(errs, fmt.Errorf("take %s away: %w", item.path, err))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(s.aside))...)
}

func (s *shown) take(item *shownItem) error {
	if item.back != nil {
		defer item.back.Close()
		if err := s.writeBack(item); err != nil {
			return err
		}
	}
	now, err := s.root.Lstat(item.parent)
	if err != nil {
		return ignoreMissing(err)
	}
	if err := s.root.RemoveAll(item.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range slices.Backward(item.made) {
		dir, base, err := s.root.Parent(name)
		if err != nil {
			return ignoreMissing(err)
		}
		err = unix.Unlinkat(int(dir.Fd()), base, unix.AT_REMOVEDIR)
		dir.Close()
		if err != nil && err != unix.ENOTEMPTY && err != unix.ENOENT {
			return err
		}
	}
	if item.aside != "" {
		dir, base, err := s.root.Parent(item.path)
		if err != nil {
			return err
		}
		defer dir.Close()
		if err := unix.Renameat(unix.AT_FDCWD, item.aside, int(dir.Fd()), base); err != nil {
			return err
		}
	}
	if item.inside {
		return nil
	}
	return setTimes(s.root, item.parent, now)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

// writeBack brings the changes of a place to where it was copied from.
func (s *shown) writeBack(item *shownItem) error {
	if item.before == nil {
		return nil // it was never there
	}
	f, err := s.root.OpenFile(item.path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ignoreMissing(err)
	}
	defer f.Close()
	was := item.before[""]
	if was.Mode&unix.S_IFMT == unix.S_IFDIR {
		now, err := takeInventory(f, nil)
		if err != nil {
			return err
		}
		return now.since(item.before).writeBack(f, item.back)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || same(was, st) {
		return err
	}
	target, err := os.OpenFile(fdPath(item.back), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer target.Close()
	c := copier{noReflink: true}
	if err := c.content(int(f.Fd()), int(target.Fd()), st.Size); err != nil {
		return err
	}
	return describeOpen(int(f.Fd()), int(target.Fd()), &st)
}
