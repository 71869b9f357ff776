package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"syscall"

	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// Executor runs processes in snapshots of one store. Its methods may be called
// from several goroutines.
type Executor struct {
	snapshots *Snapshots
	filters   filters
}

// New returns an executor for the snapshots of s.
func New(s *Snapshots) *Executor {
	return &Executor{snapshots: s}
}

// Run runs p in the snapshot's merged tree and returns when the command and all
// that it started have ended and nothing of it is mounted any more. What it
// changed is in the snapshot's upper directory, also when it failed.
//
// A command that ends badly, or that cannot be started, gives an *ExitError.
// When ctx is done, everything is killed at once and the error is ctx's.
func (e *Executor) Run(ctx context.Context, sn *Snapshot, p Process, out IO) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	st := &stubs{upper: sn.Upper()}
	runErr := e.runMounted(ctx, sn, p, st, out)
	return withCleanup(runErr, st.uncopy())
}

// plan settles how p is run here.
func (e *Executor) plan(p Process) (*plan, error) {
	if p.Network != "" && p.Network != NetworkHost && p.Network != NetworkNone {
		return nil, fmt.Errorf("run command: unsupported network mode %q", p.Network)
	}
	if err := checkHostname(p.hostname()); err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	h, err := detectHost(p)
	if err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	if h.Hosts, err = e.snapshots.file(hostsFile(p)); err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	if h.ResolvConf, err = e.snapshots.file(readResolvConf(os.ReadFile)); err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	if h.Seccomp, err = p.seccomp(); err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	spec := Spec(p, h)
	plan, err := compile(spec)
	if err != nil {
		return nil, err
	}
	if plan.Filter, err = e.filters.compile(spec.Linux.Seccomp); err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	plan.Scratch = e.snapshots.path(emptyDir)
	if err := plan.addTrees(p.Binds, p.Files); err != nil {
		return nil, fmt.Errorf("run command: %w", err)
	}
	plan.arrange(len(defaultMounts(p, h)))
	plan.lasting = p.lasting()
	return plan, nil
}

// runMounted runs the process in a mount of the snapshot that ends with it.
func (e *Executor) runMounted(ctx context.Context, sn *Snapshot, p Process, st *stubs, out IO) error {
	return e.inMount(sn, func(at mounted) error {
		if err := p.resolveUser(at.root); err != nil {
			return err
		}
		plan, err := e.plan(p)
		if err != nil {
			return err
		}
		return runPlan(ctx, plan, at, st, out)
	})
}

// inMount calls do with a mount of the snapshot, its mount points added.
func (e *Executor) inMount(sn *Snapshot, do func(mounted) error) error {
	points, err := e.snapshots.mountPoints()
	if err != nil {
		return err
	}
	mnt, err := e.snapshots.mountOver(sn, points)
	if err != nil {
		return err
	}
	defer mnt.Close()
	root, err := duplicate(mnt)
	if err != nil {
		return fmt.Errorf("open root filesystem: %w", err)
	}
	defer root.Close()
	return do(mounted{mnt, root})
}

// mounted is a root filesystem: the mount that the step gets, and our way into it.
type mounted struct {
	mnt  *os.File
	root *rootfs.Root
}

// lasting lists the directories that an image without them has after this step,
// as with BuildKit: of the usual mount points those that no mount of the step's own is
// on or below.
func (p Process) lasting() []string {
	var own []string
	for _, m := range p.Mounts {
		own = append(own, m.Destination)
	}
	for _, b := range p.Binds {
		own = append(own, b.Target)
	}
	for _, f := range p.Files {
		own = append(own, f.Target)
	}
	if p.ShmSize > 0 {
		own = append(own, "/dev/shm")
	}
	return slices.DeleteFunc([]string{"/proc", "/dev", "/sys"}, func(dir string) bool {
		return slices.ContainsFunc(own, func(target string) bool { return path.Clean(target) == dir || isBelow(target, dir) })
	})
}

// runPlan runs a plan in a root filesystem.
func runPlan(ctx context.Context, p *plan, at mounted, st *stubs, out IO) error {
	if err := at.root.MkdirAll(p.Cwd, 0o755, int(p.UID), int(p.GID)); err != nil {
		return fmt.Errorf("make working directory: %w", err)
	}
	for _, dir := range p.lasting {
		if err := at.root.MkdirAll(dir, 0o755, 0, 0); err != nil {
			return fmt.Errorf("make mount point %s: %w", dir, err)
		}
	}
	err := st.make(at.root, p.Mounts)
	if err == nil {
		err = start(ctx, p, at.mnt, out)
	}
	return withCleanup(err, st.remove(at.root))
}

// withCleanup adds what went wrong in cleaning up, and leaves err itself as it is.
func withCleanup(err, cleanup error) error {
	if cleanup == nil {
		return err
	}
	return errors.Join(err, cleanup)
}

func duplicate(mnt *os.File) (*rootfs.Root, error) {
	fd, err := unix.Openat(int(mnt.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return rootfs.FromFile(os.NewFile(uintptr(fd), "/")), nil
}

// start starts the init process, hands it the plan and waits for its end and
// its report.
func start(ctx context.Context, p *plan, mnt *os.File, out IO) error {
	control, theirs, err := socketPair()
	if err != nil {
		return fmt.Errorf("make control socket: %w", err)
	}
	defer control.Close()
	defer theirs.Close()
	self, err := protectedSelf()
	if err != nil {
		return fmt.Errorf("open own program: %w", err)
	}
	defer self.Close()
	cmd := initCommand(ctx, p, out)
	// The program comes last, and is started by the number it has there: in the
	// child, before it starts, any other may have become something else.
	cmd.ExtraFiles = append(append([]*os.File{theirs, mnt}, p.trees...), self) // controlFD, rootFD, firstTreeFD...
	cmd.Path = fmt.Sprintf("/proc/self/fd/%d", controlFD+len(cmd.ExtraFiles)-1)
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("start container: %w", explainClone(err))
	}
	theirs.Close()
	_, sendErr := control.Write(marshal(p)) // fails only if the process has ended, which Wait tells
	var r report
	readErr := errors.Join(sendErr, readMessage(control, &r))
	waitErr := cmd.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	if readErr != nil {
		return fmt.Errorf("run container: init ended without a report: %w", errors.Join(waitErr, readErr))
	}
	if waitErr != nil {
		return fmt.Errorf("copy output of command: %w", waitErr)
	}
	return r.err()
}

// err is what Run returns for a report.
func (r *report) err() error {
	switch {
	case r.Kind == reportExit && r.Code == 0:
		return nil
	case r.Kind == reportExit:
		return &ExitError{Code: int(r.Code)}
	case r.Kind == reportSignal:
		return &ExitError{Code: 128 + int(r.Code), Signal: unix.Signal(r.Code)}
	case r.Kind == reportNotStarted:
		return &ExitError{Code: int(r.Start.code()), Err: &r.Start}
	}
	return fmt.Errorf("set up container: %s", r.Text)
}

// socketPair gives both ends of a stream socket, ours for the poller.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

// initCommand is a program, to be named by its Path, as the init process of new namespaces.
func initCommand(ctx context.Context, p *plan, out IO) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{initName}
	// One P, no collection in its short life, and no look at cgroup files for CPU
	// limits: it starts sooner.
	cmd.Env = []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=containermaxprocs=0"}
	cmd.Stdout, cmd.Stderr = piped(out.Stdout), piped(out.Stderr)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: uintptr(p.Flags), Setsid: true}
	return cmd
}

// protectedSelf opens this program for execution. It is a read-only mount where that
// can be had, so that nothing in a container can come to write to the program
// through the /proc/<pid>/exe of the init process.
func protectedSelf() (*os.File, error) {
	const self = "/proc/self/exe"
	fd, err := cloneTree(unix.AT_FDCWD, self, false)
	if err == nil {
		if err = setAttrs(fd, unix.MOUNT_ATTR_RDONLY, 0, false); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return os.OpenFile(self, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	return os.NewFile(uintptr(fd), self), nil
}

// piped makes sure that the command gets a pipe and not the descriptor of a file.
func piped(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	if _, ok := w.(*os.File); ok {
		return struct{ io.Writer }{w}
	}
	return w
}

func explainClone(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (namespaces need CAP_SYS_ADMIN, or a user namespace)", err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w (the limit of namespaces is reached, see /proc/sys/user)", err)
	}
	return err
}
