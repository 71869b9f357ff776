package main

import (
	"errors"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/spf13/pflag"
)

// runtimeFlag is the program that runs commands in ocibuild's place.
type runtimeFlag struct{ program string }

func (f *runtimeFlag) flags(fs *pflag.FlagSet, who string) {
	fs.StringVar(&f.program, "runtime", "", "let this `PROGRAM`, a name or path of runc or crun, run "+who+"; shells on a terminal are ocibuild's own")
}

// use gives the program to an executor, which may be nil.
func (f *runtimeFlag) use(e *executor.Executor) error {
	if f.program == "" || e == nil {
		return nil
	}
	err := e.UseRuntime(f.program)
	var level *executor.LevelError
	if err == nil || errors.As(err, &level) {
		return err
	}
	return &usageError{msg: "--runtime=" + f.program + ": " + err.Error(), hint: "install it, or leave the flag out: ocibuild needs no other program"}
}
