package executor

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Terminal describes the terminal that a process is to have.
type Terminal struct {
	// Size gives its columns and rows. It is asked at the beginning and after each
	// value of Resized, which may be nil.
	Size    func() (columns, rows int)
	Resized <-chan os.Signal
}

// terminal is the side of a step's terminal that is ours. The init process opens it
// in the step's own /dev/pts and sends it by a socket. A nil one is none.
type terminal struct {
	Terminal
	in           io.Reader
	out          io.Writer
	ours, theirs *os.File
	done         chan struct{}
	stop         chan struct{}
}

// terminal prepares the terminal of a plan, if it is to have one.
func (j job) terminal(p *plan) (*terminal, error) {
	if j.io.Terminal == nil {
		return nil, nil
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("make terminal socket: %w", err)
	}
	p.Terminal = uint64(firstTreeFD + len(p.trees))
	return &terminal{
		Terminal: *j.io.Terminal, in: j.io.Stdin, out: j.io.Stdout, ours: ours, theirs: theirs,
		done: make(chan struct{}), stop: make(chan struct{}),
	}, nil
}

// files are the descriptors for the init process.
func (t *terminal) files() []*os.File {
	if t == nil {
		return nil
	}
	return []*os.File{t.theirs}
}

// begin copies to and from the terminal as soon as it comes.
func (t *terminal) begin() {
	if t == nil {
		return
	}
	t.theirs.Close()
	go func() {
		defer close(t.done)
		pty, err := receiveFile(t.ours)
		if err != nil {
			return // the init process reports why there is none
		}
		defer pty.Close()
		t.resize(pty)
		go t.follow(pty)
		if t.in != nil {
			go func() { _, _ = io.Copy(pty, t.in) }()
		}
		out := t.out
		if out == nil {
			out = io.Discard
		}
		_, _ = io.Copy(out, pty) // ends with EIO when nobody has the other side any more
		close(t.stop)
	}()
}

// follow keeps the size of the terminal up to date.
func (t *terminal) follow(pty *os.File) {
	for {
		select {
		case <-t.stop:
			return
		case <-t.Resized:
			t.resize(pty)
		}
	}
}

func (t *terminal) resize(pty *os.File) {
	if t.Size == nil {
		return
	}
	columns, rows := t.Size()
	raw, err := pty.SyscallConn()
	if err != nil || columns <= 0 || rows <= 0 {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(columns), Row: uint16(rows)})
	})
}

// wait waits until all that the process has shown is copied. The process has ended.
func (t *terminal) wait() {
	if t != nil {
		<-t.done
	}
}

func (t *terminal) close() {
	if t != nil {
		t.ours.Close()
		t.theirs.Close()
	}
}

// receiveFile gives the descriptor that comes by a socket.
func receiveFile(socket *os.File) (*os.File, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	oob := make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	var recvErr error
	err = raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, recvErr = unix.Recvmsg(int(fd), make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
		return recvErr != unix.EAGAIN && recvErr != unix.EINTR
	})
	if err = errors.Join(err, recvErr); err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, errors.Join(err, errMalformed)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(err, errMalformed)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}

// ownPtmx is where terminals of a step's own /dev/pts come from.
const ownPtmx = "/dev/pts/ptmx"

// openOwnTerminal opens a new terminal, sends our parent its side of it and gives the other;
// -1 if the plan asks for none.
func openOwnTerminal(p *plan, ptmx string) (int, error) {
	if p.Terminal == 0 {
		return -1, nil
	}
	fail := func(err error) (int, error) { return -1, fmt.Errorf("open terminal: %w", err) }
	master, err := unix.Open(ptmx, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(master)
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return fail(err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return fail(errno)
	}
	slave := int(fd)
	if uid, _ := p.owner(); uid != 0 {
		if err := unix.Fchown(slave, uid, -1); err != nil {
			return fail(explainID(err))
		}
	}
	if err := unix.Sendmsg(int(p.Terminal), []byte{0}, unix.UnixRights(master), nil, 0); err != nil {
		return fail(err)
	}
	return slave, nil
}
