package main

import (
	"errors"
	"io"
	"os"
	"os/signal"

	"github.com/ocibuild/ocibuild/executor"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// withTerminal lends the terminal behind standard input to a process: do gets the
// input and the description of its terminal, and the terminal is as it was afterwards.
func withTerminal(out io.Writer, do func(executor.IO) error) error {
	fd := int(os.Stdin.Fd())
	was, err := term.MakeRaw(fd)
	if err != nil {
		return err
	}
	defer term.Restore(fd, was) //nolint:errcheck // nobody is left to be told
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	in, err := newKeyboard(fd)
	if err != nil {
		return err
	}
	defer in.close()
	size := func() (int, int) {
		columns, rows, err := term.GetSize(fd)
		if err != nil {
			return 0, 0
		}
		return columns, rows
	}
	return do(executor.IO{Stdin: in, Stdout: out, Terminal: &executor.Terminal{Size: size, Resized: resized}})
}

// keyboard reads a terminal until it is closed: a read that waits then ends, and takes
// nothing that is typed for somebody else.
type keyboard struct {
	fd          int
	stop, stop2 int
}

func newKeyboard(fd int) (*keyboard, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	return &keyboard{fd, p[0], p[1]}, nil
}

// Read implements io.Reader.
func (k *keyboard) Read(b []byte) (int, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}, {Fd: int32(k.stop), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		switch {
		case fds[1].Revents != 0:
			return 0, io.EOF
		case fds[0].Revents == 0:
			continue
		}
		n, err := unix.Read(k.fd, b)
		if err == nil && n == 0 {
			err = io.EOF
		}
		return max(n, 0), err
	}
}

// close ends reads. The other end of the pipe stays open for the one that may be
// about to begin; both end with this process.
func (k *keyboard) close() { unix.Close(k.stop2) }

// terminalName is TERM for a process that gets a terminal.
func (s *stdio) terminalName() string {
	if name := s.getenv("TERM"); name != "" {
		return name
	}
	return "xterm"
}
