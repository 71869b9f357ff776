package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/spf13/pflag"
)

// failedName is what the last failed step is called.
const failedName = "@failed"

type shellCommand struct {
	inner containerCommand
	name  string
	shell string
}

func shellDescription() *command {
	return &command{
		name: "shell", args: "IMAGE|@failed", short: "open a shell in an image, or in the step that failed last",
		long: "Opens an interactive shell in an image, or in the files that the last failed step of a build has left: with its variables, " +
			"user and working directory, but without what it had mounted (`ocibuild build --on-failure=shell` has that too). What is " +
			"changed is dropped at the end. The files of a failed step are kept until the next step fails, or until a prune.",
		examples: []example{
			{"ocibuild shell app:v1", ""},
			{"ocibuild shell -u root --shell bash app:v1", "another user, another shell"},
			{"ocibuild shell @failed", "see what went wrong"},
		},
		enters: true, relays: true,
		make: func() verb { return &shellCommand{} },
	}
}

func (c *shellCommand) flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.shell, "shell", "", "run this `PROGRAM` (default: the one of SHELL, else /bin/sh)")
	fs.StringArrayVarP(&c.inner.envTexts, "env", "e", nil, "set a variable, `NAME=VALUE`, or NAME to take it from the environment (may be repeated)")
	fs.StringVarP(&c.inner.user, "user", "u", "", "run as `USER[:GROUP]`, names or numbers")
	fs.StringVarP(&c.inner.workdir, "workdir", "w", "", "begin in this `DIR`")
	fs.StringArrayVarP(&c.inner.volumeTexts, "volume", "v", nil, "show a file or directory of this machine, `SOURCE:TARGET[:ro|rw]` (may be repeated)")
	c.inner.platform.declare(fs, "open the image for this `OS/ARCH[/VARIANT]`")
}

func (c *shellCommand) accept(s *stdio, args []string) error {
	if len(args) > 1 && args[0] != failedName {
		return &usageError{msg: "shell takes no command", hint: fmt.Sprintf("`ocibuild run -it %s` runs one", strings.Join(args, " "))}
	}
	if err := count(args, 1, 1, "one IMAGE or "+failedName); err != nil {
		return err
	}
	c.name = args[0]
	if !s.inTTY {
		hint := fmt.Sprintf("`ocibuild run -i %s sh` reads commands from standard input", c.name)
		if c.name == failedName {
			hint = "`ocibuild logs` shows what the step printed"
		}
		return &usageError{msg: "a shell needs a terminal, and standard input is none", hint: hint}
	}
	var err error
	if c.inner.env, err = variables(c.inner.envTexts, nil, s.env); err != nil {
		return err
	}
	if err := c.inner.platform.check(); err != nil {
		return err
	}
	return c.inner.checkMounts()
}

func (c *shellCommand) run(ctx context.Context, s *session) error {
	c.inner.net.network, c.inner.pullText, c.inner.input, c.inner.terminal = "default", string(build.PullMissing), true, true
	if c.name == failedName {
		return c.openFailed(ctx, s)
	}
	c.inner.name, c.inner.entrypoint = c.name, c.shell
	c.inner.entrypointFlag = &pflag.Flag{Changed: true}
	if c.inner.entrypoint == "" {
		c.inner.entrypoint = "/bin/sh"
		if img, err := selectImage(ctx, s, c.name, c.inner.platform.want); err == nil && len(img.Config.Config.Shell) > 0 {
			c.inner.entrypoint = img.Config.Config.Shell[0]
		}
	}
	return c.inner.run(ctx, s)
}

// openFailed opens a shell in the step that failed last.
func (c *shellCommand) openFailed(ctx context.Context, s *session) error {
	b, err := s.builder(noDisplay{}, nil, 0)
	if err != nil {
		return err
	}
	if b.Executor == nil {
		return noRunError(s)
	}
	lease, err := b.Store.Lease(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	gone := &storeError{msg: "no failed step is kept", hint: "`ocibuild build` keeps the files of a step whose command fails, until another one fails or a prune"}
	f, ok := build.LastFailed(b.Cache)
	if !ok {
		return gone
	}
	sn, err := b.Snapshots.Prepare(ctx, f.Layers)
	if errors.Is(err, fs.ErrNotExist) {
		return gone
	}
	if err != nil {
		return err
	}
	defer sn.Discard() //nolint:errcheck // what stays behind, the next prune removes
	c.settleFailed(s, &f)
	return containerError(c.inner.start(ctx, s, func(ctx context.Context, io executor.IO) error {
		return b.Executor.Run(ctx, sn, c.inner.proc, io)
	}))
}

func (c *shellCommand) settleFailed(s *session, f *build.FailedStep) {
	fmt.Fprintf(s.err, "%s failed: %s\n", sanitizeLine(f.Name), sanitizeLine(f.Error))
	if len(f.Mounts) > 0 {
		fmt.Fprintf(s.err, "its mounts are not here: %s\n", sanitizeLine(strings.Join(f.Mounts, " ")))
	}
	p := &c.inner.proc
	p.Args, p.Cwd, p.User, p.Mounts = []string{f.Shell}, f.Cwd, &f.User, c.inner.mounts
	p.Env = build.Environment(f.Env, []string{"TERM=" + s.terminalName()}, c.inner.env)
	if c.shell != "" {
		p.Args = []string{c.shell}
	}
	if c.inner.workdir != "" {
		p.Cwd = c.inner.workdir
	}
	if c.inner.user != "" {
		p.User = &c.inner.user
	}
}

// checkStops looks at the flags that open shells in a build.
func (c *buildCommand) checkStops(s *stdio) error {
	if c.onFailure == "stop" && len(c.beforeTexts)+len(c.afterTexts) == 0 {
		return nil
	}
	flag := "--on-failure=shell"
	switch {
	case len(c.beforeTexts) > 0:
		flag = "--break-before"
	case len(c.afterTexts) > 0:
		flag = "--break-after"
	}
	switch {
	case c.place.stdin || c.file == "-":
		return &usageError{msg: flag + " reads the keyboard, and standard input is read as part of the build", hint: "name files of this machine"}
	case !s.inTTY:
		return &usageError{msg: flag + " needs a terminal", hint: "without one, `ocibuild shell @failed` opens the failed step later, and `ocibuild logs` shows what it printed"}
	case c.progress == "json":
		return usagef("%s and --progress=json do not go together", flag)
	}
	return nil
}

// stops says where the build opens shells.
func (c *buildCommand) stops(s *session, show display) build.Stops {
	st := build.Stops{Failed: c.onFailure == "shell"}
	for _, text := range c.beforeTexts {
		st.Before = append(st.Before, build.ParseStepSelector(text))
	}
	for _, text := range c.afterTexts {
		st.After = append(st.After, build.ParseStepSelector(text))
	}
	st.Look = func(ctx context.Context, at build.Stop) error {
		show.hold()
		defer show.release()
		return look(ctx, s, at)
	}
	return st
}

// ask reads a line that is typed, unless ctx ends before.
func ask(ctx context.Context) (string, error) {
	in, err := newKeyboard(int(os.Stdin.Fd()))
	if err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, in.close)()
	return bufio.NewReader(in).ReadString('\n')
}

// errStopped ends a build that its user does not want to go on.
var errStopped = errors.New("stopped as you wished")

// look opens a shell where a build has stopped.
func look(ctx context.Context, s *session, at build.Stop) error {
	name := sanitizeLine(at.Step.Name())
	if at.Kind == build.StopFailed {
		fmt.Fprintf(s.err, "\n%s failed: %s\n", name, message(stepCause(at.Err)))
		fmt.Fprintln(s.err, "This is a shell in what it has left, with its mounts. ctrl-D ends it, and the build.")
	} else {
		fmt.Fprintf(s.err, "\nStopped %s %s\n", at.Kind, name)
		fmt.Fprintln(s.err, "This is a shell in the files of the build; what you change is dropped. ctrl-D ends it.")
	}
	screen, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0) // standard error may be a file
	if err != nil {
		return err
	}
	defer screen.Close()
	err = withTerminal(screen, func(io executor.IO) error {
		return at.Shell(ctx, []string{"TERM=" + s.terminalName()}, io)
	})
	var exit *executor.ExitError
	if errors.As(err, &exit) && exit.Err == nil {
		err = nil // whatever the last command in a shell gave
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(s.err, "the shell could not be opened: %s\n", message(err))
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if at.Kind == build.StopFailed {
		return nil
	}
	fmt.Fprint(s.err, "Continue the build? [Y/n] ")
	answer, err := ask(ctx)
	if err != nil || strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "n") {
		return errStopped
	}
	return nil
}
