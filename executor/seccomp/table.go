package seccomp

import (
	_ "embed"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

//go:embed syscalls.txt
var syscallsText string

// arch is a set of system call numbers.
type arch struct {
	name      specs.Arch
	goarch    string
	audit     uint32 // what the kernel calls it
	column    int    // in syscalls.txt
	bigEndian bool
}

var arches = []arch{
	{name: specs.ArchX86, goarch: "386", audit: unix.AUDIT_ARCH_I386, column: 2},
	{name: specs.ArchX86_64, goarch: "amd64", audit: unix.AUDIT_ARCH_X86_64, column: 3},
	{name: specs.ArchARM, goarch: "arm", audit: unix.AUDIT_ARCH_ARM, column: 4},
	{name: specs.ArchAARCH64, goarch: "arm64", audit: unix.AUDIT_ARCH_AARCH64, column: 5},
	{name: specs.ArchLOONGARCH64, goarch: "loong64", audit: unix.AUDIT_ARCH_LOONGARCH64, column: 6},
	{name: specs.ArchPPC64LE, goarch: "ppc64le", audit: unix.AUDIT_ARCH_PPC64LE, column: 7},
	{name: specs.ArchRISCV64, goarch: "riscv64", audit: unix.AUDIT_ARCH_RISCV64, column: 8},
	{name: specs.ArchS390X, goarch: "s390x", audit: unix.AUDIT_ARCH_S390X, column: 9, bigEndian: true},
}

// beside are the architectures that one runs programs of as well.
var beside = map[string][]specs.Arch{
	"amd64": {specs.ArchX86, specs.ArchX32},
	"arm64": {specs.ArchARM},
}

func findArch(match func(arch) bool) (arch, bool) {
	for _, a := range arches {
		if match(a) {
			return a, true
		}
	}
	return arch{}, false
}

// native is the architecture of this program.
func native() (arch, error) {
	a, ok := findArch(func(a arch) bool { return a.goarch == runtime.GOARCH })
	if !ok {
		return arch{}, fmt.Errorf("no table of system calls for %s", runtime.GOARCH)
	}
	return a, nil
}

// syscall is a line of syscalls.txt.
type syscall struct {
	name    string
	gate    string
	numbers []string // with the name and the gate first
}

// table is syscalls.txt, read when it is first needed.
var table = sync.OnceValue(func() []syscall {
	var list []syscall
	for line := range strings.Lines(syscallsText) {
		f := strings.Fields(line)
		list = append(list, syscall{f[0], f[1], f})
	}
	return list
})

// numbers gives the numbers that system calls have in an architecture, by name.
func (a arch) numbers() map[string]uint32 {
	out := make(map[string]uint32, len(table()))
	for _, s := range table() {
		if n, err := strconv.ParseUint(s.numbers[a.column], 10, 32); err == nil {
			out[s.name] = uint32(n)
		}
	}
	return out
}

// Name gives the system call that a number is in an architecture, which is named as the
// kernel names it (AUDIT_ARCH_*); "" is none. wider says that there is another one of that
// name, with 32 added, whose numbers are not of 16 bits.
func Name(audit uint32, number int32) (name string, wider bool) {
	s := spoken()[spokenKey{audit, uint32(number)}]
	return s.name, s.wider
}

type (
	spokenKey struct{ audit, number uint32 }
	spokenAs  struct {
		name  string
		wider bool
	}
)

// spoken are all system calls that this program's kernel may be asked for.
var spoken = sync.OnceValue(func() map[spokenKey]spokenAs {
	out := map[spokenKey]spokenAs{}
	for _, a := range arches {
		if a.goarch != runtime.GOARCH && !slices.Contains(beside[runtime.GOARCH], a.name) {
			continue
		}
		numbers := a.numbers()
		for name, n := range numbers {
			_, wider := numbers[name+"32"]
			out[spokenKey{a.audit, n}] = spokenAs{name, wider}
		}
	}
	return out
})
