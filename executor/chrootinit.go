package executor

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// stepName is the argv[0] that makes this binary go into a step's tree and become its
	// command.
	stepName = "ocibuild-step"

	// Descriptors that it is started with.
	stepSocketFD = 3 // the plan comes in, the listener and a report go out
	stepRootFD   = 4 // the tree
)

// chrootInit stays outside of the step's tree: it starts the command, shows it /proc,
// and ends all that the command leaves behind. It never returns.
func chrootInit(p *plan) {
	if err := errors.Join(
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0), // keeps the step out of our memory
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0),
	); err != nil {
		end(report{Kind: reportSetup, Text: err.Error()})
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	terminal, err := openOwnTerminal(p, "/dev/ptmx")
	if err != nil {
		end(report{Kind: reportSetup, Text: err.Error()})
	}
	pid, socket, err := startStep(p, terminal, rootFD)
	if err != nil {
		end(report{Kind: reportSetup, Text: err.Error()})
	}
	go func() { // the parent has given up, or has ended
		_, _ = io.Copy(io.Discard, fdReader(controlFD))
		_ = unix.Kill(pid, unix.SIGKILL)
	}()
	go forward(signals, pid)
	tree, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(rootFD))
	failure := followStep(socket, p, func(listener int) func(*notification) answer {
		return (&procServer{listener: listener, tree: tree, own: os.Getpid()}).handle
	})
	r := waitFor(pid)
	endOrphans()
	if failure != nil {
		r = *failure
	}
	end(r)
}

// startStep starts the process that is to become the command, on a terminal if that is not -1,
// and with more descriptors after its socket.
func startStep(p *plan, terminal int, more ...int) (pid, socket int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	files := []uintptr{0, 1, 2, uintptr(pair[1])}
	if terminal >= 0 {
		files[0], files[1], files[2] = uintptr(terminal), uintptr(terminal), uintptr(terminal)
		defer unix.Close(terminal)
	}
	for _, fd := range more {
		files = append(files, uintptr(fd))
	}
	attr := &syscall.ProcAttr{
		Env:   []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=containermaxprocs=0", "GOTRACEBACK=none"},
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	if terminal >= 0 {
		attr.Sys.Setctty, attr.Sys.Ctty = true, 0
	}
	if p.renamed() {
		attr.Sys.Cloneflags = unix.CLONE_NEWUSER
		attr.Sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: int(p.UID), Size: 1}}
		attr.Sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: int(p.GID), Size: 1}}
		attr.Sys.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP} // until it has its filter
	}
	pid, err = syscall.ForkExec("/proc/self/exe", []string{stepName}, attr)
	unix.Close(pair[1])
	if err != nil {
		return 0, 0, err
	}
	_, err = fdWriter(pair[0]).Write(marshal(p))
	return pid, pair[0], err
}

// followStep has what the step asks answered, and gives what the process reports if it
// does not become the command.
func followStep(socket int, p *plan, server func(listener int) func(*notification) answer) *report {
	defer unix.Close(socket)
	if p.Notify != "" {
		listener, err := receiveListener(socket)
		if err == nil && listener >= 0 {
			go supervise(listener, server(listener))
		}
	}
	var r report
	if readMessage(fdReader(socket), &r) != nil {
		return nil // it is the command now
	}
	return &r
}

// endOrphans ends all processes that the command has left, which have come to us.
func endOrphans() {
	for {
		children := ownChildren()
		for _, pid := range children {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		_, err := unix.Wait4(-1, nil, 0, nil)
		if err == unix.ECHILD {
			return
		}
	}
}

// ownChildren lists the children of all threads of this process.
func ownChildren() []int {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	var pids []int
	for _, l := range lists {
		data, err := os.ReadFile(l)
		if err != nil {
			continue
		}
		for f := range strings.FieldsSeq(string(data)) {
			if n, err := strconv.Atoi(f); err == nil {
				pids = append(pids, n)
			}
		}
	}
	if len(lists) == 0 { // a kernel without these lists
		pids = childrenByStatus()
	}
	return pids
}

func childrenByStatus() []int {
	names, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, name := range names {
		n, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		if _, parent, ok := process(uint32(n)); ok && parent == os.Getpid() {
			pids = append(pids, n)
		}
	}
	return pids
}

// stepInit goes into the step's tree, takes on what it is to be, and becomes the command. It
// never returns.
func stepInit() {
	runtime.LockOSThread()
	if err := unix.CloseRange(stepSocketFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		unix.Exit(1)
	}
	var p plan
	if err := readMessage(fdReader(stepSocketFD), &p); err != nil {
		unix.Exit(1)
	}
	r := becomeCommand(&p)
	if p.Notify != "" && !p.told {
		_ = p.announce(-1)
	}
	_, _ = fdWriter(stepSocketFD).Write(marshal(&r))
	unix.Exit(1)
}

// becomeCommand returns only if it fails.
func becomeCommand(p *plan) report {
	setup := func(err error) report { return report{Kind: reportSetup, Text: err.Error()} }
	if p.Chroot {
		if err := enterTree(p); err != nil {
			return setup(err)
		}
	}
	if err := takeIdentity(p); err != nil {
		return setup(err)
	}
	if p.listener > 0 {
		if err := p.announce(p.listener); err != nil {
			return setup(err)
		}
	}
	file, err := lookPath(p.Args[0], p.Environ)
	if err == nil && !p.Chroot {
		err = refuseOurselves(file)
	}
	if err != nil {
		return report{Kind: reportNotStarted, Start: *notFound(p.Args[0], err)}
	}
	err = syscall.Exec(file, p.Args, p.Environ)
	return report{Kind: reportNotStarted, Start: *notExecuted(p.Args[0], file, err)}
}

// enterTree makes the tree the root of this process, and has it keep to it.
func enterTree(p *plan) error {
	tree := os.NewFile(stepRootFD, "tree")
	if err := unix.Fchdir(stepRootFD); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return &os.PathError{Op: "chroot", Path: "tree", Err: err}
	}
	if err := unix.Chdir(p.Cwd); err != nil {
		return &os.PathError{Op: "enter working directory", Path: p.Cwd, Err: err}
	}
	unix.Umask(int(p.Umask))
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := confine(tree); err != nil {
		return err
	}
	if err := installFilter(p.Guard); err != nil {
		return err
	}
	if p.Notify == "" {
		return nil
	}
	listener, err := installNotify(p.Notify)
	if err != nil {
		return p.announce(-1)
	}
	return p.announce(listener)
}

// announce tells the init process of the listener, or that there is none.
func (p *plan) announce(listener int) error {
	p.told = true
	if listener < 0 {
		_, err := unix.Write(stepSocketFD, []byte{0})
		return err
	}
	return sendListener(stepSocketFD, listener)
}
