package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// job is the run of one plan: where its output goes and where its cgroup can be.
type job struct {
	io      IO
	cgroups cgroups
	spares  *spares
}

// start hands an init process the plan, and waits for its end and its report.
func (j job) start(ctx context.Context, p *plan, mnt *os.File) error {
	tty, err := j.terminal(p)
	if err != nil {
		return err
	}
	defer tty.close()
	if err := p.beExternal(j.io.Terminal != nil); err != nil {
		return err
	}
	streams, err := j.streams()
	if err != nil {
		return err
	}
	files := slices.Concat([]*os.File{mnt}, p.trees, tty.files()) // rootFD, firstTreeFD...
	p.Streams = uint64(rootFD + len(files))
	first, err := j.spares.take(p.Flags &^ unix.CLONE_NEWCGROUP)
	if err != nil {
		streams.close()
		return err
	}
	defer first.close()
	end := first.cmd.Process.Kill
	if p.Chroot {
		end = first.control.Close // it then ends what the step has started, which would outlive it
	}
	defer context.AfterFunc(ctx, func() { _ = end() })() // it may have ended just now
	defer j.relay(first.cmd.Process)()
	r, err := j.follow(ctx, first, p, append(files, streams.theirs...), given{streams, tty})
	tty.wait()
	if j.io.Used != nil && first.cmd.ProcessState != nil {
		*j.io.Used = usageOf(first.cmd.ProcessState, first.group)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return outcome(r, err, first.group)
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

// follow hands an init process the plan, and waits for its end and its report.
func (j job) follow(ctx context.Context, first *initProcess, p *plan, files []*os.File, to given) (report, error) {
	var r report
	stop, err := j.settle(ctx, first, p)
	if err != nil {
		to.streams.close()
		to.terminal.begin() // and it ends
		first.discard()
		return r, err
	}
	defer stop()
	err = first.tell(p, files)
	to.streams.begin()
	to.terminal.begin()
	j.spares.more()
	if err == nil {
		err = readMessage(first.control, &r)
	}
	if err != nil {
		first.control.Close()
	}
	if err != nil && p.Chroot {
		first.group.kill() // no pid namespace ends what an init process that has died leaves
	}
	waitErr := first.cmd.Wait()
	copyErr := to.streams.wait()
	if err != nil {
		return r, fmt.Errorf("run container: init ended without a report: %w", errors.Join(waitErr, err))
	}
	if waitErr = errors.Join(waitErr, copyErr); waitErr != nil {
		return r, fmt.Errorf("copy output of command: %w", waitErr)
	}
	return r, nil
}

// given is what a command gets to read and write.
type given struct {
	streams  *streams
	terminal *terminal
}

// settle gives an init process its cgroup, and connects its network, before it has
// children.
func (j job) settle(ctx context.Context, first *initProcess, p *plan) (stop func(), err error) {
	if err := j.limit(first, p); err != nil {
		return nil, err
	}
	if p.connector == nil {
		return func() {}, nil
	}
	return p.connector.connect(ctx, first.cmd.Process.Pid)
}

// limit sees to it that an init process is in the cgroup that its plan asks for, or that the
// plan does without.
func (j job) limit(first *initProcess, p *plan) error {
	if p.limits == nil && first.group != nil {
		return nil
	}
	group, err := j.cgroups.make(p.limits)
	if err != nil {
		p.substitute(p.limits)
		return nil
	}
	if err := group.add(first.cmd.Process.Pid); err != nil {
		group.remove()
		return err
	}
	first.group.remove() // it is empty now
	first.group = group
	return nil
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

func explainClone(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (namespaces need CAP_SYS_ADMIN, or a user namespace)", err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w (the limit of namespaces is reached, see /proc/sys/user)", err)
	}
	return err
}
