package seccomp

import (
	"runtime"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// newNamespaces are the flags of clone(2) that make namespaces.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// families are the first and last numbers of the socket families that a container may
// use: not the kernel's own ciphers, nor vsock, which leads to a virtual machine's host.
var families = [][2]uint64{{0, unix.AF_ALG - 1}, {unix.AF_NFC, unix.AF_NFC}, {unix.AF_VSOCK + 1, 45}}

// personalities are the execution domains that a container may take: Linux, Linux with
// the uname of 2.6, 32 bits, both, and to ask for the present one.
var personalities = []uint64{0x0, 0x8, 0x20000, 0x20008, 0xffffffff}

// Default is what Docker gives a container with these capabilities.
func Default(capabilities []string) *specs.LinuxSeccomp {
	eperm, enosys := uint(unix.EPERM), uint(unix.ENOSYS)
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: &eperm}
	if own, err := native(); err == nil {
		s.Architectures = append([]specs.Arch{own.name}, beside[runtime.GOARCH]...)
	}
	admin := slices.Contains(capabilities, "CAP_SYS_ADMIN")
	s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: open(capabilities), Action: specs.ActAllow})
	for _, f := range families {
		s.Syscalls = append(s.Syscalls, family(f[0], f[1])...)
	}
	for _, p := range personalities {
		s.Syscalls = append(s.Syscalls, allowIf("personality", 0, specs.OpEqualTo, p))
	}
	if admin {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: []string{"clone", "clone3"}, Action: specs.ActAllow})
		return s
	}
	flags := uint(0)
	if runtime.GOARCH == "s390x" {
		flags = 1
	}
	return withRules(s,
		allowIf("clone", flags, specs.OpMaskedEqual, newNamespaces),
		// Its flags are in memory, which no filter can read: programs use clone then.
		specs.LinuxSyscall{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &enosys})
}

func withRules(s *specs.LinuxSeccomp, rules ...specs.LinuxSyscall) *specs.LinuxSeccomp {
	s.Syscalls = append(s.Syscalls, rules...)
	return s
}

// family allows socket(2) for a range of families, one rule each but for a range from 0 on:
// two comparisons of one argument would be alternatives.
func family(first, last uint64) []specs.LinuxSyscall {
	if first == 0 {
		return []specs.LinuxSyscall{allowIf("socket", 0, specs.OpLessThan, last+1)}
	}
	var list []specs.LinuxSyscall
	for f := first; f <= last; f++ {
		list = append(list, allowIf("socket", 0, specs.OpEqualTo, f))
	}
	return list
}

func allowIf(name string, index uint, op specs.LinuxSeccompOperator, value uint64) specs.LinuxSyscall {
	return specs.LinuxSyscall{
		Names: []string{name}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: index, Value: value, Op: op}},
	}
}

// open lists the system calls that need no look at their arguments.
func open(capabilities []string) []string {
	var names []string
	for _, s := range table() {
		switch s.gate {
		case "+":
			names = append(names, s.name)
		case "-", "=":
		default:
			for gate := range strings.SplitSeq(s.gate, ",") {
				if slices.Contains(capabilities, "CAP_"+gate) {
					names = append(names, s.name)
					break
				}
			}
		}
	}
	return names
}
