package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocibuild/ocibuild/executor"
	"golang.org/x/sys/unix"
)

// containerError passes the exit code of a command on, which has said itself what is
// wrong; what kept it from starting is told.
func containerError(err error) error {
	var exit *executor.ExitError
	switch {
	case errors.Is(err, context.Canceled):
		return &exitError{exitSignal + int(unix.SIGKILL)}
	case !errors.As(err, &exit):
		return err
	case exit.Err != nil:
		return &startError{code: exit.Code, err: exit.Err, hint: startHint(exit.Err)}
	case exit.OutOfMemory:
		return &startError{code: exit.Code, err: exit, hint: "give it more --memory"}
	}
	return &exitError{exit.Code}
}

// startError is a command that could not be run to its end, with the exit code for it.
type startError struct {
	code int
	err  error
	hint string
}

// Error is what kept the command from running, without the hint.
func (e *startError) Error() string { return e.err.Error() }

// Unwrap gives what kept the command from running.
func (e *startError) Unwrap() error { return e.err }

// startHint says what to do about a command that could not be started.
func startHint(err error) string {
	var e *executor.StartError
	switch {
	case !errors.As(err, &e):
		return ""
	case e.Reason == executor.StartNoCommand:
		return "the image has no " + e.Command + ": `ocibuild ls -R IMAGE` lists its files"
	case e.Reason == executor.StartNoInterpreter:
		return fmt.Sprintf("%s needs %q, which the image does not have", e.Program, e.Interpreter)
	case e.Reason == executor.StartWrongFormat && e.Arch != "":
		return "register an emulator for " + e.Arch + ": `apt-get install qemu-user-static binfmt-support`"
	}
	return ""
}
