package main

import (
	"context"
	"errors"
	"os"
	"os/signal"

	"github.com/ocibuild/ocibuild/executor"
	"golang.org/x/sys/unix"
)

// run carries out a command line and gives the exit code.
func run(args []string, io *stdio) int {
	inv, err := parse(args, io)
	var help *helpRequest
	if errors.As(err, &help) {
		return report(io, writeHelp(io.out, help.command))
	}
	if err != nil {
		return report(io, err)
	}
	level, code, done, err := enter(inv.command)
	if done || err != nil {
		if err != nil {
			return report(io, err)
		}
		return code
	}
	ctx, stop := untilSignal(context.Background())
	defer stop()
	s := newSession(io, inv.root, level)
	err = inv.verb.Run(ctx, s)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	if cerr := s.close(); err == nil {
		err = cerr
	}
	return report(io, err)
}

// enter moves an ordinary user into a user namespace when the command needs it.
func enter(c *command) (level executor.Level, code int, done bool, err error) {
	if !c.enters {
		return "", 0, false, nil
	}
	return executor.Enter(context.Background())
}

// untilSignal gives a context that the first SIGINT, SIGTERM or SIGHUP ends,
// with *interrupted as its cause. A second signal ends the process at once.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	done := make(chan struct{})
	go func() {
		select {
		case sig := <-ch:
			signal.Stop(ch)
			cancel(&interrupted{sig.(unix.Signal)})
		case <-done:
		}
	}()
	return ctx, func() {
		close(done)
		signal.Stop(ch)
		cancel(nil)
	}
}
