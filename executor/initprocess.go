package executor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// initProcess is a process of this program, the first one of new namespaces, that
// waits to be told what to run.
type initProcess struct {
	cmd     *exec.Cmd
	control *os.File
	flags   uint64  // CLONE_NEW* that it was made with
	group   *cgroup // what it is in; nil if that is ours
}

// startInit starts one.
func startInit(flags uint64) (*initProcess, error) {
	control, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	defer theirs.Close()
	self, err := protectedSelf()
	if err != nil {
		control.Close()
		return nil, fmt.Errorf("open own program: %w", err)
	}
	defer self.Close()
	// The program comes last, and is started by the number it has there: in the
	// child, before it starts, any other may have become something else.
	cmd := &exec.Cmd{
		Path: fmt.Sprintf("/proc/self/fd/%d", controlFD+1),
		Args: []string{initName},
		// One P, no collection in its short life, and no look at cgroup files for CPU
		// limits: it starts sooner.
		Env:         []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=containermaxprocs=0", "GOTRACEBACK=none"},
		ExtraFiles:  []*os.File{theirs, self}, // controlFD, and what is closed once it runs
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: uintptr(flags), Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		control.Close()
		return nil, fmt.Errorf("start container: %w", explainClone(err))
	}
	return &initProcess{cmd: cmd, control: control, flags: flags}, nil
}

// tell gives the process its plan and the files that come with it, which it then has as
// rootFD and the numbers after it.
func (i *initProcess) tell(p *plan, files []*os.File) error {
	fds := make([]int, len(files))
	for n, f := range files {
		fds[n] = int(f.Fd())
	}
	raw, err := i.control.SyscallConn()
	if err != nil {
		return err
	}
	message, sent := marshal(p), 0
	var sendErr error
	err = raw.Write(func(fd uintptr) bool {
		sent, sendErr = unix.SendmsgN(int(fd), message, unix.UnixRights(fds...), nil, 0)
		return sendErr != unix.EAGAIN && sendErr != unix.EINTR
	})
	if err = errors.Join(err, sendErr); err != nil {
		return err
	}
	if sent < len(message) { // if not, the process may have ended by now
		_, err = i.control.Write(message[sent:])
	}
	return err
}

// discard ends a process that is not wanted.
func (i *initProcess) discard() {
	i.control.Close()
	_ = i.cmd.Wait() // it ends by itself at the end of the socket
	i.group.remove()
}

// close clears up after a process that has ended.
func (i *initProcess) close() {
	i.control.Close()
	i.group.remove()
}

// count puts a process into a cgroup that counts memory, if there can be one. The kernel takes
// milliseconds for that.
func (i *initProcess) count(all cgroups) {
	group, err := all.make(nil)
	if err != nil {
		return
	}
	if err := group.add(i.cmd.Process.Pid); err != nil {
		group.remove()
		return
	}
	i.group = group
}

// readPlan is the init process's side of tell.
func readPlan() (*plan, error) {
	var head [1]byte
	rights := make([]byte, unix.CmsgSpace(4*maxRights))
	var n, rightsLen int
	for {
		var err error
		if n, rightsLen, _, _, err = unix.Recvmsg(controlFD, head[:], rights, unix.MSG_CMSG_CLOEXEC); err == nil {
			break
		} else if err != unix.EINTR {
			return nil, err
		}
	}
	messages, err := unix.ParseSocketControlMessage(rights[:rightsLen])
	if err != nil || n == 0 || len(messages) != 1 {
		return nil, errors.Join(err, errMalformed)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	p := new(plan)
	if err := readMessage(&prefixed{head[:], fdReader(controlFD)}, p); err != nil {
		return nil, err
	}
	return p, p.place(fds)
}

// maxRights is how many descriptors the kernel sends at once.
const maxRights = 253

// place gives descriptors the numbers that the plan knows them by, and to the last ones their
// places: this process's output and input become the command's.
func (p *plan) place(fds []int) error {
	for i, from := range fds {
		to, flags := rootFD+i, unix.O_CLOEXEC
		if stream := to - int(p.Streams); stream >= 0 {
			to, flags = [...]int{1, 2, 0}[stream], 0
		}
		if err := unix.Dup3(from, to, flags); err != nil {
			return err
		}
		unix.Close(from)
	}
	return nil
}

// prefixed gives some bytes before those of a reader.
type prefixed struct {
	first []byte
	then  fdReader
}

// Read implements io.Reader.
func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.first) == 0 {
		return p.then.Read(b)
	}
	n := copy(b, p.first)
	p.first = p.first[n:]
	return n, nil
}

// spares starts init processes before they are needed: such a process takes longer to
// start than most steps take to set up, and does so beside what comes before its step.
type spares struct {
	mu       sync.Mutex
	expected int // steps that are still to come
	next     func() (*initProcess, error)
	flags    uint64
	cgroups  func() (cgroups, error)
}

// expect says how many steps are about to be run. For the first of them a process is
// started at once, for the others when the one before them has begun.
func (s *spares) expect(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expected = n
	s.begin()
}

// begin starts a process unless there is one, or none is expected.
func (s *spares) begin() {
	if s.next != nil || s.expected <= 0 {
		return
	}
	s.next = sync.OnceValues(s.start)
	go s.next() //nolint:errcheck // whoever takes it hears of it
}

func (s *spares) start() (*initProcess, error) {
	i, err := startInit(s.flags)
	if err != nil {
		return nil, err
	}
	if all, err := s.cgroups(); err == nil {
		i.count(all)
	}
	return i, nil
}

// take gives a process in new namespaces, that was started before if possible.
func (s *spares) take(flags uint64) (*initProcess, error) {
	s.mu.Lock()
	s.expected--
	next := s.next
	if flags == s.flags {
		s.next = nil
	}
	s.mu.Unlock()
	if next == nil || flags != s.flags {
		return startInit(flags)
	}
	return next()
}

// more starts the process for the step after one that has begun.
func (s *spares) more() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin()
}

// close ends the process that waits.
func (s *spares) close() {
	s.mu.Lock()
	next := s.next
	s.next, s.expected = nil, 0
	s.mu.Unlock()
	if next == nil {
		return
	}
	if i, err := next(); err == nil {
		i.discard()
	}
}
