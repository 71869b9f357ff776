package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"
)

type versionCommand struct{ json bool }

// versionInfo is what version --json prints.
type versionInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"date,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func versionDescription() *command {
	return &command{
		name: "version", short: "print the version",
		long:     "Prints the program's version, the commit it was built from, and the platform.",
		examples: []example{{"ocibuild version --json", "for programs"}},
		make:     func() verb { return &versionCommand{} },
	}
}

func (c *versionCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&c.json, "json", false, "print JSON")
}

func (c *versionCommand) accept(_ *stdio, args []string) error {
	return count(args, 0, 0, "no arguments")
}

func (c *versionCommand) run(_ context.Context, s *session) error {
	info := readVersion()
	if c.json {
		return writeJSON(s.out, info)
	}
	line := "ocibuild " + info.Version
	if info.Commit != "" {
		line += " (" + info.Commit[:min(12, len(info.Commit))] + ")"
	}
	_, err := fmt.Fprintf(s.out, "%s %s %s\n", line, info.Go, info.Platform)
	return err
}

// version is the program's version as the Go tool stamped it.
func version() string { return readVersion().Version }

func readVersion() versionInfo {
	info := versionInfo{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return info
	}
	if v := b.Main.Version; v != "" && v != "(devel)" {
		info.Version = v
	}
	for _, s := range b.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Commit = s.Value
		case "vcs.time":
			info.Date = s.Value
		}
	}
	return info
}
