package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/build/remote"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/ocibuild/ocibuild/registry"
	"golang.org/x/sys/unix"
)

// The exit codes.
const (
	exitOK         = 0
	exitOther      = 1
	exitUsage      = 2
	exitDockerfile = 3
	exitStep       = 4
	exitRegistry   = 5
	exitStore      = 6
	exitSignal     = 128 // plus the signal's number
)

// writeExitCodes prints the table of exit codes.
func writeExitCodes(w io.Writer) error {
	_, err := io.WriteString(w, `Exit codes:
  0    done
  1    anything that has no code of its own; a check that found something
  2    the command line is wrong: an unknown verb or flag, a bad value or name
  3    the Dockerfile or the build context is wrong
  4    a step of the build failed: its command, or what was to be done for it
  5    a registry or another server, or the way to it, refused or failed
  6    the store: no such image, a name for several images, damage, no space
  129  ended by a hangup (SIGHUP)
  130  ended by ctrl-C (SIGINT)
  143  ended by SIGTERM

With --json or --progress=json the output changes, the exit codes do not.
`)
	return err
}

// interrupted is the cause of a context that a signal has ended.
type interrupted struct{ signal unix.Signal }

// Error names the signal, as in "interrupted by SIGTERM".
func (e *interrupted) Error() string { return "interrupted by " + unix.SignalName(e.signal) }

// contextError is a build context or Dockerfile that cannot be used.
type contextError struct {
	msg, hint string
	err       error
}

// Error is the message, with the cause in plain words where there is one.
func (e *contextError) Error() string {
	if e.err != nil {
		return e.msg + ": " + plainCause(e.err)
	}
	return e.msg
}

// Unwrap gives the cause, or nil.
func (e *contextError) Unwrap() error { return e.err }

// plainCause drops the operation and the path that a file system error
// repeats.
func plainCause(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// storeError is an image or a name that the store cannot give.
type storeError struct {
	msg, hint string
	err       error
}

// Error is the message alone, which says of the cause what is worth saying.
func (e *storeError) Error() string { return e.msg }

// Unwrap gives the cause, or nil.
func (e *storeError) Unwrap() error { return e.err }

// exitError asks for an exit code after everything has been said.
type exitError struct{ code int }

// Error is never printed: whoever asks for the code has said everything.
func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// exitCode gives the exit code for an error.
func exitCode(err error) int {
	var (
		stop  *interrupted
		exit  *exitError
		usage *usageError
		store *storeError
		state *image.StoreError
		ill   *image.DamagedError
		bad   *image.VerifyError
		place *contextError
		file  *parser.Error
		step  *build.StepError
		input *build.Hinted // at a step: what the user wrote is wrong
		reg   *registry.Error
		far   *remote.Error
		other *remote.MismatchError
		leak  *build.LeakError
		start *startError
		none  *build.NoStepError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &start):
		return start.code
	case errors.As(err, &stop):
		return exitSignal + int(stop.signal)
	case errors.As(err, &usage), errors.As(err, &none):
		return exitUsage
	case errors.As(err, &reg), errors.As(err, &far):
		return exitRegistry
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT),
		errors.As(err, &store), errors.As(err, &state), errors.As(err, &ill), errors.As(err, &bad) && bad.Stored,
		errors.Is(err, image.ErrNotFound), errors.Is(err, image.ErrAmbiguous):
		return exitStore
	case errors.As(err, &step) && ranCommand(step):
		return exitStep
	case errors.As(err, &file), errors.As(err, &place), errors.As(err, &other), errors.As(err, &leak), step != nil && errors.As(err, &input):
		return exitDockerfile
	case step != nil:
		return exitStep
	}
	return exitOther
}

func ranCommand(step *build.StepError) bool {
	_, ok := step.Exit()
	return ok
}

// report prints an error with its hint and gives the exit code. It is the one
// place where errors are printed.
func report(s *stdio, err error) int {
	code := exitCode(err)
	var quiet *exitError
	var stop *interrupted
	switch {
	case err == nil, errors.As(err, &quiet):
		return code
	case errors.As(err, &stop):
		fmt.Fprintf(s.err, "ocibuild: %v; nothing unfinished was kept but parts of downloads\n", stop)
		return code
	}
	fmt.Fprintf(s.err, "ocibuild: %s\n", message(err))
	if h := hint(err); h != "" {
		fmt.Fprintf(s.err, "hint: %s\n", h)
	}
	return code
}

// message words an error in one paragraph without control characters.
func message(err error) string {
	if errors.Is(err, context.Canceled) {
		return "stopped"
	}
	return strings.TrimRight(sanitizeText(err.Error()), "\n")
}

// hint finds the next step for the user in an error.
func hint(err error) string {
	var (
		usage  *usageError
		store  *storeError
		state  *image.StoreError
		place  *contextError
		hinted *build.Hinted
		step   *build.StepError
		away   *image.AwayError
		start  *startError
	)
	if far, ok := remoteHint(err); ok {
		return far
	}
	switch {
	case errors.As(err, &usage):
		return usage.hint
	case errors.As(err, &hinted):
		return hinted.Hint
	case errors.As(err, &start):
		return start.hint
	case errors.As(err, &away):
		return "only its registry has the layer: make sure that it can be reached (`ocibuild login`, --insecure), or `ocibuild pull` the image while it can"
	case errors.As(err, &step) && stepHint(step) != "":
		return stepHint(step)
	case errors.As(err, &place) && place.hint != "":
		return place.hint
	case errors.As(err, &store) && store.hint != "":
		return store.hint
	case errors.As(err, &state):
		return "" // it is part of the message
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "`ocibuild prune --all` drops unused images and the build cache"
	case errors.Is(err, image.ErrNotFound):
		return "`ocibuild images` lists what is there, `ocibuild pull` fetches more"
	case errors.Is(err, fs.ErrPermission):
		return "is this store another user's? --root or $OCIBUILD_ROOT choose another"
	}
	return ""
}
