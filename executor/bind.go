package executor

import (
	"fmt"
	"os"
	"path"

	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// Bind shows a step a part of another tree. It names a descriptor of this
// process, so it is no part of the step's Spec.
type Bind struct {
	Target   string   // absolute
	Tree     *os.File // of Snapshots.View or Mount, or OpenTree; it stays the caller's and is good for one step
	Path     string   // in Tree; "" is its root. Links are followed inside Tree
	ReadOnly bool
}

// File is a file that a step sees, and that exists in memory and for the step
// alone: a secret. It is read-only.
type File struct {
	Target         string // absolute
	Data           []byte
	Mode, UID, GID uint32
}

// firstTreeFD is where the init process finds the trees of its binds.
const firstTreeFD = rootFD + 1

// addTrees adds binds and files to the plan.
func (p *plan) addTrees(binds []Bind, files []File) error {
	for i, b := range binds {
		file, err := b.isFile()
		if err != nil {
			return fmt.Errorf("mount %s: %w", b.Target, err)
		}
		m := planMount{Target: b.Target, Tree: uint64(firstTreeFD + i), Source: b.Path, File: file}
		if b.ReadOnly {
			m.Set = unix.MOUNT_ATTR_RDONLY
		}
		p.Mounts = append(p.Mounts, m)
		p.trees = append(p.trees, b.Tree)
	}
	for _, f := range files {
		p.Mounts = append(p.Mounts, planMount{
			Target: f.Target, File: true, Inline: true, Content: string(f.Data),
			Mode: uint64(f.Mode), UID: uint64(f.UID), GID: uint64(f.GID),
			Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC,
		})
	}
	for _, m := range p.Mounts {
		if !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
			return fmt.Errorf("mount %q: invalid destination", m.Target)
		}
	}
	return nil
}

// isFile tells whether what is bound needs a file to be put on.
func (b Bind) isFile() (bool, error) {
	root, err := duplicate(b.Tree)
	if err != nil {
		return false, err
	}
	defer root.Close()
	st, err := root.Stat(b.Path)
	return st.Mode&unix.S_IFMT != unix.S_IFDIR, err
}

// treeMount clones a part of a detached tree. A tree must be attached for that,
// which it is for a moment, in the container's mount namespace.
func treeMount(m planMount, scratch string) (int, error) {
	tree := int(m.Tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, scratch, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return -1, fmt.Errorf("attach tree: %w", err)
	}
	defer unix.Unmount(scratch, unix.MNT_DETACH) //nolint:errcheck // it goes with the namespace at the latest
	fd, err := unix.Openat(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	root := rootfs.FromFile(os.NewFile(uintptr(fd), "tree"))
	defer root.Close()
	part, err := root.OpenFile(m.Source, unix.O_PATH, 0)
	if err != nil {
		return -1, err
	}
	defer part.Close()
	return cloneWith(int(part.Fd()), "", m)
}

// inlineMount makes a file in a file system of its own, in memory.
func inlineMount(m planMount, scratch string) (int, error) {
	tmpfs, err := newFilesystem(planMount{Type: "tmpfs", Source: "tmpfs", Data: []string{"mode=0700"}})
	if err != nil {
		return -1, err
	}
	defer unix.Close(tmpfs)
	if err := unix.MoveMount(tmpfs, "", unix.AT_FDCWD, scratch, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return -1, fmt.Errorf("attach tmpfs: %w", err)
	}
	defer unix.Unmount(scratch, unix.MNT_DETACH) //nolint:errcheck // it goes with the namespace at the latest
	fd, err := unix.Openat(tmpfs, "file", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, err
	}
	f := os.NewFile(uintptr(fd), "file")
	defer f.Close()
	if _, err := f.WriteString(m.Content); err != nil {
		return -1, err
	}
	if err := unix.Fchown(fd, int(m.UID), int(m.GID)); err != nil {
		return -1, fmt.Errorf("give it to %d:%d: %w", m.UID, m.GID, err)
	}
	if err := unix.Fchmod(fd, uint32(m.Mode)); err != nil {
		return -1, err
	}
	return cloneWith(tmpfs, "file", m)
}

// cloneWith clones a path of an attached mount and gives the clone m's attributes.
func cloneWith(dir int, name string, m planMount) (int, error) {
	fd, err := cloneTree(dir, name, false)
	if err != nil {
		return -1, err
	}
	if err := setAttrs(fd, m.Set, m.Clear, false); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
