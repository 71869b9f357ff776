package executor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ocibuild/ocibuild/image/rootfs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// With one user id, nothing can be given to another user, and no device be made. There a
// filter answers the system calls that want to with success, so that package managers go on,
// and the init process notes on the files what they would have been: in attributes that
// image/layer reads when it makes a layer of them.
const (
	ownerAttr  = "user.ocibuild.owner"  // "uid:gid"
	deviceAttr = "user.ocibuild.device" // "c:major:minor" or "b:major:minor", on an empty file
)

var (
	// identityCalls change who a process is; they do nothing.
	identityCalls = []string{
		"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups",
		"setuid32", "setgid32", "setreuid32", "setregid32", "setresuid32", "setresgid32", "setfsuid32", "setfsgid32", "setgroups32",
	}
	// ownerCalls are left to the init process.
	ownerCalls = []string{"chown", "lchown", "fchown", "fchownat", "mknod", "mknodat"}
)

// singleRules are what steps with one user id are answered without asking.
func singleRules() []specs.LinuxSyscall {
	none := uint(0)
	rules := []specs.LinuxSyscall{{Names: identityCalls, Action: specs.ActErrno, ErrnoRet: &none}}
	for call, mode := range map[string]uint{"mknod": 1, "mknodat": 2} {
		for _, kind := range []uint64{unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK, 0} {
			rules = append(rules, specs.LinuxSyscall{
				Names: []string{call}, Action: specs.ActAllow,
				Args: []specs.LinuxSeccompArg{{Index: mode, Op: specs.OpMaskedEqual, Value: unix.S_IFMT, ValueTwo: kind}},
			})
		}
	}
	return rules
}

// aptSandbox keeps apt from becoming another user, which it would see that it has not.
var aptSandbox = File{Target: "/etc/apt/apt.conf.d/zz-ocibuild", Data: []byte("APT::Sandbox::User \"root\";\n"), Mode: 0o444}

// forOneOwner adds to a process what it takes where there is one user id.
func (p *Process) forOneOwner(root *rootfs.Root) {
	if _, err := root.Stat("/etc/apt/apt.conf.d"); err == nil {
		p.Files = append(slices.Clone(p.Files), aptSandbox)
	}
}

// ownerServer answers ownerCalls.
type ownerServer struct{ listener int }

// ownerCall is a call, its arguments sorted out.
type ownerCall struct {
	dir        int64 // descriptor, or unix.AT_FDCWD
	path       uint64
	fd, noPath bool // the file is dir itself
	nofollow   bool
	uid, gid   uint32
	node       bool
	mode, dev  uint64
}

func sortOut(n *notification) ownerCall {
	a := n.args
	owner := func(i int) (uint32, uint32) { return uint32(a[i]), uint32(a[i+1]) }
	c := ownerCall{dir: unix.AT_FDCWD, path: a[0]}
	switch int(n.number) {
	case unix.SYS_FCHOWN:
		c.dir, c.fd = int64(int32(a[0])), true
		c.uid, c.gid = owner(1)
	case unix.SYS_FCHOWNAT:
		c.dir, c.path = int64(int32(a[0])), a[1]
		c.uid, c.gid = owner(2)
		c.nofollow = a[4]&unix.AT_SYMLINK_NOFOLLOW != 0
		c.noPath = a[4]&unix.AT_EMPTY_PATH != 0
	case unix.SYS_MKNODAT:
		c.dir, c.path, c.node = int64(int32(a[0])), a[1], true
		c.mode, c.dev = a[2], a[3]
	case sysMknod:
		c.node, c.mode, c.dev = true, a[1], a[2]
	default: // chown and lchown
		c.uid, c.gid = owner(1)
		c.nofollow = int(n.number) == sysLchown
	}
	return c
}

// handle answers one call.
func (s *ownerServer) handle(n *notification) answer {
	call := sortOut(n)
	c := &caller{listener: s.listener, n: n}
	if c.open() != nil {
		return proceed
	}
	defer c.close()
	name := ""
	if !call.fd {
		var ok bool
		if name, ok = c.string(call.path); !ok {
			return answer{errno: unix.EFAULT}
		}
		if name == "" && !call.noPath {
			return answer{errno: unix.ENOENT}
		}
	}
	where := place(n.pid, call.dir, name)
	if call.node {
		return makeNote(where, call)
	}
	return noteOwner(where, call)
}

// place is a path by which this process reaches what a thread names.
func place(tid uint32, dir int64, name string) string {
	switch {
	case strings.HasPrefix(name, "/"):
		return fmt.Sprintf("/proc/%d/root%s", tid, name)
	case dir == unix.AT_FDCWD:
		return fmt.Sprintf("/proc/%d/cwd/%s", tid, name)
	case name == "":
		return fmt.Sprintf("/proc/%d/fd/%d", tid, dir)
	}
	return fmt.Sprintf("/proc/%d/fd/%d/%s", tid, dir, name)
}

// noteOwner notes who a file is given to, and does what else chown(2) does.
func noteOwner(where string, call ownerCall) answer {
	flags := unix.O_PATH | unix.O_CLOEXEC
	if call.nofollow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Open(where, flags, 0)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	// Setuid bits and capabilities go, and the change time moves.
	if err := unix.Fchownat(fd, "", os.Getuid(), os.Getgid(), unix.AT_EMPTY_PATH); err != nil {
		return failed(err)
	}
	self := fmt.Sprintf("/proc/self/fd/%d", fd)
	old, _ := readXattr(func(buf []byte) (int, error) { return unix.Getxattr(self, ownerAttr, buf) })
	uid, gid := parseOwner(old)
	if call.uid != ^uint32(0) {
		uid = call.uid
	}
	if call.gid != ^uint32(0) {
		gid = call.gid
	}
	if uid == 0 && gid == 0 {
		err = unix.Removexattr(self, ownerAttr)
	} else {
		err = unix.Setxattr(self, ownerAttr, fmt.Appendf(nil, "%d:%d", uid, gid), 0)
	}
	// A link, a socket or the file of another system cannot be noted on.
	if err != nil && err != unix.ENODATA && err != unix.EPERM && err != unix.ENOTSUP && err != unix.EACCES && err != unix.EROFS {
		return failed(err)
	}
	return answer{}
}

func parseOwner(text string) (uid, gid uint32) {
	u, g, ok := strings.Cut(text, ":")
	n, err1 := strconv.ParseUint(u, 10, 32)
	m, err2 := strconv.ParseUint(g, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0
	}
	return uint32(n), uint32(m)
}

func failed(err error) answer {
	errno := unix.EIO
	if !errors.As(err, &errno) {
		errno = unix.EIO
	}
	return answer{errno: errno}
}

// makeNote makes an empty file in the place of a device, and notes on it what it would be.
func makeNote(where string, call ownerCall) answer {
	kind := "c"
	if call.mode&unix.S_IFMT == unix.S_IFBLK {
		kind = "b"
	}
	if call.dev == 0 && kind == "c" {
		return proceed // a whiteout, which anybody may make
	}
	fd, err := unix.Open(where, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, uint32(call.mode&0o777))
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	text := fmt.Appendf(nil, "%s:%d:%d", kind, unix.Major(call.dev), unix.Minor(call.dev))
	if err := unix.Fsetxattr(fd, deviceAttr, text, 0); err != nil {
		_ = unix.Unlink(where)
		return answer{errno: unix.EPERM}
	}
	return answer{}
}
