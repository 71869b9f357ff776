package seccomp

import (
	"encoding/binary"
	"os"
	"runtime"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// dockerCapabilities are those of a container by default.
var dockerCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// call is what a filter is asked about.
type call struct {
	arch, number uint32
	args         [6]uint64
}

// run does what the kernel does with a filter.
func (f Filter) run(t *testing.T, c call) uint32 {
	t.Helper()
	data := binary.LittleEndian.AppendUint32(nil, c.number)
	data = binary.LittleEndian.AppendUint32(data, c.arch)
	data = binary.LittleEndian.AppendUint64(data, 0)
	for _, a := range c.args {
		data = binary.LittleEndian.AppendUint64(data, a)
	}
	var acc uint32
	for pc := 0; pc < len(f); pc++ {
		i := f[pc]
		holds := false
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.LittleEndian.Uint32(data[i.K:])
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= i.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(i.K)
			continue
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			holds = acc == i.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			holds = acc >= i.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			holds = acc > i.K
		default:
			t.Fatalf("instruction %d: unknown code %#x", pc, i.Code)
		}
		if holds {
			pc += int(i.Jt)
		} else {
			pc += int(i.Jf)
		}
	}
	t.Fatal("the filter has no end")
	return 0
}

func mustCompile(t *testing.T, s *specs.LinuxSeccomp) Filter {
	t.Helper()
	f, err := Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return Unmarshal(string(f.Marshal()))
}

const (
	allow  = uint32(unix.SECCOMP_RET_ALLOW)
	eperm  = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EPERM)
	enosys = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)
)

func TestDefault(t *testing.T) {
	own, err := native()
	if err != nil {
		t.Skip(err)
	}
	numbers := own.numbers()
	for _, tt := range []struct {
		name string
		caps []string
		call string
		args [6]uint64
		want uint32
	}{
		{"plain", dockerCapabilities, "read", [6]uint64{}, allow},
		{"mount", dockerCapabilities, "mount", [6]uint64{}, eperm},
		{"mount by who may", append([]string{"CAP_SYS_ADMIN"}, dockerCapabilities...), "mount", [6]uint64{}, allow},
		{"unshare", dockerCapabilities, "unshare", [6]uint64{unix.CLONE_NEWUSER}, eperm},
		{"keyctl", dockerCapabilities, "keyctl", [6]uint64{}, eperm},
		{"add_key", dockerCapabilities, "add_key", [6]uint64{}, eperm},
		{"io_uring_setup", dockerCapabilities, "io_uring_setup", [6]uint64{}, eperm},
		{"userfaultfd", dockerCapabilities, "userfaultfd", [6]uint64{}, eperm},
		{"open_by_handle_at", dockerCapabilities, "open_by_handle_at", [6]uint64{}, eperm},
		{"open_by_handle_at by who may", []string{"CAP_DAC_READ_SEARCH"}, "open_by_handle_at", [6]uint64{}, allow},
		{"ptrace", dockerCapabilities, "ptrace", [6]uint64{}, allow},
		{"chroot", dockerCapabilities, "chroot", [6]uint64{}, allow},
		{"chroot without", nil, "chroot", [6]uint64{}, eperm},
		{"bpf", []string{"CAP_BPF"}, "bpf", [6]uint64{}, allow},
		{"thread", dockerCapabilities, "clone", [6]uint64{unix.CLONE_VM | unix.CLONE_THREAD, unix.CLONE_VM}, allow},
		{"user namespace", dockerCapabilities, "clone", [6]uint64{unix.CLONE_NEWUSER, unix.CLONE_NEWUSER}, eperm},
		{"clone3", dockerCapabilities, "clone3", [6]uint64{}, enosys},
		{"inet socket", dockerCapabilities, "socket", [6]uint64{unix.AF_INET}, allow},
		{"alg socket", dockerCapabilities, "socket", [6]uint64{unix.AF_ALG}, eperm},
		{"vsock", dockerCapabilities, "socket", [6]uint64{unix.AF_VSOCK}, eperm},
		{"personality", dockerCapabilities, "personality", [6]uint64{0xffffffff}, allow},
		{"no randomization", dockerCapabilities, "personality", [6]uint64{0x0040000}, eperm},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, ok := numbers[tt.call]
			if !ok {
				t.Skipf("%s is not on %s", tt.call, runtime.GOARCH)
			}
			if got := mustCompile(t, Default(tt.caps)).run(t, call{own.audit, n, tt.args}); got != tt.want {
				t.Errorf("got %#x, want %#x", got, tt.want)
			}
		})
	}
}

func TestArchitectures(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("is about amd64")
	}
	f := mustCompile(t, Default(dockerCapabilities))
	for _, tt := range []struct {
		name string
		call call
		want uint32
	}{
		{"exit of 386", call{arch: unix.AUDIT_ARCH_I386, number: 1}, allow},
		{"mount of 386", call{arch: unix.AUDIT_ARCH_I386, number: 21}, eperm},
		{"read of x32", call{arch: unix.AUDIT_ARCH_X86_64, number: x32Bit}, enosys},
		{"mount of x32", call{arch: unix.AUDIT_ARCH_X86_64, number: x32Bit | unix.SYS_MOUNT}, enosys},
		{"a call of the future", call{arch: unix.AUDIT_ARCH_X86_64, number: 900}, enosys},
		{"another machine", call{arch: unix.AUDIT_ARCH_ARM, number: 1}, unix.SECCOMP_RET_KILL_PROCESS},
	} {
		if got := f.run(t, tt.call); got != tt.want {
			t.Errorf("%s: got %#x, want %#x", tt.name, got, tt.want)
		}
	}
}

func TestCompileComparisons(t *testing.T) {
	own, err := native()
	if err != nil {
		t.Skip(err)
	}
	n := own.numbers()["read"]
	const big = 5 << 32
	for _, tt := range []struct {
		op    specs.LinuxSeccompOperator
		value uint64
		two   uint64
		holds []uint64
		not   []uint64
	}{
		{specs.OpEqualTo, big | 7, 0, []uint64{big | 7}, []uint64{7, big, big | 8}},
		{specs.OpNotEqual, big | 7, 0, []uint64{7, big, big | 8}, []uint64{big | 7}},
		{specs.OpGreaterThan, big | 7, 0, []uint64{big | 8, 6 << 32}, []uint64{big | 7, 9, big}},
		{specs.OpGreaterEqual, big | 7, 0, []uint64{big | 7, big | 8, 6 << 32}, []uint64{9, big}},
		{specs.OpLessThan, big | 7, 0, []uint64{9, big}, []uint64{big | 7, big | 8, 6 << 32}},
		{specs.OpLessEqual, big | 7, 0, []uint64{9, big, big | 7}, []uint64{big | 8, 6 << 32}},
		{specs.OpMaskedEqual, big | 0xf, 1 << 32, []uint64{1 << 32, 1<<32 | 16, 3 << 32}, []uint64{0, big, 1<<32 | 1}},
	} {
		f := mustCompile(t, &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{
			Names: []string{"read"}, Action: specs.ActAllow,
			Args: []specs.LinuxSeccompArg{{Index: 1, Value: tt.value, ValueTwo: tt.two, Op: tt.op}, {Index: 2, Value: 1, Op: specs.OpEqualTo}},
		}}})
		for want, values := range map[uint32][]uint64{allow: tt.holds, eperm: tt.not} {
			for _, v := range values {
				if got := f.run(t, call{own.audit, n, [6]uint64{9, v, 1}}); got != want {
					t.Errorf("%s %#x of %#x: got %#x, want %#x", tt.op, tt.value, v, got, want)
				}
			}
		}
		if got := f.run(t, call{own.audit, n, [6]uint64{9, tt.holds[0], 2}}); got != eperm {
			t.Errorf("%s: the second comparison is not asked for", tt.op)
		}
	}
}

func TestParse(t *testing.T) {
	if _, err := native(); err != nil {
		t.Skip(err)
	}
	text := `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
		{"name": "read", "action": "SCMP_ACT_ERRNO", "errnoRet": 5},
		{"names": ["write"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_BPF"]}},
		{"names": ["close"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "99.1"}},
		{"names": ["dup"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}}]}`
	s, err := Parse([]byte(text), dockerCapabilities)
	if err != nil || len(s.Syscalls) != 1 || s.Syscalls[0].Names[0] != "read" {
		t.Errorf("got %+v, %v", s, err)
	}
	for bad, want := range map[string]string{
		`{`:                                   "unexpected EOF",
		`{"defaultAktion": ""}`:               `unknown field "defaultAktion"`,
		`{"defaultAction": "SCMP_ACT_MAYBE"}`: `unknown seccomp action "SCMP_ACT_MAYBE"`,
		`{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}`:                                                   `flags and listeners are not supported`,
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "read", "action": "SCMP_ACT_NOTIFY"}]}`:                            `read: SCMP_ACT_NOTIFY is not supported`,
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "read", "action": "SCMP_ACT_KILL", "args": [{"index": 6}]}]}`:      `read: there is no argument 6`,
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "read", "action": "SCMP_ACT_KILL", "args": [{"op": "LIKE"}]}]}`:    `read: unknown operator "LIKE"`,
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "read", "action": "SCMP_ACT_ERRNO", "errnoRet": 9999}]}`:           `9999 is no error number`,
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "action": "SCMP_ACT_KILL", "includes": {"caps": ["x"]}}]}`:    `"x" is no capability`,
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "action": "SCMP_ACT_KILL", "includes": {"minKernel": "6"}}]}`: `"6" is no kernel version`,
	} {
		if _, err := Parse([]byte(bad), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", bad, err, want)
		}
	}
}

// TestDefaultIsDockers compares the default with Docker's own file, where a module cache
// has it.
func TestDefaultIsDockers(t *testing.T) {
	text, err := os.ReadFile(os.ExpandEnv("$OCIBUILD_DOCKER_SECCOMP"))
	if err != nil {
		t.Skip("OCIBUILD_DOCKER_SECCOMP names no copy of Docker's default.json")
	}
	for _, caps := range [][]string{dockerCapabilities, {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYSLOG"}, nil} {
		theirs, err := Parse(text, caps)
		if err != nil {
			t.Fatal(err)
		}
		f, g := mustCompile(t, Default(caps)), mustCompile(t, theirs)
		for _, a := range arches[:2] {
			for n := range uint32(500) {
				for _, first := range []uint64{0, 1, 2, 8, 12, 13, 20, 30, 38, 39, 40, 41, 45, 46, 0x20008, 0xffffffff, unix.CLONE_NEWUSER, 1 << 40} {
					c := call{arch: a.audit, number: n, args: [6]uint64{first, first}}
					if got, want := f.run(t, c), g.run(t, c); got != want {
						t.Fatalf("%s: call %d(%#x): got %#x, Docker has %#x", a.goarch, n, first, got, want)
					}
				}
			}
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile(Default(dockerCapabilities)); err != nil {
			b.Fatal(err)
		}
	}
}
