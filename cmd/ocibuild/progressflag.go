package main

import (
	"context"
	"slices"

	"github.com/spf13/pflag"
)

// progressFlag is --progress, with -q for its last value.
type progressFlag struct {
	mode  string
	quiet bool
}

func (f *progressFlag) declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.mode, "progress", "auto", "show progress as `MODE`: auto, plain, tty, json or quiet")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "show no progress: --progress=quiet")
}

// check settles what is wanted.
func (f *progressFlag) check() error {
	if f.quiet {
		f.mode = "quiet"
	}
	if !slices.Contains(progressModes, f.mode) {
		return oneOf("--progress", f.mode, progressModes)
	}
	f.quiet = f.mode == "quiet"
	return nil
}

// failed is the error of a verb after its display has ended. With
// --progress=json it is told in a last event.
func failed(ctx context.Context, show display, err error) error {
	d, ok := show.(*jsonDisplay)
	if err == nil || !ok {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	d.fail(err)
	return &exitError{exitCode(err)}
}
