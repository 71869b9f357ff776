package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/parser"
	"golang.org/x/sys/unix"
)

// fail shows where a build went wrong, and gives the error to report. With
// --progress=json everything is in one last event.
func (c *buildCommand) fail(s *session, src *source, show display, err error) error {
	if c.progress == "json" {
		d, ok := show.(*jsonDisplay)
		if !ok {
			d = newJSONDisplay(s.err)
		}
		d.fail(err)
		return &exitError{exitCode(err)}
	}
	var stop *interrupted
	var step *build.StepError
	var file *parser.Error
	switch {
	case errors.As(err, &stop):
	case errors.As(err, &step):
		writeStep(s.err, step)
		writeExcerpt(s.err, step.File, src.text, step.Range)
	case errors.As(err, &file) && file.File == src.name:
		writeExcerpt(s.err, file.File, src.text, file.Range)
	case file != nil && file.File == src.ignoreName:
		writeExcerpt(s.err, file.File, src.ignoreText, file.Range)
	}
	return err
}

// failEarly is fail for a build that does not begin. What the rules have found
// until then is told, for it is often the cause.
func (c *buildCommand) failEarly(s *session, src *source, found []parser.Warning, err error) error {
	var warned notes
	to := func(build.Event) {}
	if c.progress == "json" {
		to = newJSONDisplay(s.err).event
	}
	for _, w := range found {
		warned.tee(to)(build.Event{Kind: build.Warned, Time: time.Now(), Text: w.Msg, Rule: w.Rule, Range: w.Range})
	}
	if c.progress != "quiet" && c.progress != "json" {
		warned.write(s.err, src)
	}
	return c.fail(s, src, nil, err)
}

// writeStep prints the end of a failed step's output.
func writeStep(w io.Writer, step *build.StepError) {
	if len(step.Tail) == 0 {
		return
	}
	fmt.Fprintf(w, "------\n > %s:\n", sanitizeLine(step.Step.Name()))
	for _, line := range step.Tail {
		fmt.Fprintln(w, sanitizeLine(line))
	}
	fmt.Fprintln(w, "------")
}

// writeExcerpt prints the lines of the Dockerfile around a mistake or a warning.
func writeExcerpt(w io.Writer, name string, text []byte, r parser.Range) {
	lines := parser.Excerpt(text, r)
	if lines == "" {
		return
	}
	rule := strings.Repeat("-", 20)
	fmt.Fprintf(w, "%s:%d\n%s\n%s%s\n", name, r.Start, rule, sanitizeText(lines), rule)
}

// stepHint is the next step after a command of a step has failed.
func stepHint(step *build.StepError) string {
	exit, ok := step.Exit()
	var late *build.TimeoutError
	switch {
	case errors.As(step, &late):
		return "--timeout is how long a step may take; what it printed is above"
	case !ok:
		return ""
	case exit.OutOfMemory:
		return "give steps more --memory, or let the command use less: fewer jobs at once, for example"
	case exit.Signal == unix.SIGKILL:
		return "something killed the command: most often the kernel, because memory ran out (dmesg tells)"
	case exit.Signal != 0:
		return "the command crashed: its last output is above"
	case exit.Code == 127:
		return "a command was not found: install it in an earlier step of this stage, or check its spelling and $PATH"
	case exit.Code == 126:
		return "a file cannot be executed: check its mode (COPY --chmod=755), its #! line and its architecture"
	}
	return "the command's last output is above, and `ocibuild shell @failed` opens a shell in what it left; the steps before it are cached, so the next build begins here"
}
