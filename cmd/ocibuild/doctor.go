package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/spf13/pflag"
)

type doctorCommand struct{ json bool }

func doctorDescription() *command {
	return &command{
		name: "doctor", short: "tell how steps are run on this machine, and what would let them be run better",
		long: "Prints the isolation level that builds have here, what it keeps steps from and what it does not, what was asked of the " +
			"machine, why the better levels are out of reach, and the change that would lift that: a sysctl, a package, lines of a pod's spec.",
		examples: []example{
			{"ocibuild doctor", ""},
			{"ocibuild doctor --json", "for programs"},
		},
		make: func() verb { return &doctorCommand{} },
	}
}

func (c *doctorCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&c.json, "json", false, "print JSON")
}

func (c *doctorCommand) accept(_ *stdio, args []string) error {
	return count(args, 0, 0, "no arguments")
}

// diagnosis is what doctor --json prints.
type diagnosis struct {
	Level  executor.Level     `json:"level"`
	Store  string             `json:"store"`
	Levels []executor.Finding `json:"levels"` // the best one first
}

func (c *doctorCommand) run(_ context.Context, s *session) error {
	store, err := s.root()
	if err != nil {
		return err
	}
	d := diagnosis{Store: store, Levels: executor.Diagnose(filepath.Join(store, "snapshots"))}
	at := 0
	for !d.Levels[at].Reached {
		at++
	}
	d.Level = d.Levels[at].Level
	if c.json {
		return writeJSON(s.out, d)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "isolation: %s\n  holds: %s\n", d.Level, d.Levels[at].Holds)
	if lacks := d.Levels[at].Lacks; lacks != "" {
		fmt.Fprintf(&b, "  lacks: %s\n", lacks)
	}
	writeProbes(&b, d.Levels[at].Probes)
	for i := at - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "\nwhy not %s\n", d.Levels[i].Level)
		writeProbes(&b, d.Levels[i].Probes)
	}
	_, err = io.WriteString(s.out, b.String())
	return err
}

// writeProbes writes what was asked, and under what is missing the change that lifts it.
func writeProbes(b *strings.Builder, probes []executor.Probe) {
	for _, p := range probes {
		mark := "ok"
		switch {
		case !p.OK && p.Hint:
			mark = "--"
		case !p.OK:
			mark = "NO"
		}
		fmt.Fprintf(b, "  %s  %s: %s\n", mark, p.Name, p.Found)
		for line := range strings.Lines(p.Lift) {
			fmt.Fprintf(b, "        %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
}
