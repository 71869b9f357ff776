package executor

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// A tree that is no overlay is looked at before a step and after it: nothing that a
// program does to a file leaves all of its numbers as they were.

// inventory is what is in a tree, by path.
type inventory map[string]unix.Stat_t

// takeInventory looks at everything below a directory but what skip names. The root
// directory itself is "".
func takeInventory(root *os.File, skip map[string]bool) (inventory, error) {
	inv := inventory{}
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return nil, err
	}
	inv[""] = st
	fd, err := unix.Openat(int(root.Fd()), ".", openDirectory, 0)
	if err != nil {
		return nil, err
	}
	return inv, inv.walk(fd, "", skip)
}

// walk looks into a directory, which it closes.
func (inv inventory) walk(dir int, at string, skip map[string]bool) error {
	defer unix.Close(dir)
	entries, err := rootfs.List(dir)
	if err != nil {
		return fmt.Errorf("read directory %s: %w", at, err)
	}
	for _, e := range entries {
		name := joinPath(at, e.Name)
		if skip[name] {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(dir, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("stat %s: %w", name, err)
		}
		inv[name] = st
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		fd, err := unix.Openat(dir, e.Name, openDirectory, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}
		if err := inv.walk(fd, name, skip); err != nil {
			return err
		}
	}
	return nil
}

// settleClock waits until what is written from now on has another change time than all
// that is there.
func (inv inventory) settleClock() {
	var last unix.Timespec
	for _, st := range inv {
		if st.Ctim.Nano() > last.Nano() {
			last = st.Ctim
		}
	}
	for range 100 {
		var now unix.Timespec
		if unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now) != nil || now.Nano() > last.Nano() {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// same reports whether a file was not touched. The change time and the number of links of
// a directory move with what is in it, and are not asked.
func same(a, b unix.Stat_t) bool {
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Ino != b.Ino || a.Dev != b.Dev || a.Mtim != b.Mtim {
		return false
	}
	return a.Mode&unix.S_IFMT == unix.S_IFDIR || a.Ctim == b.Ctim && a.Size == b.Size && a.Rdev == b.Rdev
}

// changes is what has become of a tree.
type changes struct {
	made []string // new or changed, sorted
	gone []string // sorted; nothing below a directory that is gone itself
}

// since compares a tree with what it was.
func (inv inventory) since(before inventory) changes {
	var c changes
	for name, st := range inv {
		if old, ok := before[name]; name != "" && (!ok || !same(old, st)) {
			c.made = append(c.made, name)
		}
	}
	for name, old := range before {
		now, ok := inv[name]
		if ok && (old.Mode&unix.S_IFMT != unix.S_IFDIR || now.Mode&unix.S_IFMT == unix.S_IFDIR) {
			continue
		}
		if ok { // a directory has become something else, which hides what was in it
			continue
		}
		c.gone = append(c.gone, name)
	}
	slices.Sort(c.made)
	slices.Sort(c.gone)
	c.gone = slices.DeleteFunc(c.gone, func(name string) bool {
		for dir, _ := rootfs.Split(name); dir != ""; dir, _ = rootfs.Split(dir) {
			st, there := inv[dir]
			if !there || st.Mode&unix.S_IFMT != unix.S_IFDIR {
				return true
			}
		}
		return false
	})
	return c
}

// parents are the directories above what has changed, sorted.
func (c changes) parents() []string {
	dirs := map[string]bool{}
	for _, name := range slices.Concat(c.made, c.gone) {
		for dir, _ := rootfs.Split(name); dir != "" && !dirs[dir]; dir, _ = rootfs.Split(dir) {
			dirs[dir] = true
		}
	}
	return slices.Sorted(maps.Keys(dirs))
}

// writeUpper writes the changes of a tree into the empty directory of a copier, as an
// overlay would have had them there.
func (c changes) writeUpper(tree *os.File, copier *copier) error {
	upper := copier.to
	copier.devices = true
	dirs := c.parents()
	names := slices.Concat(dirs, c.made)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := copier.alone(tree, name); err != nil {
			return fmt.Errorf("take %s: %w", name, err)
		}
	}
	for _, name := range c.gone {
		if err := whiteout(upper, name); err != nil {
			return fmt.Errorf("take removal of %s: %w", name, err)
		}
	}
	// Times of directories are right only when everything is in them.
	for _, name := range slices.Backward(names) {
		if err := copyDirTimes(tree, upper, name); err != nil {
			return fmt.Errorf("take %s: %w", name, err)
		}
	}
	return copyDirTimes(tree, upper, "")
}

// alone copies one name without what is below it.
func (c *copier) alone(tree *os.File, name string) error {
	dir, base := rootfs.Split(name)
	from, err := openBelow(tree, dir)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := openBelow(c.to, dir)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	var st unix.Stat_t
	if err := unix.Fstatat(from, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return c.entry(from, to, base, name)
	}
	source, err := unix.Openat(from, base, openDirectory, 0)
	if err != nil {
		return err
	}
	defer unix.Close(source)
	target, err := enterDirectory(to, base, false)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return describeOpen(source, target, &st)
}

// openBelow opens a directory of a tree by a path without links.
func openBelow(root *os.File, name string) (int, error) {
	if name == "" {
		name = "."
	}
	how := unix.OpenHow{Flags: openDirectory, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	for {
		fd, err := unix.Openat2(int(root.Fd()), name, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

func whiteout(upper *os.File, name string) error {
	dir, base := rootfs.Split(name)
	to, err := openBelow(upper, dir)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return unix.Mknodat(to, base, unix.S_IFCHR, 0)
}

func copyDirTimes(tree, upper *os.File, name string) error {
	from, err := openBelow(tree, name)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := openBelow(upper, name)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if name == "" {
		if err := describeOpen(from, to, &st); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(to, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

// writeBack makes the changes of a tree in another one that was its source.
func (c changes) writeBack(tree, source *os.File) error {
	copier := newCopier(source)
	for _, name := range c.gone {
		dir, base := rootfs.Split(name)
		to, err := openBelow(source, dir)
		if err == unix.ENOENT {
			continue // somebody else has removed it
		}
		if err != nil {
			return err
		}
		err = removeAt(to, base)
		unix.Close(to)
		if err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	for _, name := range slices.Concat(c.parents(), c.made) {
		if err := copier.alone(tree, name); err != nil {
			return fmt.Errorf("write %s back: %w", name, err)
		}
	}
	return nil
}
