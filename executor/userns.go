package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// usernsName is the argv[0] that makes this binary wait for its id maps and
	// then start the program proper.
	usernsName = "ocibuild-userns"
	// parentVar tells the program inside the pid of the one outside, and its user.
	parentVar = "OCIBUILD_USERNS_PARENT"
)

// Enter brings the program to where it may do most, or to the level that is wanted. For
// root, and inside a user namespace that is already fit, it returns the level at once. For
// anybody else it runs the whole program again as root of a new user and mount
// namespace, passes signals on to it, and returns done with its exit code when it has
// ended. The ids are the user's own as 0 and the ranges that /etc/subuid and
// /etc/subgid give, for root all that it has; without ranges, or without newuidmap and
// newgidmap, the user's own alone. Where there is no user namespace to be had but the
// capabilities of an ordinary container, the level is LevelChroot. With an
// error, which says why no step can run, it is LevelNone.
//
// It must be called early and from the main goroutine. When ctx is done, the
// program inside gets SIGTERM.
func Enter(ctx context.Context, want Level) (level Level, exit int, done bool, err error) {
	parent, inside := os.LookupEnv(parentVar)
	if inside {
		if err := settleInside(parent); err != nil {
			return LevelNone, 0, false, fmt.Errorf("enter user namespace: %w", err)
		}
	}
	if want == LevelNone {
		return LevelNone, 0, false, errors.New("isolation none was asked for")
	}
	level, here := present()
	switch {
	case here == nil && (want == LevelAuto || want == level):
		return level, 0, false, nil
	case inside:
		return LevelNone, 0, false, fmt.Errorf("enter user namespace: %w", here)
	case want == LevelRoot:
		return LevelNone, 0, false, fmt.Errorf("isolation root is out of reach: %w", errors.Join(here, notRoot(level)))
	}
	if want != LevelChroot {
		exit, err = runInside(ctx, want)
		if err == nil {
			return "", exit, true, nil
		}
		err = fmt.Errorf("enter user namespace: %w", err)
	}
	if want != LevelAuto && want != LevelChroot {
		return LevelNone, 0, false, err
	}
	if mayChroot() {
		return LevelChroot, 0, false, nil
	}
	return LevelNone, 0, false, errors.Join(err, notChroot())
}

// present is the level that this process is at, if it may mount.
func present() (Level, error) {
	initial, err := inInitialUserNamespace()
	if err != nil {
		return "", err
	}
	ids, err := readIDMap("/proc/self/uid_map")
	switch {
	case err != nil:
		return "", err
	case !isAdmin():
		return "", errors.New("root with CAP_SYS_ADMIN is needed")
	case !mayMount():
		return "", errors.New("it may not mount: " + restrictions)
	case !procIsWhole():
		return "", errors.New("no /proc can be mounted, because parts of this one are hidden (a container needs systempaths=unconfined or procMount: Unmasked)")
	case initial:
		return LevelRoot, nil
	case ids.total() == 1:
		return LevelSingle, nil
	}
	return LevelRootless, nil
}

func notRoot(level Level) error {
	if level == "" {
		return nil
	}
	return fmt.Errorf("this is a user namespace, at level %s", level)
}

// notChroot says why level chroot is out of reach, if it is.
func notChroot() error {
	if os.Geteuid() != 0 {
		return errors.New("isolation chroot takes root, as in an ordinary container")
	}
	return fmt.Errorf("isolation chroot lacks %s", strings.Join(lacking(chrootCapabilities), ", "))
}

// InvokedBy is the user who started the program, by the number that it had outside of a
// user namespace that Enter has made. It must be asked for before Enter.
func InvokedBy() int {
	_, uid, _ := strings.Cut(os.Getenv(parentVar), " ")
	if n, err := strconv.Atoi(uid); err == nil {
		return n
	}
	return os.Geteuid()
}

// restrictions says what usually keeps a user from having a user namespace.
const restrictions = "unprivileged user namespaces are restricted here (see the sysctls user.max_user_namespaces, " +
	"kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns, or the container's seccomp profile)"

// settleInside ties this process to the one outside and makes it an ordinary
// process again: the kernel marks one that has gained capabilities.
func settleInside(parent string) error {
	if err := os.Unsetenv(parentVar); err != nil { //nolint:forbidigo // our own message to ourselves, which no step may see
		return err
	}
	// The Go runtime keeps threads that it has started, so that this one lasts.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set parent death signal: %w", err)
	}
	pid, _, _ := strings.Cut(parent, " ")
	if strconv.Itoa(os.Getppid()) != pid {
		return errors.New("the process outside has ended")
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set dumpable flag: %w", err)
	}
	return nil
}

// runInside runs the program in a user namespace, with ranges of ids if it can.
func runInside(ctx context.Context, want Level) (exit int, err error) {
	runtime.LockOSThread() // the parent death signal is this thread's
	defer runtime.UnlockOSThread()
	if !procIsWhole() {
		return 0, errors.New("no /proc could be mounted in it, because parts of this one are hidden (a container needs systempaths=unconfined or procMount: Unmasked)")
	}
	if want == LevelSingle {
		return runMapped(ctx, nil)
	}
	ids, err := findRanges()
	if ids != nil {
		exit, err = runMapped(ctx, ids)
	}
	if err == nil || want == LevelRootless || ids != nil && !errors.Is(err, errMapping) {
		return exit, err
	}
	return runMapped(ctx, nil)
}

// ranges are the subordinate ids of a user, or all ids that root has.
type ranges struct {
	uids, gids idMap
	root       bool
}

// findRanges returns nil, and why, when there are none.
func findRanges() (*ranges, error) {
	if os.Geteuid() == 0 {
		return rootRanges()
	}
	uid := strconv.Itoa(os.Getuid())
	name := uid
	if u, err := user.LookupId(uid); err == nil {
		name = u.Username
	}
	uids, err1 := os.ReadFile("/etc/subuid")
	gids, err2 := os.ReadFile("/etc/subgid")
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("find subordinate ids: %w", err)
	}
	r := &ranges{uids: subordinateIDs(uids, name, uid), gids: subordinateIDs(gids, name, uid)}
	if len(r.uids) == 0 || len(r.gids) == 0 {
		return nil, fmt.Errorf("/etc/subuid and /etc/subgid give %s no ids", name)
	}
	return r, nil
}

// rootRanges are the ids that there are here, for root to pass on as they are.
func rootRanges() (*ranges, error) {
	uids, err1 := readIDMap("/proc/self/uid_map")
	gids, err2 := readIDMap("/proc/self/gid_map")
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	for _, m := range []idMap{uids, gids} {
		for i := range m {
			m[i].outside = m[i].inside
		}
	}
	return &ranges{uids: uids, gids: gids, root: true}, nil
}

// errMapping reports that the namespace was made but the ids could not be mapped.
var errMapping = errors.New("map ids")

// runMapped runs the program with these ranges, or, for nil, a single id.
func runMapped(ctx context.Context, ids *ranges) (exit int, err error) {
	gate, err := newGate()
	if err != nil {
		return 0, err
	}
	defer gate.close()
	args := append([]string{usernsName, strconv.Itoa(gate.reader), strconv.Itoa(os.Geteuid())}, os.Args...)
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: args,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			Pdeathsig:  unix.SIGKILL,
		},
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, restrictions)
	}
	if err := mapIDs(cmd.Process.Pid, ids); err != nil {
		gate.close()
		_ = cmd.Wait() // it ends by itself at the end of the pipe
		return 0, fmt.Errorf("%w: %w", errMapping, err)
	}
	if err := gate.open(); err != nil {
		return 0, errors.Join(err, cmd.Wait())
	}
	return relay(ctx, cmd, signals)
}

// gate is a pipe that keeps the program inside waiting until its ids are mapped.
// The reading end keeps its number in the child, so that no descriptor given to
// us is lost to it.
type gate struct{ reader, writer int }

func newGate() (*gate, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], 0); err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	unix.CloseOnExec(p[1])
	return &gate{p[0], p[1]}, nil
}

func (g *gate) open() error {
	_, err := unix.Write(g.writer, []byte{1})
	g.close()
	return err
}

func (g *gate) close() {
	if g.writer >= 0 {
		unix.Close(g.reader)
		unix.Close(g.writer)
		g.reader, g.writer = -1, -1
	}
}

// mapIDs gives the process its ids: with the setuid programs newuidmap and
// newgidmap for ranges, and by ourselves for our own id alone, which the kernel
// allows without privilege once setgroups(2) is denied.
func mapIDs(pid int, ids *ranges) error {
	if ids != nil && ids.root {
		return errors.Join(writeMap(pid, "uid_map", ids.uids.text()), writeMap(pid, "gid_map", ids.gids.text()))
	}
	if ids != nil {
		if err := runMapper("newuidmap", mapperArgs(pid, os.Getuid(), ids.uids)); err != nil {
			return err
		}
		return runMapper("newgidmap", mapperArgs(pid, os.Getgid(), ids.gids))
	}
	for _, f := range [][2]string{
		{"setgroups", "deny"},
		{"uid_map", fmt.Sprintf("0 %d 1", os.Geteuid())},
		{"gid_map", fmt.Sprintf("0 %d 1", os.Getegid())},
	} {
		if err := writeMap(pid, f[0], f[1]); err != nil {
			return err
		}
	}
	return nil
}

func writeMap(pid int, name, text string) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, name), []byte(text), 0)
}

func runMapper(name string, args []string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// forwarded are the signals that are passed on to the program inside.
var forwarded = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH}

// fromTerminal are those that a terminal sends to all of its foreground process
// group, and so to the program inside as well as to us.
var fromTerminal = []os.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGWINCH}

// relay passes signals on until the program ends, and returns its exit code.
func relay(ctx context.Context, cmd *exec.Cmd, signals <-chan os.Signal) (int, error) {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop := ctx.Done()
	for {
		select {
		case s := <-signals:
			if !slices.Contains(fromTerminal, s) || !inForeground() {
				_ = cmd.Process.Signal(s) // it may have ended just now
			}
		case <-stop:
			stop = nil
			_ = cmd.Process.Signal(unix.SIGTERM)
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 0, fmt.Errorf("wait for program: %w", err)
			}
			ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if ws.Signaled() {
				return 128 + int(ws.Signal()), nil
			}
			return ws.ExitStatus(), nil
		}
	}
}

// inForeground reports whether we are in our terminal's foreground process group.
func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	pgrp, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && pgrp == unix.Getpgrp()
}

// usernsInit waits until the ids are mapped, by which this process becomes root
// of its user namespace, and starts the program proper, which gives it that
// root's capabilities. It never returns.
func usernsInit() {
	fail := func(err error) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", usernsName, err)
		unix.Exit(1)
	}
	if len(os.Args) < 4 {
		fail(errors.New("it is not meant to be run by hand"))
	}
	gate, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fail(err)
	}
	if n, err := fdReader(gate).Read(make([]byte, 1)); n != 1 || err != nil {
		unix.Exit(1) // the parent has given up, and says why
	}
	unix.Close(gate)
	env := append(os.Environ(), parentVar+"="+strconv.Itoa(os.Getppid())+" "+os.Args[2])
	fail(syscall.Exec(ownPath(), os.Args[3:], env))
}

// ownPath is this program's path in our own mount namespace, where it can be
// protected (see protectedSelf); /proc/self/exe still leads to the one outside.
func ownPath() string {
	const self = "/proc/self/exe"
	name, err := os.Readlink(self)
	if err != nil {
		return self
	}
	a, err1 := os.Stat(name)
	b, err2 := os.Stat(self)
	if err1 != nil || err2 != nil || !os.SameFile(a, b) {
		return self
	}
	return name
}
