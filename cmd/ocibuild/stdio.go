package main

import (
	"io"
	"os"

	"golang.org/x/term"
)

// stdio is what a verb may read, write and ask of its surroundings.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	// inTTY, outTTY and errTTY say which of the three is a terminal.
	inTTY, outTTY, errTTY bool
	// size gives the columns and rows of the terminal behind err; 0, 0 if unknown.
	size func() (columns, rows int)
	// secret reads a line from the terminal behind in without echo.
	secret func() (string, error)
	// env looks an environment variable up.
	env func(name string) (string, bool)
	// uid is the effective user.
	uid int
}

// systemIO is the process's own surroundings.
func systemIO() *stdio {
	return &stdio{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		inTTY: isTerminal(os.Stdin), outTTY: isTerminal(os.Stdout), errTTY: isTerminal(os.Stderr),
		size: func() (int, int) {
			w, h, err := term.GetSize(int(os.Stderr.Fd()))
			if err != nil {
				return 0, 0
			}
			return w, h
		},
		secret: func() (string, error) {
			b, err := term.ReadPassword(int(os.Stdin.Fd()))
			return string(b), err
		},
		env: os.LookupEnv,
		uid: os.Geteuid(),
	}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// getenv is env for callers to whom unset and empty are the same.
func (s *stdio) getenv(name string) string {
	v, _ := s.env(name)
	return v
}
