package executor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// copier copies files from one tree to another, with all that a layer says of them. Blocks
// are shared where the file system can do that.
type copier struct {
	to    *os.File // the tree that files are copied to
	links map[fileID]string
	// overlay says that the source is the upper directory of an overlay: what it deletes
	// is deleted.
	overlay bool
	// devices says that device nodes are copied, and not left out.
	devices   bool
	noReflink bool
	bytes     bool // all that is copied passes through us
	// skip names paths that are left out, with all below.
	skip map[string]bool
}

// fileID identifies a file that may have several names.
type fileID struct{ dev, ino uint64 }

func newCopier(to *os.File) *copier { return &copier{to: to, links: map[fileID]string{}} }

const openDirectory = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// directory copies what is in the directory from to the directory to, whose path is at.
func (c *copier) directory(from, to int, at string) error {
	entries, err := rootfs.List(from)
	if err != nil {
		return fmt.Errorf("read directory %s: %w", at, err)
	}
	for _, e := range entries {
		name := joinPath(at, e.Name)
		if c.skip[name] {
			continue
		}
		if err := c.entry(from, to, e.Name, name); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return nil
}

func joinPath(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// entry copies one name, whatever it is, over what is there.
func (c *copier) entry(from, to int, base, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if c.overlay && kind == unix.S_IFCHR && st.Rdev == 0 {
		return removeAt(to, base)
	}
	if kind == unix.S_IFDIR {
		return c.subdirectory(from, to, base, name, &st)
	}
	if err := removeAt(to, base); err != nil {
		return err
	}
	if first, ok := c.links[fileID{st.Dev, st.Ino}]; ok && st.Nlink > 1 {
		return unix.Linkat(int(c.to.Fd()), first, to, base, 0)
	}
	err := c.file(from, to, base, &st)
	if st.Nlink > 1 {
		c.links[fileID{st.Dev, st.Ino}] = name
	}
	return err
}

func removeAt(dir int, base string) error {
	err := rootfs.RemoveAt(dir, base)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (c *copier) file(from, to int, base string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.regular(from, to, base, st)
	case unix.S_IFLNK:
		target, err := rootfs.ReadlinkAt(from, base)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(target, to, base); err != nil {
			return err
		}
		return c.describe(to, base, st)
	case unix.S_IFSOCK:
		return nil
	case unix.S_IFCHR, unix.S_IFBLK:
		if !c.devices {
			return nil
		}
	}
	if err := unix.Mknodat(to, base, st.Mode&unix.S_IFMT|0o600, int(st.Rdev)); err != nil {
		return err
	}
	return c.describe(to, base, st)
}

// describe sets owner, mode and times of what cannot be opened.
func (c *copier) describe(to int, base string, st *unix.Stat_t) error {
	if err := unix.Fchownat(to, base, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(to, base, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(to, base, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// subdirectory copies a directory into one that may be there.
func (c *copier) subdirectory(from, to int, base, name string, st *unix.Stat_t) error {
	source, err := unix.Openat(from, base, openDirectory, 0)
	if err != nil {
		return err
	}
	defer unix.Close(source)
	opaque := false
	if c.overlay {
		if opaque, err = isOpaqueFD(source); err != nil {
			return err
		}
	}
	target, err := enterDirectory(to, base, opaque)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if err := c.directory(source, target, name); err != nil {
		return err
	}
	return describeOpen(source, target, st)
}

// enterDirectory opens a directory that is made if there is none, or if it is not to keep
// what is in it.
func enterDirectory(parent int, base string, empty bool) (int, error) {
	if empty {
		if err := removeAt(parent, base); err != nil {
			return -1, err
		}
	}
	fd, err := unix.Openat(parent, base, openDirectory, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		if err := removeAt(parent, base); err != nil {
			return -1, err
		}
		err = unix.ENOENT
	}
	if err == unix.ENOENT {
		if err := unix.Mkdirat(parent, base, 0o700); err != nil {
			return -1, err
		}
		return unix.Openat(parent, base, openDirectory, 0)
	}
	return fd, err
}

func (c *copier) regular(from, to int, base string, st *unix.Stat_t) error {
	source, err := unix.Openat(from, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(source)
	target, err := unix.Openat(to, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if st.Size > 0 {
		if err := c.content(source, target, st.Size); err != nil {
			return err
		}
	}
	return describeOpen(source, target, st)
}

// content shares a file's blocks, or has the kernel copy them, or copies them.
func (c *copier) content(source, target int, size int64) error {
	if c.bytes {
		_, err := io.Copy(fdWriter(target), fdReader(source))
		return err
	}
	if !c.noReflink {
		if unix.IoctlFileClone(target, source) == nil {
			return nil
		}
		c.noReflink = true
	}
	for left := size; left > 0; {
		n, err := unix.CopyFileRange(source, nil, target, nil, int(min(left, 1<<30)), 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			_, err := io.Copy(fdWriter(target), fdReader(source))
			return err
		}
		left -= int64(n)
	}
	return nil
}

// fdWriter writes to a descriptor with plain blocking calls.
type fdWriter int

// Write implements io.Writer.
func (fd fdWriter) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Write(int(fd), b[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// describeOpen gives an open file all that another one has but its content. The owner
// comes before the mode and the capabilities, which a change of it takes away.
func describeOpen(source, target int, st *unix.Stat_t) error {
	if err := unix.Fchown(target, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(target, st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(source, target); err != nil {
		return err
	}
	return unix.UtimesNanoAt(target, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

// copiedXattr reports whether an attribute belongs to a file and not to the machinery of
// one machine.
func copiedXattr(name string) bool {
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

func copyXattrs(source, target int) error {
	have, err := xattrs(source)
	if err != nil {
		return err
	}
	old, err := xattrs(target)
	if err != nil {
		return err
	}
	for name := range old {
		if _, ok := have[name]; !ok {
			if err := unix.Fremovexattr(target, name); err != nil {
				return fmt.Errorf("remove attribute %s: %w", name, err)
			}
		}
	}
	for name, value := range have {
		if err := unix.Fsetxattr(target, name, []byte(value), 0); err != nil {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return nil
}

// xattrs reads the attributes of an open file that are copied.
func xattrs(fd int) (map[string]string, error) {
	list, err := readXattr(func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) })
	if err != nil || list == "" {
		return nil, err
	}
	out := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		if !copiedXattr(name) {
			continue
		}
		if out[name], err = readXattr(func(buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) }); err != nil {
			return nil, fmt.Errorf("read attribute %s: %w", name, err)
		}
	}
	return out, nil
}

func readXattr(read func([]byte) (int, error)) (string, error) {
	buf := make([]byte, 512)
	for {
		n, err := read(buf)
		switch {
		case err == unix.ERANGE:
			buf = make([]byte, 2*len(buf))
		case err == unix.ENOTSUP || err == unix.ENODATA:
			return "", nil
		case err != nil:
			return "", err
		default:
			return string(buf[:n]), nil
		}
	}
}

// isOpaqueFD reports whether a directory hides all that layers below have in it.
func isOpaqueFD(fd int) (bool, error) {
	for _, name := range []string{"user.overlay.opaque", "trusted.overlay.opaque"} {
		value, err := readXattr(func(buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) })
		if err != nil || value == "y" {
			return value == "y", err
		}
	}
	return false, nil
}
