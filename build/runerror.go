package build

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
)

// explain adds a next step to the error of a command that could not be run.
func (o *runOp) explain(err error) error {
	var unknown *executor.UserError
	var start *executor.StartError
	switch {
	case errors.As(err, &unknown):
		return &Hinted{fmt.Errorf("USER %s: %w", unknown.User, unknown.Err), "create the user in a RUN step first, or give a numeric id"}
	case errors.Is(err, executor.ErrNoConnector):
		return &Hinted{err, "install one of them, or use --network=none or the machine's own network"}
	case !errors.As(err, &start):
		return err
	case start.Reason == executor.StartWrongFormat && start.Arch != "" && !native(image.HostPlatform().Architecture, start.Arch):
		return &Hinted{err, emulatorHint(start.Arch)}
	}
	if hint := o.startHint(start); hint != "" {
		return &Hinted{err, hint}
	}
	return err
}

// startHint is what to do about a command that could not be started.
func (o *runOp) startHint(e *executor.StartError) string {
	instr := o.step.Instr.(*parser.Run)
	shell := instr.Shell && o.p.scriptName == ""
	switch {
	case e.Reason == executor.StartNoCommand && shell:
		return fmt.Sprintf("the image has no %s; use the exec form: RUN [\"program\", \"argument\"]", e.Command)
	case e.Reason == executor.StartNoCommand && strings.ContainsAny(e.Command, " \t"):
		return `in the exec form each word is an element of its own: RUN ["program", "argument"]`
	case e.Reason == executor.StartNoCommand:
		return fmt.Sprintf("the image has no %s: install it in an earlier step of this stage, or check its spelling and $PATH", e.Command)
	case e.Reason == executor.StartNoInterpreter && strings.HasSuffix(e.Interpreter, "\r"):
		return fmt.Sprintf("%s has Windows line ends: change them, for example with dos2unix", e.Program)
	case e.Reason == executor.StartNoInterpreter:
		return fmt.Sprintf("%s needs %s, which the image does not have: install it, or use a program that is made for this image", e.Program, e.Interpreter)
	case e.Reason == executor.StartWrongFormat && e.Arch == "":
		return fmt.Sprintf("%s is no program: a script begins with #! and its interpreter", e.Program)
	}
	return ""
}
