package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// stubs are the mount points that were made in a snapshot because the image
// hides those of the lowest layer (it has replaced /etc, say, or its resolv.conf
// is a link to nowhere). They and their traces are taken away after the step.
type stubs struct {
	upper  string
	made   []string // paths in the root filesystem, parents first
	copied []copied // parents first
}

// copied is a directory that had to be copied up to take a stub.
type copied struct {
	path string
	was  unix.Stat_t
}

// make makes the missing mount points of a step in its merged tree.
func (st *stubs) make(root *rootfs.Root, mounts []planMount) error {
	for i, m := range mounts {
		if slices.ContainsFunc(mounts[:i], func(o planMount) bool { return isBelow(m.Target, o.Target) }) {
			continue // made where the upper one is mounted
		}
		_, err := root.Stat(m.Target)
		if errors.Is(err, fs.ErrNotExist) {
			err = st.makeOne(root, m)
		}
		if err != nil {
			return fmt.Errorf("make mount point %s: %w", m.Target, err)
		}
	}
	return nil
}

func isBelow(name, dir string) bool {
	return strings.HasPrefix(path.Clean(name), path.Clean(dir)+"/")
}

func (st *stubs) makeOne(root *rootfs.Root, m planMount) error {
	real, err := root.Resolve(m.Target)
	if err != nil {
		return err
	}
	parent, missing, err := splitMissing(root, real)
	if err != nil {
		return err
	}
	was, err := root.Lstat(parent)
	if err != nil {
		return err
	}
	if err := st.noteCopies(root, parent); err != nil {
		return err
	}
	dir, err := isDirectory(m)
	if err != nil {
		return err
	}
	last := missing[len(missing)-1]
	if !dir {
		missing = missing[:len(missing)-1]
	}
	for _, name := range missing {
		if err := root.MkdirAll(name, 0o755, 0, 0); err != nil {
			return err
		}
		st.made = append(st.made, name)
	}
	if !dir {
		f, err := root.OpenFile(last, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		st.made = append(st.made, last)
		f.Close()
	}
	return setTimes(root, parent, was)
}

// splitMissing splits a resolved path into the deepest directory that exists and
// the paths of everything below it that does not.
func splitMissing(root *rootfs.Root, real string) (parent string, missing []string, err error) {
	for ; real != ""; real, _ = rootfs.Split(real) {
		_, err := root.Lstat(real)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", nil, err
		}
		missing = append([]string{real}, missing...)
	}
	if len(missing) == 0 {
		return "", nil, fs.ErrExist
	}
	return real, missing, nil
}

// isDirectory reports whether a mount needs a directory to be put on.
func isDirectory(m planMount) (bool, error) {
	if m.Tree != 0 || m.Inline {
		return !m.File, nil
	}
	if m.Type != "" {
		return true, nil
	}
	fi, err := os.Stat(m.Source)
	return err == nil && fi.IsDir(), err
}

// noteCopies remembers which directories down to dir are not in the upper
// directory yet, and so will be there only because of a stub.
func (st *stubs) noteCopies(root *rootfs.Root, dir string) error {
	var found []copied
	for ; dir != ""; dir, _ = rootfs.Split(dir) {
		_, err := os.Lstat(filepath.Join(st.upper, dir))
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		was, err := root.Lstat(dir)
		if err != nil {
			return err
		}
		found = append([]copied{{dir, was}}, found...)
	}
	st.copied = append(st.copied, found...)
	return nil
}

// remove takes away, in the merged tree, the stubs that are still as empty as
// they were made, without changing their directory's times.
func (st *stubs) remove(root *rootfs.Root) error {
	for _, name := range slices.Backward(st.made) {
		if err := removeStub(root, name); err != nil {
			return fmt.Errorf("remove mount point %s: %w", name, err)
		}
	}
	return nil
}

func removeStub(root *rootfs.Root, name string) error {
	stub, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	dir, base, err := root.Parent(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	parent, _ := rootfs.Split(name)
	was, err := root.Lstat(parent)
	if err != nil {
		return err
	}
	switch {
	case stub.Mode&unix.S_IFMT == unix.S_IFDIR:
		err = unix.Unlinkat(int(dir.Fd()), base, unix.AT_REMOVEDIR)
		if err == unix.ENOTEMPTY {
			return nil // the step has put something there: it is the image's now
		}
	case stub.Mode&unix.S_IFMT == unix.S_IFREG && stub.Size == 0:
		err = unix.Unlinkat(int(dir.Fd()), base, 0)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	return setTimes(root, parent, was)
}

func setTimes(root *rootfs.Root, dir string, st unix.Stat_t) error {
	f, err := root.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(int(f.Fd()), ".", times, 0)
}

// uncopy removes, from the upper directory when it is no longer mounted, the
// directories that are there for the stubs' sake alone.
func (st *stubs) uncopy() error {
	if len(st.copied) == 0 {
		return nil
	}
	upper, err := rootfs.Open(st.upper)
	if err != nil {
		return err
	}
	defer upper.Close()
	for _, c := range slices.Backward(st.copied) {
		if err := uncopyOne(upper, c); err != nil {
			return fmt.Errorf("remove copy of %s: %w", c.path, err)
		}
	}
	return nil
}

func uncopyOne(upper *rootfs.Root, c copied) error {
	parent, base := rootfs.Split(c.path)
	dir, err := upper.OpenPlain(parent, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return nil // the step has replaced it
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	var now unix.Stat_t
	if err := unix.Fstatat(dir, base, &now, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return err
	}
	if now.Mode != c.was.Mode || now.Uid != c.was.Uid || now.Gid != c.was.Gid || now.Mtim != c.was.Mtim {
		return nil
	}
	var above unix.Stat_t
	if err := unix.Fstat(dir, &above); err != nil {
		return err
	}
	if err := unix.Unlinkat(dir, base, unix.AT_REMOVEDIR); err != nil {
		if err == unix.ENOTEMPTY {
			return nil
		}
		return err
	}
	return unix.UtimesNanoAt(dir, ".", []unix.Timespec{above.Atim, above.Mtim}, 0)
}
