package executor

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// socketName is what a socket is called in its own directory, where nobody looks.
const socketName = "socket"

// Socket is a socket that a step is shown. Its Close leaves nothing behind.
type Socket struct {
	*net.UnixListener
	tree *os.File
	dir  *Snapshot // where it is on the disk, or nil
}

// Listen makes a socket, and listens on it: in a file system of its own, in memory, or, where
// nothing can be mounted, in a directory that is gone when it is closed.
func (e *Executor) Listen(mode, uid, gid uint32) (*Socket, error) {
	s, err := e.socketTree()
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	if e.snapshots.level == LevelSingle {
		uid, gid = 0, 0 // whom everything belongs to
	}
	if s.UnixListener, err = listenIn(int(s.tree.Fd()), mode, uid, gid); err != nil {
		return nil, fmt.Errorf("make socket: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

// socketTree gives a new directory for a socket.
func (e *Executor) socketTree() (*Socket, error) {
	if !e.snapshots.level.Mounts() {
		dir, err := e.snapshots.activate(rootOwner{mode: 0o700}) // after a kill the next step finds it
		if err != nil {
			return nil, err
		}
		tree, err := os.Open(dir.Upper())
		if err != nil {
			return nil, errors.Join(err, dir.Discard())
		}
		return &Socket{tree: tree, dir: dir}, nil
	}
	fd, err := newFilesystem(planMount{
		Type: "tmpfs", Source: "tmpfs", Data: []string{"mode=0700"},
		Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC,
	})
	if err != nil {
		return nil, err
	}
	return &Socket{tree: os.NewFile(uintptr(fd), "socket")}, nil
}

// Bind shows the socket at a place in a step.
func (s *Socket) Bind(target string) Bind {
	return Bind{Target: target, Tree: s.tree, Path: socketName}
}

// Close ends the socket, and all that was made for it. Connections stay.
func (s *Socket) Close() error {
	var errs []error
	if s.UnixListener != nil {
		errs = append(errs, s.UnixListener.Close())
	}
	errs = append(errs, s.tree.Close())
	if s.dir != nil {
		errs = append(errs, s.dir.Discard())
	}
	return errors.Join(errs...)
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
