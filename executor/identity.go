package executor

import (
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Where there is one user id, no process can become another user. It is told that it has,
// and who it is from then on: the init process answers these calls by the kernel's rules.
//
// Who a process is, its children are too, and so is the program that it starts. So the kernel
// is to keep it: in a number that each process has, that fork and exec hand on, that others may
// set, and that nothing else asks for: the limit of file locks, which Linux has had no use for
// since 2.4.25.

// identityCalls change who a process is, or tell. Some architectures have them in two widths.
var identityCalls = func() []string {
	calls := []string{
		"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups",
		"getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups",
	}
	for _, name := range slices.Clone(calls) {
		calls = append(calls, name+"32")
	}
	return calls
}()

// ids are those that a process has as a user, or as a group.
type ids struct{ real, effective, saved, files uint32 }

func allOf(id uint32) ids { return ids{id, id, id, id} }

// has reports whether an id may be taken on without privilege.
func (i ids) has(id uint32) bool { return id == i.real || id == i.effective || id == i.saved }

// keep is the argument that leaves an id as it is.
const keep = ^uint32(0)

// change is what the call of that name, without what tells users from groups, makes of ids,
// and whether it may.
func (i ids) change(call string, a [3]uint32, privileged bool) (ids, bool) {
	may := func(id uint32, own ...uint32) bool { return id == keep || privileged || slices.Contains(own, id) }
	now := i
	set := func(to *uint32, id uint32) {
		if id != keep {
			*to = id
		}
	}
	switch call {
	case "set":
		if privileged {
			return allOf(a[0]), a[0] != keep
		}
		now.effective = a[0]
		if a[0] != i.real && a[0] != i.saved {
			return i, false
		}
	case "setre":
		if !may(a[0], i.real, i.effective) || !may(a[1], i.real, i.effective, i.saved) {
			return i, false
		}
		set(&now.real, a[0])
		set(&now.effective, a[1])
		if a[0] != keep || a[1] != keep && a[1] != i.real {
			now.saved = now.effective
		}
	case "setres":
		for n, to := range []*uint32{&now.real, &now.effective, &now.saved} {
			if !may(a[n], i.real, i.effective, i.saved) {
				return i, false
			}
			set(to, a[n])
		}
		if now == i && (a[1] == keep || a[1] == i.files) {
			return i, true // nothing is asked for, and the kernel does nothing
		}
	}
	now.files = now.effective
	return now, true
}

// identity is who a process is. It can be compared.
type identity struct {
	user, group ids
	groups      string // four bytes for each of the others
}

func newIdentity(uid, gid uint32, groups []uint32) identity {
	return identity{allOf(uid), allOf(gid), packGroups(groups)}
}

// privileged says that it is root, who may become anybody.
func (i identity) privileged() bool { return i.user.effective == 0 }

// mayGive reports whether files can be given to a group.
func (i identity) mayGive(gid uint32) bool {
	return gid == i.group.files || slices.Contains(unpackGroups(i.groups), gid)
}

func packGroups(list []uint32) string {
	var b []byte
	for _, g := range list {
		b = binary.NativeEndian.AppendUint32(b, g)
	}
	return string(b)
}

func unpackGroups(text string) []uint32 {
	list := make([]uint32, 0, len(text)/4)
	for b := []byte(text); len(b) >= 4; b = b[4:] {
		list = append(list, binary.NativeEndian.Uint32(b))
	}
	return list
}

// identities remembers who the processes of a step believe to be.
type identities struct {
	first identity // who all are that have not become anybody else
	list  []identity
	known map[identity]int
}

// identityMark is what the limit of a process is when it is the first one of the list.
const identityMark = 1 << 40

// of gives who a process is.
func (s *identities) of(pid uint32) identity {
	var limit unix.Rlimit
	if unix.Prlimit(int(pid), unix.RLIMIT_LOCKS, nil, &limit) != nil {
		return s.first
	}
	if n := limit.Cur - identityMark; limit.Cur >= identityMark && n < uint64(len(s.list)) {
		return s.list[n]
	}
	return s.first
}

// become makes a process somebody.
func (s *identities) become(pid uint32, who identity) error {
	n, ok := s.known[who]
	if !ok {
		if s.known == nil {
			s.known = map[identity]int{}
		}
		n = len(s.list)
		s.list = append(s.list, who)
		s.known[who] = n
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(int(pid), unix.RLIMIT_LOCKS, nil, &limit); err != nil {
		return err
	}
	limit.Cur = identityMark + uint64(n)
	return unix.Prlimit(int(pid), unix.RLIMIT_LOCKS, &limit, nil)
}

// identityCall is one of identityCalls, with its arguments.
type identityCall struct {
	verb   string // "get", "gete", "getres", "getgroups", "set", "setre", "setres", "setfs", "setgroups"
	users  bool   // it is about users, not groups
	narrow bool   // ids have 16 bits
	args   [6]uint64
}

// parseIdentityCall takes the name of a call apart. wide tells whether there is another one of
// the same name with wider ids.
func parseIdentityCall(name string, wide bool, args [6]uint64) identityCall {
	base, has32 := strings.CutSuffix(name, "32")
	c := identityCall{narrow: wide && !has32, args: args}
	var ok bool
	if c.verb, ok = strings.CutSuffix(base, "uid"); ok {
		c.users = true
		return c
	}
	c.verb = strings.TrimSuffix(base, "gid")
	return c
}

// id is one of the arguments.
func (c identityCall) id(n int) uint32 {
	id := uint32(c.args[n])
	if c.narrow && uint16(id) == ^uint16(0) {
		return keep
	}
	if c.narrow {
		return uint32(uint16(id))
	}
	return id
}

// part is the half of an identity that the call is about.
func (c identityCall) part(who *identity) *ids {
	if c.users {
		return &who.user
	}
	return &who.group
}

// answer answers a call.
func (s *identities) answer(c *caller, call identityCall) answer {
	who := s.of(c.n.pid)
	part := call.part(&who)
	switch call.verb {
	case "get":
		return answer{value: int64(part.real)}
	case "gete":
		return answer{value: int64(part.effective)}
	case "getres":
		return c.putAll(call, part.real, part.effective, part.saved)
	case "getgroups":
		return c.putGroups(call, unpackGroups(who.groups))
	case "setgroups":
		groups, errno := c.groups(call)
		if errno == 0 && !who.privileged() {
			errno = unix.EPERM
		}
		if errno != 0 {
			return answer{errno: errno}
		}
		who.groups = packGroups(groups)
		return s.settle(c, who, answer{})
	}
	now, a := who.obey(call)
	if a.errno != 0 || now == who {
		return a
	}
	return s.settle(c, now, a)
}

// obey is what a call makes of who calls it.
func (i identity) obey(call identityCall) (identity, answer) {
	now := i
	part := call.part(&now)
	if call.verb == "setfs" {
		old := part.files
		if id := call.id(0); id != keep && (i.privileged() || part.has(id) || id == old) {
			part.files = id
		}
		return now, answer{value: int64(old)}
	}
	changed, ok := part.change(call.verb, [3]uint32{call.id(0), call.id(1), call.id(2)}, i.privileged())
	if !ok {
		return i, answer{errno: unix.EPERM}
	}
	*part = changed
	return now, answer{}
}

// settle makes the caller somebody.
func (s *identities) settle(c *caller, who identity, a answer) answer {
	if err := s.become(c.n.pid, who); err != nil {
		return failed(err)
	}
	return a
}

// putAll writes ids to where the arguments of a call say.
func (c *caller) putAll(call identityCall, list ...uint32) answer {
	for n, id := range list {
		if !c.write(call.args[n], call.encode(id)) {
			return answer{errno: unix.EFAULT}
		}
	}
	return answer{}
}

// putGroups is what getgroups does.
func (c *caller) putGroups(call identityCall, list []uint32) answer {
	size := int32(call.args[0])
	var b []byte
	for _, g := range list {
		b = append(b, call.encode(g)...)
	}
	switch {
	case size == 0:
	case size < 0 || int(size) < len(list):
		return answer{errno: unix.EINVAL}
	case !c.write(call.args[1], b):
		return answer{errno: unix.EFAULT}
	}
	return answer{value: int64(len(list))}
}

// maxGroups is the kernel's limit.
const maxGroups = 65536

// groups reads the list that setgroups is given.
func (c *caller) groups(call identityCall) ([]uint32, unix.Errno) {
	n := int32(call.args[0])
	if n < 0 || n > maxGroups {
		return nil, unix.EINVAL
	}
	width := len(call.encode(0))
	b := make([]byte, int(n)*width)
	if got, _ := c.read(call.args[1], b); got < len(b) {
		return nil, unix.EFAULT
	}
	list := make([]uint32, 0, n)
	for ; len(b) > 0; b = b[width:] {
		if width == 2 {
			list = append(list, uint32(binary.NativeEndian.Uint16(b)))
		} else {
			list = append(list, binary.NativeEndian.Uint32(b))
		}
	}
	return list, 0
}

// encode is an id in the caller's memory.
func (c identityCall) encode(id uint32) []byte {
	if c.narrow {
		return binary.NativeEndian.AppendUint16(nil, uint16(id))
	}
	return binary.NativeEndian.AppendUint32(nil, id)
}
