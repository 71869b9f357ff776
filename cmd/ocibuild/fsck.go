package main

import (
	"context"
	"fmt"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
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
			msg:  fmt.Sprintf("faults in %s: %d", st.Root(), len(faults)),
			hint: "pull, load or build the images named above again: what is damaged is then replaced",
		}
	}
	if c.json {
		return nil
	}
	_, err = fmt.Fprintf(s.out, "%s: clean\n", st.Root())
	return err
}

// fsckFault is what fsck --json prints for a fault: of a file, or of the
// image that a name stands for.
type fsckFault struct {
	Path   string        `json:"path,omitempty"`
	Name   string        `json:"name,omitempty"`
	Digest digest.Digest `json:"digest,omitempty"`
	Error  string        `json:"error"`
}

func (c *fsckCommand) print(s *session, f image.Fault) error {
	if !c.json {
		_, err := fmt.Fprintln(s.out, sanitizeText(f.String()))
		return err
	}
	fault := fsckFault{Path: f.Path, Digest: f.Digest, Error: message(f.Err)}
	if !f.Ref.IsZero() {
		fault.Name = f.Ref.Familiar()
	}
	return writeJSONLine(s.out, fault)
}
