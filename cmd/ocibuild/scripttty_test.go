package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// cmdTyped runs a program on a terminal of its own and types at it, as a script says:
// typed CODE FILE PROGRAM ARGUMENT... In FILE, a line is one of
//
//	want TEXT          wait until it is on the screen, after what was waited for before
//	type TEXT          type it, and enter
//	key LETTER         press ctrl and the letter
//	size COLUMNS ROWS  resize the terminal
func cmdTyped(ts *testscript.TestScript, neg bool, args []string) {
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	master, slave, err := newPTY()
	ts.Check(err)
	defer master.Close()
	c := scriptProcess(ts, args[2], args[3:]...)
	c.Env = append(c.Env, "TERM=dumb")
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(c.Start())
	slave.Close()
	shown := &typescript{changed: make(chan struct{}, 1)}
	go func() { _, _ = io.Copy(shown, master) }()
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		if err := typeLine(master, shown, strings.TrimRight(line, "\n")); err != nil {
			_ = c.Process.Kill()
			ts.Fatalf("%v; on the screen is:\n%s", err, shown.text())
		}
	}
	select {
	case err = <-ended:
	case <-time.After(screenPatience):
		_ = c.Process.Kill()
		ts.Fatalf("it does not end; on the screen is:\n%s", shown.text())
	}
	ts.Logf("%s", shown.text())
	fmt.Fprint(ts.Stdout(), shown.text())
	if got := codeOf(err); got != code {
		ts.Fatalf("exit code %d, want %d", got, code)
	}
}

// screenPatience is how long a program may take to show what it is to show.
const screenPatience = time.Minute

func typeLine(master *os.File, s *typescript, line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "want":
		return s.wait(rest)
	case "type":
		_, err := io.WriteString(master, rest+"\r")
		return err
	case "key":
		_, err := master.Write([]byte{rest[0] & 0x1f})
		return err
	case "size":
		var columns, rows uint16
		if _, err := fmt.Sscan(rest, &columns, &rows); err != nil {
			return err
		}
		return unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows})
	case "":
		return nil
	}
	return fmt.Errorf("unknown line %q", line)
}

// typescript is all that a program has shown.
type typescript struct {
	mu      sync.Mutex
	shown   strings.Builder
	seen    int // up to where has been waited for
	changed chan struct{}
}

func (s *typescript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown.Write(p)
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *typescript) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}

func (s *typescript) wait(text string) error {
	late := time.After(screenPatience)
	for {
		now := s.text()
		if i := strings.Index(now[s.seen:], text); i >= 0 {
			s.seen += i + len(text)
			return nil
		}
		select {
		case <-s.changed:
		case <-late:
			return fmt.Errorf("%q does not come", text)
		}
	}
}

// newPTY makes a terminal of 80 columns and 24 rows.
func newPTY() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: 80, Row: 24})
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}
