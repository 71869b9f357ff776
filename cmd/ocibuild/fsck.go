package main

import (
	"context"
	"fmt"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type fsckCommand struct{ json bool }

func fsckDescription() *command {
	return &command{
		name: "fsck", short: "check the store",
		long: "Reads every blob of the store, compares it with its digest, and follows every name to the blobs it needs. " +
			"Prints a line for each fault, or that the store is clean. Changes nothing.",
		examples: []example{{"ocibuild fsck || ocibuild pull alpine:3.20", "a pull fetches again what is damaged"}},
		make:     func() verb { return &fsckCommand{} },
	}
}

func (c *fsckCommand) Flags(fs *pflag.FlagSet) {
	fs.BoolVar(&c.json, "json", false, "print a JSON object for each fault, and nothing for none")
}

func (c *fsckCommand) Check(_ *stdio, args []string) error { return count(args, 0, 0, "no arguments") }

func (c *fsckCommand) Run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	faults, err := st.Fsck(ctx)
	if err != nil {
		return err
	}
	for _, f := range faults {
		if err := c.print(s, f); err != nil {
			return err
		}
	}
	if len(faults) > 0 {
		return &storeError{
			msg:  fmt.Sprintf("%d faults in %s", len(faults), st.Root()),
			hint: "pull, load or build the images named above again: what is damaged is then replaced",
		}
	}
	if c.json {
		return nil
	}
	_, err = fmt.Fprintf(s.out, "%s: clean\n", st.Root())
	return err
}

func (c *fsckCommand) print(s *session, f image.Fault) error {
	name := ""
	if !f.Ref.IsZero() {
		name = f.Ref.Familiar()
	}
	if c.json {
		return writeJSONLine(s.out, map[string]string{
			"path": f.Path, "digest": string(f.Digest), "name": name, "error": f.Err.Error(),
		})
	}
	line := f.Path
	if name != "" {
		line += " (" + name + ")"
	}
	_, err := fmt.Fprintf(s.out, "%s: %s\n", line, message(f.Err))
	return err
}
