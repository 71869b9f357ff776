package executor

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// socketName is what a socket is called in its own file system, where nobody looks.
const socketName = "socket"

// Listen makes a socket in a file system of its own, in memory, and listens on it. It
// is shown to a step by the returned Bind, once a target is set. Closing the
// listener and the Bind's Tree ends both; nothing is left behind.
func Listen(mode, uid, gid uint32) (*net.UnixListener, Bind, error) {
	fd, err := newFilesystem(planMount{
		Type: "tmpfs", Source: "tmpfs", Data: []string{"mode=0700"},
		Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC,
	})
	if err != nil {
		return nil, Bind{}, fmt.Errorf("make socket: %w", err)
	}
	tree := os.NewFile(uintptr(fd), "socket")
	l, err := listenIn(fd, mode, uid, gid)
	if err != nil {
		tree.Close()
		return nil, Bind{}, fmt.Errorf("make socket: %w", err)
	}
	return l, Bind{Tree: tree, Path: socketName}, nil
}

// listenIn listens on a new socket in the directory dir.
func listenIn(dir int, mode, uid, gid uint32) (*net.UnixListener, error) {
	// A detached mount is reached through its descriptor alone.
	name := fmt.Sprintf("/proc/self/fd/%d/%s", dir, socketName)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the name may be another file's by then
	if err = unix.Fchownat(dir, socketName, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err == nil {
		err = unix.Fchmodat(dir, socketName, mode, 0)
	}
	if err != nil {
		l.Close()
		return nil, explainID(err)
	}
	return l, nil
}
