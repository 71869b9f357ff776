package main

import (
	"context"
	"fmt"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

type fsckCommand struct{ repair, json bool }

func fsckDescription() *command {
	return &command{
		name: "fsck", short: "check the store, and repair it",
		long: "Reads everything in the store: blobs are compared with their digests, layers with what their images say of them, records of " +
			"the build cache, unpacked layers, what builds have fetched from URLs and repositories and whatever else is remembered with what they are about, and every name is followed to " +
			"the blobs it needs. Prints a line for each fault, or that the store is clean. Changes nothing without --repair.\n" +
			"\n" +
			"--repair drops what a later build or list makes again, and moves all else that is damaged into a directory in quarantine/. " +
			"That is an OCI image layout with the images that lack something now, and their good blobs; these images have no name in the " +
			"store any more. No good blob is deleted. Of a table of names that cannot be read, as much is kept as can be made out. " +
			"`ocibuild prune quarantine` deletes the directories. " +
			"An image whose layers are good and not those that it says is no damage: it is told, and left. `ocibuild verify` checks all else " +
			"that an image claims.\n" +
			"\n" +
			"The kinds of faults are layout, table, blob, image, memo, record, cache, snapshot and fetched.",
		examples: []example{
			{"ocibuild fsck", ""},
			{"ocibuild fsck --repair", "then pull, load or build again what was quarantined"},
			{"ocibuild fsck --json | jq -r .kind | sort | uniq -c", "how many faults of each kind"},
		},
		enters: true,
		make:   func() verb { return &fsckCommand{} },
	}
}

func (c *fsckCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&c.repair, "repair", false, "drop or move away what is damaged")
	fs.BoolVar(&c.json, "json", false, "print a JSON object for each fault, and nothing for none")
}

func (c *fsckCommand) accept(_ *stdio, args []string) error { return count(args, 0, 0, "no arguments") }

func (c *fsckCommand) run(ctx context.Context, s *session) error {
	s.mendable = true
	sp, err := s.space()
	if err != nil {
		return err
	}
	faults, err := sp.Fsck(ctx)
	if err != nil {
		return err
	}
	found := make([]image.Repaired, len(faults))
	for i, f := range faults {
		found[i].Fault = f
	}
	var repairErr error
	if c.repair && len(faults) > 0 {
		found, repairErr = sp.Repair(ctx, faults)
	}
	for _, f := range found {
		if err := c.print(s, f); err != nil {
			return err
		}
	}
	if repairErr != nil {
		return repairErr
	}
	return c.conclude(s, sp.Images.Root(), found)
}

// conclude tells what is left to do.
func (c *fsckCommand) conclude(s *session, root string, found []image.Repaired) error {
	left := 0
	for _, f := range found {
		if f.Action == "" || f.Action == image.Left {
			left++
		}
	}
	switch {
	case left > 0 && c.repair:
		return &storeError{
			msg:  fmt.Sprintf("faults left in %s: %d", root, left),
			hint: "what each of them needs is said above",
		}
	case left > 0:
		return &storeError{
			msg:  fmt.Sprintf("faults in %s: %d", root, left),
			hint: "`ocibuild fsck --repair` drops or moves away what is damaged; then pull, load or build these images again",
		}
	case c.json:
		return nil
	case len(found) > 0:
		_, err := fmt.Fprintf(s.out, "%s: %s repaired\n", root, plural(len(found), "fault"))
		return err
	}
	_, err := fmt.Fprintf(s.out, "%s: clean\n", root)
	return err
}

// fsckFault is what fsck --json prints for a fault: of a file, or of the
// image that a name stands for.
type fsckFault struct {
	Kind   image.FaultKind `json:"kind"`
	Path   string          `json:"path,omitempty"`
	Name   string          `json:"name,omitempty"`
	Digest digest.Digest   `json:"digest,omitempty"`
	Error  string          `json:"error"`
	Action image.Action    `json:"action,omitempty"`
	Note   string          `json:"note,omitempty"`
}

func (c *fsckCommand) print(s *session, f image.Repaired) error {
	if !c.json {
		line := fmt.Sprintf("%s: %s", f.Kind, f.Fault)
		if f.Action != "" {
			line += "\n  " + string(f.Action)
		}
		if f.Note != "" {
			line += ": " + f.Note
		}
		_, err := fmt.Fprintln(s.out, sanitizeText(line))
		return err
	}
	fault := fsckFault{Kind: f.Kind, Path: f.Path, Digest: f.Digest, Error: message(f.Err), Action: f.Action, Note: f.Note}
	if !f.Ref.IsZero() {
		fault.Name = f.Ref.Familiar()
	}
	return writeJSONLine(s.out, fault)
}
