package executor

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"github.com/ocibuild/ocibuild/executor/seccomp"
	"golang.org/x/sys/unix"
)

// startCommand gives the calling thread the identity of the step and starts the
// command from it. All other threads of this process keep theirs; the command has
// nothing but its thread's. A failure comes as the report to end with.
func startCommand(p *plan) (pid int, failure *report) {
	runtime.LockOSThread() // and never unlocked: no other goroutine may have this identity
	terminal, err := openOwnTerminal(p, ownPtmx)
	if err != nil {
		return 0, &report{Kind: reportSetup, Text: err.Error()}
	}
	if err := takeIdentity(p); err != nil {
		return 0, &report{Kind: reportSetup, Text: err.Error()}
	}
	file, err := lookPath(p.Args[0], p.Environ)
	if err == nil {
		err = refuseOurselves(file)
	}
	if err != nil {
		return 0, &report{Kind: reportNotStarted, Start: *notFound(p.Args[0], err)}
	}
	attr := &syscall.ProcAttr{Env: p.Environ, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true}}
	if terminal >= 0 {
		attr.Files = []uintptr{uintptr(terminal), uintptr(terminal), uintptr(terminal)}
		attr.Sys.Setctty, attr.Sys.Ctty = true, 0
	}
	pid, err = syscall.ForkExec(file, p.Args, attr)
	if err != nil {
		return 0, &report{Kind: reportNotStarted, Start: *notExecuted(p.Args[0], file, err)}
	}
	return pid, nil
}

// takeLimits limits this thread, and what it starts.
func (p *plan) takeLimits() error {
	for _, l := range p.Limits {
		if err := l.set(); err != nil {
			return err
		}
	}
	return setAffinity(p.CPUs)
}

// takeIdentity changes credentials with raw system calls, which concern the
// calling thread alone: Go's own wrappers would change every thread's.
func takeIdentity(p *plan) error {
	for fd := range 3 {
		if p.OneID {
			break // it is the user's, whatever he is called
		}
		if err := giveOutput(fd, int(p.UID)); err != nil {
			return fmt.Errorf("give output to user %d: %w", p.UID, explainID(err))
		}
	}
	// A session keyring of its own; kernels without keyrings have none to protect.
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	if err != nil && !slices.Contains([]error{unix.ENOSYS, unix.EDQUOT, unix.EPERM}, err) {
		return fmt.Errorf("join session keyring: %w", err)
	}
	if err := p.takeLimits(); err != nil {
		return err
	}
	if err := dropBounding(p.Bounding); err != nil {
		return fmt.Errorf("drop capabilities from bounding set: %w", err)
	}
	// Who may not gain privileges installs the filter last, and anybody else while it
	// still has CAP_SYS_ADMIN.
	if !p.NoNewPrivs {
		if err := p.installFilters(); err != nil {
			return err
		}
	}
	if err := setIDs(p); err != nil {
		return err
	}
	if err := setCapabilities(p); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	if !p.NoNewPrivs {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return installFilter(p.Filter)
}

// installFilters installs the filter, and before it the one that asks.
func (p *plan) installFilters() (err error) {
	if p.Notify == "" {
		return installFilter(p.Filter)
	}
	if p.listener, err = installNotify(p.Notify); err != nil {
		return err
	}
	return installFilter(p.Filter)
}

// installFilter restricts the system calls of this thread and of what it starts.
func installFilter(text string) error {
	if text == "" {
		return nil
	}
	filter := seccomp.Unmarshal(text)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := raw(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); err != nil {
		return fmt.Errorf("install seccomp filter: %w", err)
	}
	return nil
}

// giveOutput makes a pipe the user's, who can then open it as /dev/stdout.
func giveOutput(fd, uid int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO || int(st.Uid) == uid {
		return nil
	}
	return unix.Fchown(fd, uid, -1)
}

// set limits this process, and so the command. A system call, because the
// command does not inherit a limit of open files that Go has set for itself.
func (l planLimit) set() error {
	err := unix.Setrlimit(int(l.Resource), &unix.Rlimit{Cur: l.Soft, Max: l.Hard})
	if err == nil {
		return nil
	}
	name := ""
	for n, resource := range limits {
		if resource == l.Resource {
			name = strings.ToLower(strings.TrimPrefix(n, "RLIMIT_"))
		}
	}
	var now unix.Rlimit
	if errors.Is(err, unix.EPERM) && unix.Getrlimit(int(l.Resource), &now) == nil {
		err = fmt.Errorf("it cannot be more than %d here", now.Max)
	}
	return fmt.Errorf("set resource limit %s: %w", name, err)
}

func dropBounding(keep uint64) error {
	for c := uint64(0); c < 64; c++ {
		if keep&(1<<c) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if err == unix.EINVAL {
			return nil // past the last one that this kernel has
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setIDs takes on the ids, unless there is one alone, which is had.
func setIDs(p *plan) error {
	if p.OneID {
		return nil
	}
	if !p.KeepGroups {
		gids := make([]uint32, len(p.Groups)+1) // never empty, so that it has an address
		for i, g := range p.Groups {
			gids[i] = uint32(g)
		}
		if err := raw(sysSetgroups, uintptr(len(p.Groups)), uintptr(unsafe.Pointer(&gids[0])), 0); err != nil {
			return fmt.Errorf("set groups %v: %w", p.Groups, explainID(err))
		}
	}
	if p.Ambient != 0 {
		// Capabilities end with the uid 0 unless this is asked for, which lasts until the command starts.
		if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("keep capabilities: %w", err)
		}
	}
	gid, uid := uintptr(p.GID), uintptr(p.UID)
	if err := raw(sysSetresgid, gid, gid, gid); err != nil {
		return fmt.Errorf("set group %d: %w", gid, explainID(err))
	}
	if err := raw(sysSetresuid, uid, uid, uid); err != nil {
		return fmt.Errorf("set user %d: %w", uid, explainID(err))
	}
	return nil
}

func raw(call, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall(call, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

// explainID says why an id was refused: in a user namespace only mapped ids exist.
func explainID(err error) error {
	if errors.Is(err, unix.EINVAL) {
		return errors.New("the user namespace does not map this id (give the user a range in /etc/subuid and /etc/subgid, and install newuidmap)")
	}
	return err
}

// setCapabilities takes what the plan says, as far as this process has it.
func setCapabilities(p *plan) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return err
	}
	permitted := p.Permitted & (uint64(have[1].Permitted)<<32 | uint64(have[0].Permitted))
	var want [2]unix.CapUserData
	for i := range want {
		shift := 32 * i
		want[i] = unix.CapUserData{
			Effective:   uint32(p.Effective & permitted >> shift),
			Permitted:   uint32(permitted >> shift),
			Inheritable: uint32(p.Inheritable & permitted >> shift),
		}
	}
	if err := unix.Capset(&header, &want[0]); err != nil {
		return err
	}
	for c := uint(0); c < 64; c++ {
		if p.Ambient&permitted&(1<<c) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c), 0, 0); err != nil {
			return err
		}
	}
	return nil
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

var errNotFound = errors.New("executable file not found in $PATH")

// lookPath finds a command in the container, whose root is ours by now, with the
// rights of the step's user.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	dirs := defaultPath
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs = v
		}
	}
	denied := errNotFound
	for dir := range strings.SplitSeq(dirs, ":") {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + name // a relative one is relative to the working directory, which is set
		err := executable(file)
		if err == nil {
			return file, nil
		}
		if errors.Is(err, unix.EACCES) {
			denied = err
		}
	}
	return "", denied
}

func executable(file string) error {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return &os.PathError{Op: "stat", Path: file, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return &os.PathError{Op: "exec", Path: file, Err: unix.EISDIR}
	}
	if err := unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS); err != nil {
		return &os.PathError{Op: "exec", Path: file, Err: err}
	}
	return nil
}

// refuseOurselves refuses a command that is this very program, which a path like
// /proc/self/exe would lead to.
func refuseOurselves(file string) error {
	var self, st unix.Stat_t
	if unix.Stat("/proc/self/exe", &self) == nil && unix.Stat(file, &st) == nil && self.Dev == st.Dev && self.Ino == st.Ino {
		return &os.PathError{Op: "exec", Path: file, Err: unix.EPERM}
	}
	return nil
}
