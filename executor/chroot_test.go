package executor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockets are ways to reach others, by what they are called.
var sockets = map[string]func() error{
	"inet":    socketOf(unix.AF_INET, unix.SOCK_STREAM),
	"inet6":   socketOf(unix.AF_INET6, unix.SOCK_DGRAM),
	"raw":     socketOf(unix.AF_INET, unix.SOCK_RAW),
	"netlink": socketOf(unix.AF_NETLINK, unix.SOCK_RAW),
	"packet":  socketOf(unix.AF_PACKET, unix.SOCK_RAW),
	"vsock":   socketOf(unix.AF_VSOCK, unix.SOCK_STREAM),
	// The kernel looks at 32 bits of the number.
	"high bits": func() error {
		_, _, errno := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_INET|1<<32, unix.SOCK_STREAM, 0)
		return asError(errno)
	},
	"io_uring": func() error {
		var params [120]byte
		_, _, errno := unix.RawSyscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
		return asError(errno)
	},
}

func socketOf(family, kind int) func() error {
	return func() error { _, err := unix.Socket(family, kind, 0); return err }
}

// helpSockets tells which sockets can be made.
func helpSockets() int {
	var refused []string
	for name, do := range sockets {
		if do() == unix.EACCES {
			refused = append(refused, name)
		}
	}
	slices.Sort(refused)
	fmt.Println(strings.Join(refused, ","), socketOf(unix.AF_UNIX, unix.SOCK_STREAM)())
	return 0
}

// TestChrootNetworkNone checks that a step without a network makes no sockets where it has no
// namespace, whatever profile it has.
func TestChrootNetworkNone(t *testing.T) {
	if testLevel != LevelChroot {
		t.Skipf("needs level %s, is %q", LevelChroot, testLevel)
	}
	var names []string
	for name := range sockets {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, profile := range []string{"", Unconfined} {
		p := Process{Args: []string{"/attack"}, Env: []string{helperVar + "=sockets"}, Network: NetworkNone, Security: Security{Seccomp: profile}}
		out := runSelf(t, newStore(t), p)
		if want := strings.Join(names, ",") + " <nil>\n"; profile == Unconfined && out != want {
			t.Errorf("got %q, want %q", out, want)
		} else if !strings.Contains(out, "inet,inet6") || !strings.HasSuffix(out, " <nil>\n") {
			t.Errorf("profile %q: got %q", profile, out)
		}
	}
	p := Process{Args: []string{"/attack"}, Env: []string{helperVar + "=sockets"}}
	if out := runSelf(t, newStore(t), p); strings.Contains(out, "inet") {
		t.Errorf("with a network: got %q", out)
	}
}
