package build

import (
	"errors"
	"fmt"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/parser"
)

// StepError is the failure of one step: where it stands in the Dockerfile,
// what it was, and the last of what it printed.
type StepError struct {
	Step *Step
	File string
	// Range is the instruction's place; for a trigger that of the FROM line.
	Range parser.Range
	// Tail holds the last lines of the step's output.
	Tail []string
	Err  error
}

// Error names the step and the cause: "Dockerfile:3: RUN make: exit code 2".
func (e *StepError) Error() string {
	if e.Range.Start == 0 {
		return fmt.Sprintf("%s: %v", e.Step.Name(), e.Err)
	}
	return fmt.Sprintf("%s:%d: %s: %v", e.File, e.Range.Start, e.Step.instructionName(), e.Err)
}

// Unwrap gives the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Exit gives the exit error of the step's command, if the command ran and failed.
func (e *StepError) Exit() (*executor.ExitError, bool) {
	var exit *executor.ExitError
	ok := errors.As(e.Err, &exit)
	return exit, ok
}

// Hinted is an error with a next step for the user.
type Hinted struct {
	Err  error
	Hint string
}

// Error gives the cause; the hint is shown on a line of its own.
func (e *Hinted) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Hinted) Unwrap() error { return e.Err }
