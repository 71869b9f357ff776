package executor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ocibuild/ocibuild/executor/seccomp"
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

// ownerCalls give files to others, or make devices.
var ownerCalls = []string{"chown", "chown32", "lchown", "lchown32", "fchown", "fchown32", "fchownat", "mknod", "mknodat"}

// singleRules are what steps with one user id are answered without asking.
func singleRules() []specs.LinuxSyscall {
	var rules []specs.LinuxSyscall
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

// singleServer answers ownerCalls and identityCalls.
type singleServer struct {
	listener int
	identities
}

// singleServer answers for a step of this plan.
func (p *plan) singleServer(listener int) func(*notification) answer {
	groups := make([]uint32, 0, len(p.Groups))
	for _, g := range p.Groups {
		groups = append(groups, uint32(g))
	}
	s := &singleServer{listener, identities{first: newIdentity(uint32(p.UID), uint32(p.GID), groups)}}
	return s.handle
}

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

func sortOut(name string, a [6]uint64) ownerCall {
	owner := func(i int) (uint32, uint32) { return uint32(a[i]), uint32(a[i+1]) }
	c := ownerCall{dir: unix.AT_FDCWD, path: a[0]}
	switch strings.TrimSuffix(name, "32") {
	case "fchown":
		c.dir, c.fd = int64(int32(a[0])), true
		c.uid, c.gid = owner(1)
	case "fchownat":
		c.dir, c.path = int64(int32(a[0])), a[1]
		c.uid, c.gid = owner(2)
		c.nofollow = a[4]&unix.AT_SYMLINK_NOFOLLOW != 0
		c.noPath = a[4]&unix.AT_EMPTY_PATH != 0
	case "mknodat":
		c.dir, c.path, c.node = int64(int32(a[0])), a[1], true
		c.mode, c.dev = a[2], a[3]
	case "mknod":
		c.node, c.mode, c.dev = true, a[1], a[2]
	default: // chown and lchown
		c.uid, c.gid = owner(1)
		c.nofollow = strings.HasPrefix(name, "l")
	}
	return c
}

// handle answers one call.
func (s *singleServer) handle(n *notification) answer {
	name, wider := seccomp.Name(n.arch, n.number)
	c := &caller{listener: s.listener, n: n}
	if slices.Contains(identityCalls, name) {
		defer c.close()
		return s.answer(c, parseIdentityCall(name, wider, n.args))
	}
	if c.open() != nil {
		return proceed
	}
	defer c.close()
	return s.own(c, sortOut(name, n.args))
}

// own answers one of ownerCalls.
func (s *singleServer) own(c *caller, call ownerCall) answer {
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
	where := place(c.n.pid, call.dir, name)
	if call.node {
		return makeNote(where, call, s.of(c.n.pid))
	}
	return noteOwner(where, call, s.of(c.n.pid))
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
func noteOwner(where string, call ownerCall, who identity) answer {
	flags := unix.O_PATH | unix.O_CLOEXEC
	if call.nofollow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Open(where, flags, 0)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	if !who.privileged() && (call.uid != keep && call.uid != who.user.files || call.gid != keep && !who.mayGive(call.gid)) {
		return answer{errno: unix.EPERM}
	}
	// Setuid bits and capabilities go, and the change time moves.
	if err := unix.Fchownat(fd, "", os.Getuid(), os.Getgid(), unix.AT_EMPTY_PATH); err != nil {
		return failed(err)
	}
	self := fmt.Sprintf("/proc/self/fd/%d", fd)
	old, _ := readXattr(func(buf []byte) (int, error) { return unix.Getxattr(self, ownerAttr, buf) })
	uid, gid := parseOwner(old)
	if old == "" && !who.privileged() { // it can only be his own
		uid, gid = who.user.files, who.group.files
	}
	if call.uid != keep {
		uid = call.uid
	}
	if call.gid != keep {
		gid = call.gid
	}
	if uid == 0 && gid == 0 {
		err = unix.Removexattr(self, ownerAttr)
	} else {
		err = unix.Setxattr(self, ownerAttr, fmt.Appendf(nil, "%d:%d", uid, gid), 0)
	}
	// A link, a socket or the file of another system cannot be noted on.
	if err := ignoreUnnotable(err); err != nil {
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
func makeNote(where string, call ownerCall, who identity) answer {
	kind := "c"
	if call.mode&unix.S_IFMT == unix.S_IFBLK {
		kind = "b"
	}
	if call.dev == 0 && kind == "c" {
		return proceed // a whiteout, which anybody may make
	}
	if !who.privileged() {
		return answer{errno: unix.EPERM}
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
