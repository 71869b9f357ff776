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
	var st unix.Stat_t
	err := unix.Fstatat(up.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return a.mknodWhiteout(up.fd, base)
	}
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return a.setOpaque(up.fd, base)
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

// setOpaque makes overlayfs hide what lower directories have at base in dir.
func (a *applier) setOpaque(dir int, base string) error {
	fd, err := unix.Openat(dir, base, openDirFlags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fsetxattr(fd, a.opaque, []byte("y"), 0); err != nil {
		return fmt.Errorf("set attribute %s: %w", a.opaque, err)
	}
	return nil
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
	return a.setOpaque(dir.fd, ".")
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
		if err := a.purgeEntry(dir, e.Name, joinName(real, e.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) purgeEntry(dir int, name, real string) error {
	if !a.made[real] {
		return rootfs.RemoveAt(dir, name)
	}
	fd, err := unix.Openat(dir, name, openDirFlags, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return a.purge(fd, real)
}
