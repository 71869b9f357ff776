package layer

import (
	"archive/tar"
	"fmt"
	"io"
	"maps"

	"golang.org/x/sys/unix"

	"github.com/ocibuild/ocibuild/image/rootfs"
)

// create makes what e describes at base in the directory up. The error is
// unix.EEXIST itself, and nothing is done, when something is in the way.
func (a *applier) create(up *openDir, base string, e *Entry, body io.Reader) error {
	switch e.Type {
	case tar.TypeReg:
		return a.file(up, base, e, body)
	case tar.TypeDir:
		return a.directory(up, base, e)
	case tar.TypeLink:
		return a.hardLink(up, base, e)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(e.Linkname, up.fd, base); err != nil {
			return err
		}
		return a.describe(up, base, e)
	}
	return a.node(up, base, e)
}

// file makes a regular file. Small ones are handed to the filler.
func (a *applier) file(up *openDir, base string, e *Entry, body io.Reader) error {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(up.fd, base, flags, 0o600)
	if err != nil {
		return err
	}
	f := newFile{
		fd:     fd,
		name:   e.Name,
		index:  len(a.toc.Entries),
		mode:   uint32(e.Mode),
		mtime:  timespec(e.ModTime),
		xattrs: a.noted(e),
		bare:   up.inherits,
	}
	f.uid, f.gid = a.options.Owner(e.UID, e.GID)
	if e.Size <= fillLargest && e.Offset >= 0 {
		return a.filler.add(f, body, int(e.Size))
	}
	err = a.content(fd, e, body)
	if err == nil {
		err = f.describe()
	}
	if closed := unix.Close(fd); err == nil {
		err = closed
	}
	return err
}

// content writes the bytes of a large file or one with holes.
func (a *applier) content(fd int, e *Entry, body io.Reader) (err error) {
	if e.Offset >= 0 {
		e.Digest, err = a.copier.copy(fdWriter(fd), body, e.Size, true)
		return err
	}
	if err := unix.Ftruncate(fd, e.Size); err != nil {
		return fmt.Errorf("make a file of %d bytes: %w", e.Size, err)
	}
	e.Digest, err = a.copier.copy(&holeWriter{fd: fd}, body, e.Size, true)
	return err
}

// directory makes a directory. One that is there already is kept with all that is
// in it, and takes over the entry's metadata.
func (a *applier) directory(up *openDir, base string, e *Entry) error {
	made := unix.Mkdirat(up.fd, base, 0o700)
	if made != nil && made != unix.EEXIST {
		return made
	}
	fd, err := unix.Openat(up.fd, base, openDirFlags, 0)
	if made == unix.EEXIST && (err == unix.ENOTDIR || err == unix.ELOOP) {
		return unix.EEXIST
	}
	if err != nil {
		return err
	}
	if made == unix.EEXIST || up.inherits {
		err = dropXattrs(fd, a.noted(e))
	}
	if err == nil {
		err = a.describeDir(fd, e)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	real := joinName(up.real, base)
	a.later(real, e)
	a.mark(real)
	a.dirs.put(e.Name, &openDir{fd: fd, real: real})
	return nil
}

// describeDir sets a directory's owner, mode and attributes. Its owner can work in
// it until finish sets a mode that says otherwise.
func (a *applier) describeDir(fd int, e *Entry) error {
	uid, gid := a.options.Owner(e.UID, e.GID)
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return fmt.Errorf("set owner %d:%d: %w", uid, gid, err)
	}
	err := setXattrs(a.noted(e), true, func(name, value string) error {
		if name == defaultACL {
			return nil // that is for finish
		}
		return unix.Fsetxattr(fd, name, []byte(value), 0)
	})
	if err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(e.Mode|0o700)); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return nil
}

// noted are an entry's attributes, and the note of its owner.
func (a *applier) noted(e *Entry) map[string]string {
	if !a.options.NoteOwners || e.UID == 0 && e.GID == 0 {
		return e.Xattrs
	}
	with := map[string]string{ownerNote: fmt.Sprintf("%d:%d", e.UID, e.GID)}
	maps.Copy(with, e.Xattrs)
	return with
}

// dropXattrs removes the attributes that a file has and should not have.
func dropXattrs(fd int, want map[string]string) error {
	names, err := fdXattrs(fd).names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := want[name]; ok || !KeepXattr(name) && name != ownerNote {
			continue
		}
		if err := unix.Fremovexattr(fd, name); err != nil {
			return fmt.Errorf("remove attribute %s: %w", name, err)
		}
	}
	return nil
}

// hardLink makes another name for a file, whose metadata stays as it is. The target
// is taken relative to the root, and may be a symbolic link itself.
func (a *applier) hardLink(up *openDir, base string, e *Entry) error {
	dir, name := splitName(e.Linkname)
	fd, err := a.linkDir(up, dir, e)
	if err != nil {
		return err
	}
	if fd != up.fd {
		defer unix.Close(fd)
	}
	var target, there unix.Stat_t
	err = unix.Fstatat(fd, name, &target, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && a.options.Format == Overlay && isWhiteout(&target) {
		err = unix.ENOENT
	}
	if err == unix.ENOENT {
		return a.needsLower(fmt.Errorf("hard link to %q: %w", e.Linkname, err))
	}
	if err == nil {
		err = unix.Linkat(fd, name, up.fd, base, 0)
	}
	if err != unix.EEXIST {
		return wrapLink(e, err)
	}
	// It may be there already: clear would remove the target itself.
	err = unix.Fstatat(up.fd, base, &there, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && (there.Dev != target.Dev || there.Ino != target.Ino) {
		return unix.EEXIST
	}
	return wrapLink(e, err)
}

func wrapLink(e *Entry, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("hard link to %q: %w", e.Linkname, err)
}

// isWhiteout reports whether overlayfs takes a file for a whiteout.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// linkDir opens the directory of a hard link's target. It may be up itself.
func (a *applier) linkDir(up *openDir, dir string, e *Entry) (int, error) {
	if dir == up.real {
		return up.fd, nil
	}
	f, err := a.root.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, a.needsLower(fmt.Errorf("hard link to %q: %w", e.Linkname, err))
	}
	defer f.Close()
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}

// node makes a device or a FIFO.
func (a *applier) node(up *openDir, base string, e *Entry) error {
	var mode uint32
	switch e.Type {
	case tar.TypeChar:
		mode = unix.S_IFCHR
	case tar.TypeBlock:
		mode = unix.S_IFBLK
	case tar.TypeFifo:
		mode = unix.S_IFIFO
	}
	if e.Type != tar.TypeFifo && a.options.SkipDevices {
		return skip(up.fd, base)
	}
	if e.Type == tar.TypeChar && e.Devmajor == 0 && e.Devminor == 0 && a.options.Format == Overlay {
		return fmt.Errorf("character device 0:0 would be a whiteout: %w", unix.EPERM)
	}
	dev := unix.Mkdev(uint32(e.Devmajor), uint32(e.Devminor))
	if err := unix.Mknodat(up.fd, base, mode|0o600, int(dev)); err != nil {
		if err == unix.EEXIST {
			return err
		}
		return fmt.Errorf("make device %d:%d: %w", e.Devmajor, e.Devminor, err)
	}
	if up.inherits {
		_ = unix.Lremovexattr(procPath(up.fd, base), accessACL)
	}
	return a.describe(up, base, e)
}

// skip makes nothing, where nothing is.
func skip(dir int, base string) error {
	var st unix.Stat_t
	switch err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err {
	case nil:
		return unix.EEXIST
	case unix.ENOENT:
		return nil
	default:
		return err
	}
}

// describe sets the metadata of a new symbolic link, device or FIFO.
func (a *applier) describe(up *openDir, base string, e *Entry) error {
	uid, gid := a.options.Owner(e.UID, e.GID)
	if err := unix.Fchownat(up.fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner %d:%d: %w", uid, gid, err)
	}
	if e.Type != tar.TypeSymlink {
		if err := unix.Fchmodat(up.fd, base, uint32(e.Mode), 0); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
		err := setXattrs(e.Xattrs, false, func(name, value string) error {
			return unix.Lsetxattr(procPath(up.fd, base), name, []byte(value), 0)
		})
		if err != nil {
			return err
		}
	}
	return setTime(up.fd, base, timespec(e.ModTime))
}

// setXattrs sets attributes. A file system without user attributes or access lists
// does not get them, nor does what is neither file nor directory (plain) get user
// attributes; capabilities must not be lost.
func setXattrs(xattrs map[string]string, plain bool, set func(name, value string) error) error {
	for name, value := range xattrs {
		err := set(name, value)
		if err == unix.ENOTSUP && name != capability {
			continue
		}
		if err == unix.EPERM && !plain {
			continue
		}
		if err != nil {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return nil
}

// clear removes what is in the way of e. In Overlay format a directory that
// takes the place of anything hides what the layers below have there.
func (a *applier) clear(up *openDir, base string, e *Entry) error {
	if err := a.remove(up, base); err != nil {
		return err
	}
	if e.Type != tar.TypeDir || a.options.Format != Overlay {
		return nil
	}
	if err := unix.Mkdirat(up.fd, base, 0o700); err != nil {
		return err
	}
	return a.setOpaque(up, base)
}

// remove removes base, which may be a directory, from the directory up.
func (a *applier) remove(up *openDir, base string) error {
	var st unix.Stat_t
	err := unix.Fstatat(up.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFDIR || kind == unix.S_IFLNK {
		a.dirs.flush(up) // paths may have led through it
	}
	if err := rootfs.RemoveAt(up.fd, base); err != nil {
		return fmt.Errorf("remove what is in the way: %w", err)
	}
	return nil
}
