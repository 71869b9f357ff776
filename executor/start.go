package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// job is the run of one plan: where its output goes and where its cgroup can be.
type job struct {
	io      IO
	cgroups cgroups
}

// start starts the init process, hands it the plan and waits for its end and
// its report.
func (j job) start(ctx context.Context, p *plan, mnt *os.File) error {
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
	group, err := j.cgroups.make(p.limits)
	defer group.remove()
	if err != nil {
		p.substitute(p.limits)
	}
	tty, err := j.terminal(p)
	if err != nil {
		return err
	}
	defer tty.close()
	if err := p.beExternal(j.io.Terminal != nil); err != nil {
		return err
	}
	cmd := j.initCommand(ctx, p)
	if p.Chroot {
		cmd.Cancel = control.Close // it then ends what the step has started, which would outlive it
	}
	// The program comes last, and is started by the number it has there: in the
	// child, before it starts, any other may have become something else.
	cmd.ExtraFiles = slices.Concat([]*os.File{theirs, mnt}, p.trees, tty.files(), []*os.File{self}) // controlFD, rootFD, firstTreeFD...
	cmd.Path = fmt.Sprintf("/proc/self/fd/%d", controlFD+len(cmd.ExtraFiles)-1)
	stdin, err := j.input(cmd)
	if err != nil {
		return err
	}
	defer stdin.close()
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("start container: %w", explainClone(err))
	}
	theirs.Close()
	stdin.begin()
	tty.begin()
	defer j.relay(cmd.Process)()
	r, err := j.follow(ctx, cmd, control, p, group)
	tty.wait()
	if j.io.Used != nil && cmd.ProcessState != nil {
		*j.io.Used = usageOf(cmd.ProcessState, group)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return outcome(r, err, group)
}

// outcome is what Run returns for a report, or for the reason why there is none.
func outcome(r report, err error, group *cgroup) error {
	if err != nil && group.outOfMemory() { // it was the init process that was killed
		return &ExitError{Code: 128 + int(unix.SIGKILL), Signal: unix.SIGKILL, OutOfMemory: true}
	}
	if err != nil {
		return err
	}
	err = r.err()
	var exit *ExitError
	if errors.As(err, &exit) {
		exit.OutOfMemory = exit.Err == nil && group.outOfMemory()
	}
	return err
}

// relay passes signals on until it is told to stop. The init process does the rest.
func (j job) relay(to *os.Process) (stop func()) {
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-j.io.Signals:
				_ = to.Signal(s) // it may have ended just now
			}
		}
	}()
	return func() { close(done) }
}

// follow hands a started init process the plan, and waits for its end and its report.
func (j job) follow(ctx context.Context, cmd *exec.Cmd, control *os.File, p *plan, group *cgroup) (report, error) {
	var r report
	if group != nil {
		if err := group.add(cmd.Process.Pid); err != nil { // before the plan: it has no children yet
			control.Close()
			return r, errors.Join(err, cmd.Wait())
		}
	}
	if p.connector != nil {
		stop, err := p.connector.connect(ctx, cmd.Process.Pid)
		if err != nil {
			control.Close()
			return r, errors.Join(err, cmd.Wait())
		}
		defer stop()
	}
	_, sendErr := control.Write(marshal(p)) // fails only if the process has ended, which Wait tells
	readErr := errors.Join(sendErr, readMessage(control, &r))
	if readErr != nil && p.Chroot {
		group.kill() // no pid namespace ends what an init process that has died leaves
	}
	waitErr := cmd.Wait()
	if readErr != nil {
		return r, fmt.Errorf("run container: init ended without a report: %w", errors.Join(waitErr, readErr))
	}
	if waitErr != nil {
		return r, fmt.Errorf("copy output of command: %w", waitErr)
	}
	return r, nil
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
func (j job) initCommand(ctx context.Context, p *plan) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{initName}
	// One P, no collection in its short life, and no look at cgroup files for CPU
	// limits: it starts sooner.
	cmd.Env = []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=containermaxprocs=0"}
	cmd.Stdout, cmd.Stderr = piped(j.io.Stdout), piped(j.io.Stderr)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: uintptr(p.Flags &^ unix.CLONE_NEWCGROUP), Setsid: true}
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
