package executor

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ocibuild/ocibuild/executor/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultCapabilities is Docker's default set, mask 0xa80425fb.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
	"CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
}

// Security is what a step may do other than what Docker lets a container do, which the
// zero value is.
type Security struct {
	AddCapabilities, DropCapabilities []string // CAP_ names; CapabilitiesAll is all of them
	// Seccomp is a profile in Docker's JSON, or Unconfined, or "" for the default.
	Seccomp         string
	NoNewPrivileges bool // setuid programs and file capabilities give nothing
	Unmasked        bool // nothing in /proc and /sys is hidden or read-only
}

const (
	// CapabilitiesAll stands for all capabilities.
	CapabilitiesAll = "ALL"
	// Unconfined is the seccomp profile that allows everything.
	Unconfined = "unconfined"
)

// ParseCapability gives the full name of a capability that may lack its CAP_ and be
// in lower case.
func ParseCapability(text string) (string, error) {
	name := strings.ToUpper(text)
	if name == CapabilitiesAll {
		return name, nil
	}
	name = "CAP_" + strings.TrimPrefix(name, "CAP_")
	if !slices.Contains(capabilityNames, name) {
		return "", fmt.Errorf("unknown capability %q", text)
	}
	return name, nil
}

// CapabilityNames lists all capabilities.
func CapabilityNames() []string { return slices.Clone(capabilityNames) }

// Check finds mistakes in the seccomp profile.
func (s Security) Check() error {
	_, err := s.seccomp()
	return err
}

// capabilities are those that root has in the step. What is both added and dropped is
// there, as with Docker, unless it is all of them that are added.
func (s Security) capabilities() []string {
	all := slices.Contains(s.AddCapabilities, CapabilitiesAll)
	var list []string
	for _, name := range capabilityNames {
		has := all || slices.Contains(defaultCapabilities, name) && !slices.Contains(s.DropCapabilities, CapabilitiesAll)
		if has && slices.Contains(s.DropCapabilities, name) {
			has = false
		}
		if has || slices.Contains(s.AddCapabilities, name) {
			list = append(list, name)
		}
	}
	return list
}

// seccomp gives the profile, nil if there is none.
func (s Security) seccomp() (*specs.LinuxSeccomp, error) {
	switch s.Seccomp {
	case Unconfined:
		return nil, nil
	case "":
		return seccomp.Default(s.capabilities()), nil
	}
	return seccomp.Parse([]byte(s.Seccomp), s.capabilities())
}

func (p Process) seccomp() (*specs.LinuxSeccomp, error) {
	if p.Insecure {
		return nil, nil
	}
	return p.Security.seccomp()
}

// filters keeps compiled filters: nearly all steps of a build have one and the same.
type filters struct {
	mu   sync.Mutex
	done map[string]string
	// asking are the filters that ask, by level.
	asking map[Level]string
	guards map[bool]string // see guard
}

// ask gives the filter that asks at a level.
func (f *filters) ask(l Level, calls []string, rules func() []specs.LinuxSyscall) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if text, ok := f.asking[l]; ok {
		return text, nil
	}
	filter, err := seccomp.Notify(calls, rules()...)
	if err != nil {
		return "", err
	}
	if f.asking == nil {
		f.asking = map[Level]string{}
	}
	f.asking[l] = string(filter.Marshal())
	return f.asking[l], nil
}

// single gives the filter that lets a step with one user id believe that there are more.
func (f *filters) single() (string, error) {
	return f.ask(LevelSingle, slices.Concat(ownerCalls, identityCalls), singleRules)
}

// chroot gives a filter that asks about /proc.
func (f *filters) chroot() (string, error) {
	return f.ask(LevelChroot, procCalls, func() []specs.LinuxSyscall { return nil })
}

// guard gives a filter for what mounts and namespaces see to at other levels, whatever profile
// a step has beside it: it lets a step make no device nodes but those of any container, for there
// is no mount on which they are good for nothing, and, without a network, no sockets but those
// that are files.
func (f *filters) guard(noNetwork bool) (string, error) {
	rules := slices.Concat(nodeRules("mknod", 1), nodeRules("mknodat", 2))
	if noNetwork {
		rules = append(rules, socketRules()...)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if text, ok := f.guards[noNetwork]; ok {
		return text, nil
	}
	filter, err := seccomp.Notify(nil, rules...)
	if err != nil {
		return "", err
	}
	if f.guards == nil {
		f.guards = map[bool]string{}
	}
	f.guards[noNetwork] = string(filter.Marshal())
	return f.guards[noNetwork], nil
}

// socketRules let nobody make a socket but one of AF_UNIX. The other two calls are ways to make
// one that a filter cannot look into.
func socketRules() []specs.LinuxSyscall {
	refused := uint(unix.EACCES)
	return []specs.LinuxSyscall{
		{Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpEqualTo, Value: unix.AF_UNIX}}},
		{Names: []string{"socket", "socketcall", "io_uring_setup"}, Action: specs.ActErrno, ErrnoRet: &refused},
	}
}

// nodeRules are for a system call that makes nodes, of the mode and the device that
// its arguments from that one on give.
func nodeRules(call string, mode uint) []specs.LinuxSyscall {
	kind := func(k uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: mode, Op: specs.OpMaskedEqual, Value: unix.S_IFMT, ValueTwo: k}
	}
	var rules []specs.LinuxSyscall
	for _, d := range defaultDevices {
		rules = append(rules, specs.LinuxSyscall{
			Names: []string{call}, Action: specs.ActAllow,
			Args: []specs.LinuxSeccompArg{kind(unix.S_IFCHR), {Index: mode + 1, Op: specs.OpEqualTo, Value: unix.Mkdev(uint32(d.Major), uint32(d.Minor))}},
		})
	}
	for _, k := range []uint64{unix.S_IFCHR, unix.S_IFBLK} {
		rules = append(rules, specs.LinuxSyscall{Names: []string{call}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{kind(k)}})
	}
	return rules
}

func (f *filters) compile(s *specs.LinuxSeccomp) (string, error) {
	if s == nil {
		return "", nil
	}
	text, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if filter, ok := f.done[string(text)]; ok {
		return filter, nil
	}
	filter, err := seccomp.Compile(s)
	if err != nil {
		return "", err
	}
	if f.done == nil {
		f.done = map[string]string{}
	}
	f.done[string(text)] = string(filter.Marshal())
	return f.done[string(text)], nil
}
