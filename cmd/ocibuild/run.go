package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"time"

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
	s := newSession(io, inv.globals)
	if s.detours, err = parseDetours(io.getenv(disableVariable)); err != nil {
		return report(io, err)
	}
	if inv.command.grows {
		s.keeper.sends.Store(inv.command.sends)
		if s.keeper.limit, err = s.limit(); err != nil {
			return report(io, err)
		}
	}
	if inv.command.enters || s.keeper.limit.set() {
		want, err := isolation(inv.globals.isolation, io.getenv("OCIBUILD_ISOLATION"))
		if err != nil {
			return report(io, err)
		}
		if code, done := s.enter(context.Background(), want); done {
			return code
		}
	}
	ctx, stop := context.Background(), func() {}
	if !inv.command.relays {
		ctx, stop = untilSignal(ctx, os.Exit)
	}
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.onOpen = func() error { return s.startKeeper(ctx, cancel) }
	err = inv.verb.run(ctx, s)
	if full := s.endKeeper(ctx); err == nil {
		err = full
	}
	err = ended(ctx, err)
	if cerr := s.close(); err == nil {
		err = cerr
	}
	return report(io, err)
}

// ended gives what has ended a verb that was cut short, unless it was told already.
func ended(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	var quiet *exitError
	var full *fullError
	if err == nil || cause == nil || errors.As(err, &quiet) && errors.As(cause, &full) {
		return err
	}
	return cause
}

// enter moves an ordinary user into a user namespace. There the whole program
// runs again; done says that it has ended, with code. Where there is none to be had
// the verb goes on without, and no step's command can be run.
func (s *session) enter(ctx context.Context, want executor.Level) (code int, done bool) {
	level, code, done, err := executor.Enter(ctx, want)
	if err != nil {
		s.noRun = err.Error()
	}
	s.level = level
	return code, done
}

// impatience is how long after a signal another one is still the same ctrl-C:
// in a user namespace it comes from the terminal and from the program outside.
const impatience = 500 * time.Millisecond

// untilSignal gives a context that the first SIGINT, SIGTERM or SIGHUP ends,
// with *interrupted as its cause. One that comes later calls exit at once.
func untilSignal(parent context.Context, exit func(int)) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		var first time.Time
		for {
			select {
			case <-stop:
				return
			case sig := <-ch:
				number := sig.(unix.Signal)
				if first.IsZero() {
					first = time.Now()
					cancel(&interrupted{number})
				} else if time.Since(first) > impatience {
					exit(exitSignal + int(number))
				}
			}
		}
	})
	return ctx, func() {
		signal.Stop(ch)
		close(stop)
		wait.Wait()
		cancel(nil)
	}
}
