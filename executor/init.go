package executor

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// initName is the argv[0] that makes this binary a container's init.
	initName = "ocibuild-init"

	// The descriptor that the init process is started with.
	controlFD = 3 // socket: the plan comes in, the report goes out, its end is the parent's

	// rootFD is the first of the descriptors that come with the plan: the detached mount of the
	// root filesystem. The Go runtime has none as high.
	rootFD = 100
)

// Init carries out the special parts that this binary plays when it starts
// itself again: the first process of a step's container, and the way into a user
// namespace. In these it does not return. It must be called first in main and in
// TestMain, before flags are looked at; anywhere else it returns at once.
func Init() {
	if len(os.Args) == 0 {
		return
	}
	switch os.Args[0] {
	case initName:
		containerInit()
	case usernsName:
		usernsInit()
	case stepName:
		stepInit()
	case probeName:
		probeInit()
	}
}

// containerInit is PID 1 of a step. It never returns: its end ends the step.
func containerInit() {
	if err := unix.CloseRange(controlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintf(os.Stderr, "%s: close descriptors: %v\n", initName, err)
		unix.Exit(1)
	}
	nameProcess()
	p, err := readPlan()
	if err != nil {
		unix.Exit(1) // the parent is gone, or this is no child of ours: nobody to tell
	}
	if p.Chroot {
		chrootInit(p)
	}
	if len(p.Runtime) > 0 {
		end(runExternal(p))
	}
	runtime.LockOSThread() // a cgroup namespace is a thread's
	if err := setUp(p); err != nil {
		end(report{Kind: reportSetup, Text: err.Error()})
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	pid, failure := p.start()
	if failure != nil {
		end(*failure)
	}
	go endWithParent(fdReader(controlFD))
	go forward(signals, pid)
	end(waitFor(pid))
}

// start starts the command of a step, and who answers what it asks.
func (p *plan) start() (pid int, failure *report) {
	if p.renamed() {
		return startRenamed(p)
	}
	pid, failure = startCommand(p)
	if failure == nil && p.Notify != "" {
		go supervise(p.listener, p.singleServer(p.listener))
	}
	return pid, failure
}

// startRenamed starts the command in a user namespace of its own: that takes a program with one
// thread, which becomes it.
func startRenamed(p *plan) (pid int, failure *report) {
	terminal, err := openOwnTerminal(p, ownPtmx)
	if err != nil {
		return 0, &report{Kind: reportSetup, Text: err.Error()}
	}
	pid, socket, err := startStep(p, terminal)
	if err != nil {
		return 0, &report{Kind: reportSetup, Text: "start command in a user namespace: " + err.Error()}
	}
	return pid, followStep(socket, p, p.singleServer)
}

// nameProcess is for those who look with ps; prctl would name a thread alone, and
// os.WriteFile would start the runtime's poller.
func nameProcess() {
	fd, err := unix.Open("/proc/self/comm", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	_, _ = unix.Write(fd, []byte(initName))
	unix.Close(fd)
}

// end sends the report and exits. The kernel then kills what is left in the pid
// namespace, and our parent's wait returns only when all of it is gone.
func end(r report) {
	msg := marshal(&r)
	for len(msg) > 0 {
		n, err := unix.Write(controlFD, msg)
		if err != nil && err != unix.EINTR {
			unix.Exit(1)
		}
		msg = msg[max(n, 0):]
	}
	unix.Exit(0)
}

// endWithParent waits for the end of the control socket, which comes when the
// parent has ended, however it ended.
func endWithParent(control io.Reader) {
	_, _ = io.Copy(io.Discard, control)
	unix.Exit(1)
}

// fdReader reads a descriptor with plain blocking calls.
type fdReader int

// Read implements io.Reader.
func (fd fdReader) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func forward(signals <-chan os.Signal, pid int) {
	for s := range signals {
		_ = unix.Kill(pid, s.(syscall.Signal)) // it may have ended just now
	}
}

// waitFor reaps every child, orphans of the step included, until the command
// has ended.
func waitFor(pid int) report {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR || err == nil && got != pid:
		case err != nil:
			return report{Kind: reportSetup, Text: fmt.Sprintf("wait for command: %v", err)}
		case ws.Signaled():
			return report{Kind: reportSignal, Code: uint64(ws.Signal())}
		default:
			return report{Kind: reportExit, Code: uint64(ws.ExitStatus())}
		}
	}
}
