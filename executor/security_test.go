package executor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attacks are what no step may do. Each gives the error of the one call that it is about.
var attacks = map[string]func() error{
	"mount":   func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
	"umount":  func() error { return unix.Unmount("/proc", unix.MNT_DETACH) },
	"fsopen":  func() error { _, err := unix.Fsopen("tmpfs", 0); return err },
	"unshare": func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"setns":   func() error { return unix.Setns(0, unix.CLONE_NEWNET) },
	"clone": func() error {
		_, _, errno := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		return asError(errno)
	},
	"clone3": func() error { _, _, errno := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0); return asError(errno) },
	"keyctl": func() error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false); return err },
	"add_key": func() error {
		_, err := unix.AddKey("user", "x", []byte("y"), unix.KEY_SPEC_SESSION_KEYRING)
		return err
	},
	"open_by_handle_at": func() error {
		h, mount, err := unix.NameToHandleAt(unix.AT_FDCWD, "/", 0)
		if err != nil {
			h, mount = unix.NewFileHandle(1, make([]byte, 8)), unix.AT_FDCWD
		}
		_, err = unix.OpenByHandleAt(mount, h, 0)
		return err
	},
	"bpf": func() error { _, _, errno := unix.RawSyscall(unix.SYS_BPF, 0, 0, 0); return asError(errno) },
	"io_uring": func() error {
		var params [120]byte
		_, _, errno := unix.RawSyscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
		return asError(errno)
	},
	"userfaultfd":  func() error { _, _, errno := unix.RawSyscall(unix.SYS_USERFAULTFD, 1, 0, 0); return asError(errno) },
	"vsock":        func() error { _, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0); return err },
	"alg":          func() error { _, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0); return err },
	"ptrace init":  func() error { return unix.PtraceAttach(1) },
	"read init":    func() error { _, err := os.ReadFile("/proc/1/environ"); return err },
	"init's root":  func() error { _, err := os.ReadDir("/proc/1/root/"); return err },
	"init's files": func() error { _, err := os.Readlink("/proc/1/fd/3"); return err },
	"sysrq":        func() error { return write("/proc/sysrq-trigger") },
	"core pattern": func() error { return write("/proc/sys/kernel/core_pattern") },
	"sysfs":        func() error { return write("/sys/kernel/mm/transparent_hugepage/enabled") },
	"kcore":        notEmpty("/proc/kcore"),
	"keys":         notEmpty("/proc/keys"),
	"disk": func() error {
		_ = os.Remove("/tmp/disk")
		if err := unix.Mknod("/tmp/disk", unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))); err != nil {
			return err
		}
		return device("/tmp/disk")
	},
	"disk in /dev": func() error {
		if err := unix.Mknod("/dev/disk", unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))); err != nil {
			return err
		}
		return device("/dev/disk")
	},
	"memory": func() error {
		if err := unix.Mknod("/dev/shm/mem", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 1))); err != nil {
			return err
		}
		return device("/dev/shm/mem")
	},
	"found disk": func() error { return write("/found-disk") },
	"module":     func() error { return unix.InitModule(nil, "") },
	"reboot":     func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) },
	"time":       func() error { var now unix.Timeval; return unix.Settimeofday(&now) },
	"hostname":   func() error { return unix.Sethostname([]byte("x")) },
	"swap": func() error {
		_, _, errno := unix.RawSyscall(unix.SYS_SWAPON, 0, 0, 0)
		return asError(errno)
	},
	"descriptors": func() error {
		names, err := os.ReadDir("/proc/self/fd")
		for _, e := range names {
			link, err := os.Readlink("/proc/self/fd/" + e.Name())
			n, _ := strconv.Atoi(e.Name())
			if err == nil && n > 2 && !strings.HasPrefix(link, "anon_inode:") && !strings.HasPrefix(link, "/proc/") && !strings.HasPrefix(link, "/sys/fs/cgroup/") {
				return nil // it got in
			}
		}
		return errors.Join(err, unix.ENOENT)
	},
}

func asError(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

func write(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// device opens what mknod has made; where that was answered without making a node,
// there is a plain file.
func device(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || fi.Mode()&os.ModeDevice == 0 {
		return errors.Join(err, unix.ENODEV)
	}
	return nil
}

func notEmpty(name string) func() error {
	return func() error {
		data := make([]byte, 1)
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.Read(data)
		return err
	}
}

// helpAttack carries out the attacks and prints what came of each.
func helpAttack() int {
	names := make([]string, 0, len(attacks))
	for name := range attacks {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := attacks[name](); err != nil {
			fmt.Printf("refused %s: %v\n", name, err)
			continue
		}
		fmt.Println("DONE", name)
	}
	return 0
}

// giveSelf puts this test binary into a snapshot's tree, if it can run there.
func giveSelf(t *testing.T, s *Snapshots) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	makeLayer(t, s, "self", func(dir string) {
		tree{"tmp/": ""}.make(t, dir)
		for name, mode := range map[string]os.FileMode{"attack": 0o755, "setuid": 0o755 | os.ModeSetuid} {
			name = filepath.Join(dir, name)
			if err := errors.Join(os.WriteFile(name, self, 0o755), os.Chmod(name, mode)); err != nil {
				t.Fatal(err)
			}
		}
		_ = unix.Mknod(filepath.Join(dir, "found-disk"), unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0)))
	})
	return "self"
}

// runSelf runs a helper of this test binary in a step.
func runSelf(t *testing.T, s *Snapshots, p Process) string {
	t.Helper()
	out, err := run(t, s, prepare(t, s, "base", giveSelf(t, s)), p)
	var exit *ExitError
	if errors.As(err, &exit) && exit.Code == 127 {
		t.Skip("needs a static test binary, without -race")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// TestAttacks tries to get out of a step.
func TestAttacks(t *testing.T) {
	for _, uid := range []uint32{0, 1000} {
		t.Run(fmt.Sprint("uid ", uid), func(t *testing.T) {
			s := newStore(t)
			p := Process{Args: []string{"/attack"}, Env: []string{helperVar + "=attack"}, UID: uid, GID: uid}
			out := runSelf(t, s, p)
			if n := strings.Count(out, "refused "); n != len(attacks) {
				t.Errorf("%d of %d attacks were refused:\n%s", n, len(attacks), out)
			}
		})
	}
}

func TestSecurity(t *testing.T) {
	needsMounts(t)
	const caps = "grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr '\\n\\t' '  '"
	for _, tt := range []struct {
		name   string
		change func(*Security)
		script string
		want   string
	}{
		{"default", func(*Security) {}, caps, "CapEff: 00000000a80425fb CapBnd: 00000000a80425fb NoNewPrivs: 0 Seccomp: 2 "},
		{"drop", func(s *Security) { s.DropCapabilities = []string{"CAP_CHOWN"} }, caps, "CapEff: 00000000a80425fa CapBnd: 00000000a80425fa NoNewPrivs: 0 Seccomp: 2 "},
		{"drop all, add one", func(s *Security) {
			s.DropCapabilities, s.AddCapabilities = []string{CapabilitiesAll}, []string{"CAP_CHOWN"}
		}, caps, "CapEff: 0000000000000001 CapBnd: 0000000000000001 NoNewPrivs: 0 Seccomp: 2 "},
		{"add", func(s *Security) { s.AddCapabilities = []string{"CAP_SYS_ADMIN"} }, "mount -t tmpfs none /tmp && echo mounted", "mounted\n"},
		{"unconfined", func(s *Security) { s.Seccomp = Unconfined }, "grep ^Seccomp: /proc/self/status | tr '\\t' ' '", "Seccomp: 0\n"},
		{"profile", func(s *Security) {
			s.Seccomp = `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}`
		}, "mkdir /tmp/x 2>&1; echo", "mkdir: can't create directory '/tmp/x': No space left on device\n\n"},
		{"no new privileges", func(s *Security) { s.NoNewPrivileges = true }, "grep ^NoNewPrivs /proc/self/status | tr '\\t' ' '", "NoNewPrivs: 1\n"},
		{"unmasked", func(s *Security) { s.Unmasked = true }, "grep -q . /proc/interrupts && echo seen", "seen\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := script(tt.script)
			tt.change(&p.Security)
			if out := mustRun(t, p); out != tt.want {
				t.Errorf("got %q, want %q", out, tt.want)
			}
		})
	}
}

// TestSetuid checks that setuid programs work, unless they are not to.
func TestSetuid(t *testing.T) {
	needsIDs(t)
	needsMounts(t) // a confined step has no new privileges, as its filter wants it
	for _, no := range []bool{false, true} {
		p := Process{Args: []string{"/setuid"}, Env: []string{helperVar + "=euid"}, UID: 1000, GID: 1000, Security: Security{NoNewPrivileges: no}}
		out := runSelf(t, newStore(t), p)
		if want := map[bool]string{false: "0\n", true: "1000\n"}[no]; out != want {
			t.Errorf("no new privileges %v: got %q, want %q", no, out, want)
		}
	}
}

func TestParseCapability(t *testing.T) {
	for text, want := range map[string]string{"net_admin": "CAP_NET_ADMIN", "CAP_CHOWN": "CAP_CHOWN", "all": "ALL"} {
		if got, err := ParseCapability(text); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
	if _, err := ParseCapability("CAP_FLY"); err == nil {
		t.Error("CAP_FLY is taken for a capability")
	}
}
