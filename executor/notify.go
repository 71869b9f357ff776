package executor

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/ocibuild/ocibuild/executor/seccomp"
	"golang.org/x/sys/unix"
)

// A seccomp filter may leave a system call to a supervisor: the init process of a step,
// which reads the caller's memory, does what is to be done, and gives the result.

// The ioctls of a listener that x/sys does not name.
const (
	notifyAddFD   = 0x40182103
	notifyIsValid = 0x40082102
)

// notification is struct seccomp_notif.
type notification struct {
	id     uint64
	pid    uint32 // of the thread that calls
	flags  uint32
	number int32
	arch   uint32
	ip     uint64
	args   [6]uint64
}

// answer is what becomes of a system call.
type answer struct {
	proceed bool // it is made after all
	value   int64
	errno   unix.Errno
	// file, if not nil, becomes a descriptor of the caller, which is the value.
	file    *os.File
	cloexec bool
}

// proceed lets the kernel make the call.
var proceed = answer{proceed: true}

// installNotify installs a filter that asks, on this thread, and gives the listener.
func installNotify(text string) (int, error) {
	filter := seccomp.Unmarshal(text)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	install := func(flags uintptr) (uintptr, unix.Errno) {
		fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
		return fd, errno
	}
	// With the second flag a signal does not make a caller ask again.
	fd, errno := install(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if errno == unix.EINVAL {
		fd, errno = install(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	}
	if errno != 0 {
		return -1, fmt.Errorf("install seccomp filter that asks: %w", errno)
	}
	return int(fd), nil
}

// supervise answers what comes from a listener until nobody is left who could ask.
func supervise(listener int, handle func(*notification) answer) {
	runtime.LockOSThread() // it takes on the user that asks
	for {
		var n notification
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n)))
		switch errno {
		case 0:
		case unix.EINTR:
			continue
		case unix.ENOENT: // who asked has been killed, or all who could ask have ended
			if ended(listener) {
				return
			}
			continue
		default:
			return
		}
		handle(&n).send(listener, &n)
	}
}

// ended reports whether nobody has the listener's filter any more.
func ended(listener int) bool {
	p := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
	_, err := unix.Poll(p, 0)
	return err == nil && p[0].Revents&unix.POLLHUP != 0
}

func (a answer) send(listener int, n *notification) {
	if a.file != nil {
		defer a.file.Close()
		request := struct {
			id                          uint64
			flags, source, fd, newFlags uint32
		}{id: n.id, flags: unix.SECCOMP_ADDFD_FLAG_SEND, source: uint32(a.file.Fd())}
		if a.cloexec {
			request.newFlags = unix.O_CLOEXEC
		}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifyAddFD, uintptr(unsafe.Pointer(&request)))
		if errno == 0 || errno == unix.ENOENT {
			return
		}
		a = answer{errno: errno}
		if errno == unix.EINVAL { // a kernel before 5.14
			a = proceed
		}
	}
	response := struct {
		id    uint64
		value int64
		error int32
		flags uint32
	}{id: n.id, value: a.value, error: -int32(a.errno)}
	if a.proceed {
		response.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&response))) // it may have been killed
}

// caller is the process behind a notification.
type caller struct {
	listener int
	n        *notification
	memory   *os.File
}

// open opens the caller's memory. Where it is another user's, this thread becomes that user
// as far as files go, until close.
func (c *caller) open() error {
	name := fmt.Sprintf("/proc/%d/mem", c.n.pid)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if os.IsPermission(err) {
		var st unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d", c.n.pid), &st); err != nil {
			return err
		}
		c.become(st.Uid, st.Gid)
		f, err = os.OpenFile(name, os.O_RDWR, 0)
	}
	if err != nil {
		c.become(0, 0)
		return err
	}
	c.memory = f
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.listener), notifyIsValid, uintptr(unsafe.Pointer(&c.n.id))); errno != 0 {
		c.close()
		return errno
	}
	return nil
}

func (c *caller) become(uid, gid uint32) {
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSGID, uintptr(gid), 0, 0)
	_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
}

func (c *caller) close() {
	if c.memory == nil {
		return
	}
	c.memory.Close()
	c.memory = nil
	c.become(0, 0)
}

// read reads the caller's memory, and write writes it; both open it when it is not.
func (c *caller) read(address uint64, b []byte) (int, error) {
	if c.memory == nil {
		if err := c.open(); err != nil {
			return 0, err
		}
	}
	return c.memory.ReadAt(b, int64(address))
}

func (c *caller) write(address uint64, b []byte) bool {
	if c.memory == nil && c.open() != nil {
		return false
	}
	_, err := c.memory.WriteAt(b, int64(address))
	return err == nil
}

// text reads a string of the caller's that begins as is asked for, or "".
func (c *caller) text(address uint64, prefixes ...string) string {
	buf := make([]byte, unix.PathMax)
	first, _ := c.memory.ReadAt(buf[:16], int64(address))
	begins := false
	for _, p := range prefixes {
		begins = begins || bytes.HasPrefix(buf[:first], []byte(p))
	}
	if !begins {
		return ""
	}
	text, _ := c.string(address)
	return text
}

// string reads a string of the caller's.
func (c *caller) string(address uint64) (string, bool) {
	buf := make([]byte, unix.PathMax)
	n, _ := c.memory.ReadAt(buf, int64(address))
	end := bytes.IndexByte(buf[:n], 0)
	return string(buf[:max(end, 0)]), end >= 0
}

// process gives the process that a thread belongs to.
func process(tid uint32) (pid int, parent int, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0, 0, false
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		n, err := strconv.Atoi(strings.TrimSpace(value))
		switch {
		case key == "Tgid" && err == nil:
			pid = n
		case key == "PPid" && err == nil:
			parent = n
		}
	}
	return pid, parent, pid != 0
}

// sendListener gives a listener to the process at the other end of a socket.
func sendListener(socket, listener int) error {
	return unix.Sendmsg(socket, []byte{0}, unix.UnixRights(listener), nil, 0)
}

// receiveListener gets what sendListener has sent, or -1 where the socket has ended, or
// begins with something else, which it gives.
func receiveListener(socket int) (listener int, err error) {
	control := make([]byte, unix.CmsgSpace(4))
	b := make([]byte, 1)
	for {
		n, cn, _, _, err := unix.Recvmsg(socket, b, control, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return -1, err
		}
		messages, err := unix.ParseSocketControlMessage(control[:cn])
		if err != nil || len(messages) != 1 {
			return -1, syscall.EPROTO
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			return -1, syscall.EPROTO
		}
		return fds[0], nil
	}
}
