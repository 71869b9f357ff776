package executor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// StartError says why a command could not be started.
type StartError struct {
	Command string // as the process names it
	Reason  StartReason
	// Program is the file that was found, or "". Interpreter is what its first line
	// or its ELF header names; Arch is the architecture that an ELF program is for.
	Program, Interpreter, Arch string
	Text                       string // what the kernel said
}

// StartReason is what is wrong with a command that could not be started.
type StartReason uint64

// The reasons of a StartError.
const (
	StartRefused       StartReason = iota // anything that has no reason of its own: no permission, a directory
	StartNoCommand                        // there is no such program
	StartNoInterpreter                    // the program is there, what it needs to run is not
	StartWrongFormat                      // the kernel cannot run the file: made for another machine, or no program
)

// Error names the command and what is in its way.
func (e *StartError) Error() string {
	switch e.Reason {
	case StartNoInterpreter:
		return fmt.Sprintf("exec %q: interpreter %q: %s", e.Command, e.Interpreter, e.Text)
	case StartWrongFormat:
		if e.Arch != "" {
			return fmt.Sprintf("exec %q: %s (it is made for %s)", e.Command, e.Text, e.Arch)
		}
		return fmt.Sprintf("exec %q: %s (no #! line)", e.Command, e.Text)
	}
	return fmt.Sprintf("exec %q: %s", e.Command, e.Text)
}

// code is a shell's exit code for it: 127 when something is not there, else 126.
func (e *StartError) code() uint64 {
	if e.Reason == StartNoCommand || e.Reason == StartNoInterpreter {
		return 127
	}
	return 126
}

// notFound explains why lookPath gave no program.
func notFound(command string, err error) *StartError {
	e := &StartError{Command: command, Text: bareCause(err)}
	if err == errNotFound || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		e.Reason = StartNoCommand
	}
	return e
}

// bareCause leaves out an operation and a path that the command tells already.
func bareCause(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// notExecuted explains why execve refused a program. When the file is there and
// yet "no such file", it is its interpreter that is missing.
func notExecuted(command, file string, err error) *StartError {
	e := &StartError{Command: command, Program: file, Text: err.Error()}
	switch err {
	case unix.ENOENT:
		e.Reason = StartNoInterpreter
		e.Interpreter, _ = inspect(file)
		e.follow(func() bool { return unix.Access(e.Interpreter, unix.F_OK) == nil })
		if e.Interpreter == "" {
			e.Reason = StartNoCommand
		}
	case unix.ENOEXEC:
		e.Reason = StartWrongFormat
		e.Interpreter, e.Arch = inspect(file)
		e.follow(func() bool { return e.Arch == "" })
	}
	return e
}

// follow goes from a script to its interpreter, which may need one itself, as long
// as that is not what the kernel has refused.
func (e *StartError) follow(innocent func() bool) {
	for range 4 { // the kernel follows no more
		if e.Interpreter == "" || !innocent() {
			return
		}
		e.Program = e.Interpreter
		e.Interpreter, e.Arch = inspect(e.Program)
	}
}

// inspect returns what the first line of a script, or the PT_INTERP of an ELF
// program, names, and the architecture of the latter. It is only for messages.
func inspect(file string) (interpreter, arch string) {
	f, err := os.Open(path.Clean(file))
	if err != nil {
		return "", ""
	}
	defer f.Close()
	head := make([]byte, 4096)
	n, _ := f.Read(head)
	line, ok := bytes.CutPrefix(head[:n], []byte("#!"))
	if !ok {
		return inspectELF(f)
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	interpreter = strings.TrimLeft(string(line), " \t")
	if end := strings.IndexAny(interpreter, " \t"); end >= 0 { // a carriage return is part of the name
		interpreter = interpreter[:end]
	}
	return interpreter, ""
}
