package executor

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"unicode"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// DefaultHostname is the name a step's uts namespace has when its Process
// names none. It is BuildKit's, because images have come to contain it.
const DefaultHostname = "buildkitsandbox"

// Network modes of a Process.
const (
	NetworkHost = "host" // the network namespace of the builder; also ""
	NetworkNone = "none" // an empty network namespace with the loopback up
)

// HostIP is one more line of a step's /etc/hosts.
type HostIP struct {
	Host string
	IP   netip.Addr
}

// Process is one command to run in a snapshot. All of it is settled by the
// caller, variables are expanded; only a User is looked up where it means something.
type Process struct {
	Args []string // Args[0] is looked up in Env's PATH inside the root filesystem
	Env  []string
	Cwd  string // "" is "/"; made, owned by UID and GID, when it is missing
	// User, if not nil, is a USER value that Run looks up in the root filesystem's
	// passwd and group files: it sets UID, GID and Groups and, unless Env has one, HOME.
	User       *string
	UID, GID   uint32
	Groups     []uint32 // supplementary groups; left out where setgroups(2) is denied
	MoreGroups []uint32 // and those that the process has whoever it is
	Hostname   string   // "" is DefaultHostname
	Network    string   // NetworkHost, NetworkNone or NetworkIsolated
	ExtraHosts []HostIP
	DNS        DNS
	// Certificates are trusted by the process beside those that its image has: PEM. What
	// says so is there for the process alone.
	Certificates []byte
	ShmSize      int64 // of /dev/shm in bytes; 0 is 64 MiB
	// Limits are what setrlimit(2) sets; all others are as they are for this process.
	Limits []specs.POSIXRlimit
	// Resources are limits of all processes of the step together, or, where no cgroup
	// can be had (see Executor.CanLimit), of each.
	Resources Resources
	// Insecure gives the step all capabilities that this process has, the devices of
	// the machine, /proc and /sys with nothing hidden or read-only in them.
	Insecure bool
	// Security is what any other step may do, and may not.
	Security Security
	Devices  []specs.LinuxDevice // more nodes in /dev; without an owner of their own, the process's
	// ReadOnly lets the process write to its mounts only. Their mount points stay in the
	// snapshot then.
	ReadOnly bool
	// More mounts than the default ones, which they come after. Whatever its kind, a
	// mount comes after one on a directory above it; of two with one target the
	// later is made, Mounts, Binds and Files in this order.
	Mounts []specs.Mount // bind, rbind, tmpfs
	Binds  []Bind        // parts of other trees
	Files  []File        // secrets
}

func (p *Process) hostname() string {
	if p.Hostname == "" {
		return DefaultHostname
	}
	return p.Hostname
}

// maxHostname is the kernel's limit.
const maxHostname = 64

// checkHostname refuses what cannot stand as one word in /etc/hosts.
func checkHostname(name string) error {
	if len(name) > maxHostname || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '#' }) {
		return fmt.Errorf("%q cannot be a hostname", name)
	}
	return nil
}

// IO is where the output of a process goes, as it comes. A nil writer discards;
// one and the same writer for both keeps the order of the two streams.
type IO struct {
	Stdout, Stderr io.Writer
	// Stdin is what the process reads; nil is /dev/null. A read that nobody answers may
	// outlast the process.
	Stdin io.Reader
	// Terminal, if not nil, gives the process a terminal of its own: what it is typed is
	// Stdin, what it shows goes to Stdout.
	Terminal *Terminal
	// Signals are passed on to the process; nil are none.
	Signals <-chan os.Signal
	// Used, if not nil, is filled in when the process has run, also when it failed.
	Used *Usage
}

// ExitError reports that a step's command ran and failed, or could not be
// started at all.
type ExitError struct {
	Code   int         // exit code; 128 plus the signal's number when a signal ended it; 126 or 127 when it was not started
	Signal unix.Signal // the signal that ended the command, or 0
	Err    error       // why the command could not be started, or nil
	// OutOfMemory says that the kernel killed a process of the step because they
	// reached the limit of memory.
	OutOfMemory bool
}

// Error describes the end of the command in a shell's words.
func (e *ExitError) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	text := fmt.Sprintf("exit code: %d", e.Code)
	if e.Signal != 0 {
		text = fmt.Sprintf("killed by signal %d (%s)", e.Signal, unix.SignalName(e.Signal))
	}
	if e.OutOfMemory {
		text += ": out of memory, the limit was reached"
	}
	return text
}

// Unwrap returns why the command could not be started.
func (e *ExitError) Unwrap() error { return e.Err }
