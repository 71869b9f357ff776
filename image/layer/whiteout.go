package layer

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ocibuild/ocibuild/image/rootfs"
)

// whiteout hides what the layers below have at base in the directory up. What
// this layer has there stays.
func (a *applier) whiteout(up *openDir, base string) error {
	if a.options.Format == Merge {
		return a.deleteLower(up, base)
	}
	for path := up.real; path != ""; path, _ = splitName(path) {
		if a.hiding[path] {
			return nil // nothing below shows there
		}
	}
	var st unix.Stat_t
	err := unix.Fstatat(up.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		a.whiteouts = true
		return a.mknodWhiteout(up.fd, base)
	}
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return a.setOpaque(up, base)
	}
	return err
}

// mknodWhiteout makes the character device that overlayfs takes for a whiteout.
func (a *applier) mknodWhiteout(dir int, base string) error {
	if err := unix.Mknodat(dir, base, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("make whiteout: %w", err)
	}
	return setTime(dir, base, unix.Timespec{})
}

// setOpaque makes overlayfs hide what lower directories have at base in up.
func (a *applier) setOpaque(up *openDir, base string) error {
	fd, err := unix.Openat(up.fd, base, openDirFlags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return a.setOpaqueDir(fd, joinName(up.real, base))
}

func (a *applier) setOpaqueDir(fd int, real string) error {
	if err := unix.Fsetxattr(fd, a.opaque, []byte("y"), 0); err != nil {
		return fmt.Errorf("set attribute %s: %w", a.opaque, err)
	}
	a.hiding[real] = true
	if !a.whiteouts {
		return nil
	}
	// The whiteouts in it hide nothing now, and overlayfs would list them.
	return sweep(fd, real, func(dir int, name, _ string) (bool, error) {
		var st unix.Stat_t
		err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		return err == nil && isWhiteout(&st), err
	})
}

// hideBelow hides all that the layers below have in the directory dir.
func (a *applier) hideBelow(dir *openDir) error {
	if a.options.Format == Merge {
		a.dirs.flush(dir)
		return a.purge(dir.fd, dir.real)
	}
	if dir.real == "" {
		return fmt.Errorf("%w: overlayfs knows no opaque root", ErrNeedsLower)
	}
	return a.setOpaqueDir(dir.fd, dir.real)
}

// deleteLower removes base from the directory up, all but what this tar has put
// there.
func (a *applier) deleteLower(up *openDir, base string) error {
	real := joinName(up.real, base)
	if !a.made[real] {
		return a.remove(up, base)
	}
	fd, err := unix.Openat(up.fd, base, openDirFlags, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP || err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	a.dirs.flush(up)
	return a.purge(fd, real)
}

// purge removes from the directory fd all but what this tar has put there.
func (a *applier) purge(fd int, real string) error {
	return sweep(fd, real, func(_ int, _, real string) (bool, error) { return !a.made[real], nil })
}

// sweep removes from the directory fd, whose path is real, and from the directories
// below what doomed says. No link is followed.
func sweep(fd int, real string, doomed func(dir int, name, real string) (bool, error)) error {
	// A descriptor of its own, because listing moves the position.
	dir, err := unix.Openat(fd, ".", openDirFlags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	entries, err := rootfs.List(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		below := joinName(real, e.Name)
		gone, err := doomed(dir, e.Name, below)
		if err != nil {
			return err
		}
		if gone {
			err = rootfs.RemoveAt(dir, e.Name)
		} else {
			err = sweepBelow(dir, e.Name, below, doomed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func sweepBelow(dir int, name, real string, doomed func(dir int, name, real string) (bool, error)) error {
	fd, err := unix.Openat(dir, name, openDirFlags, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return sweep(fd, real, doomed)
}
