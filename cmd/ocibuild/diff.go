package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type diffCommand struct {
	listing
	old, new        string
	times, exitCode bool
	platform        platformFlag
}

func diffDescription() *command {
	return &command{
		name: "diff", args: "OLD NEW", short: "compare the files of two images",
		long: "Lists what was added (A), removed (D) and changed (C) from the image OLD to the image NEW, with sizes and with what " +
			"changed: type, content, link, mode, owner, device, xattrs. Modification times count with --times only. A summary goes to " +
			"standard error.\n" +
			"Fields of templates: .Kind .Path .Type .OldSize .NewSize .What",
		examples: []example{
			{"ocibuild diff app:v1 app:v2", ""},
			{"ocibuild diff -q --exit-code app:v1 app:again", "say by the exit code whether a build is reproducible"},
			{"ocibuild diff --json app:v1 app:v2 | jq -s 'map(.NewSize - .OldSize) | add'", "how many bytes it grew"},
		},
		make: func() verb { return &diffCommand{} },
	}
}

func (c *diffCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&c.times, "times", false, "count another modification time as a change")
	fs.BoolVar(&c.exitCode, "exit-code", false, "exit with 1 when the images differ")
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "print the paths only")
	c.platform.declare(fs, "compare the images for this `OS/ARCH[/VARIANT]`")
	c.declare(fs)
}

func (c *diffCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 2, 2, "an OLD and a NEW image"); err != nil {
		return err
	}
	c.old, c.new = args[0], args[1]
	if err := c.platform.check(); err != nil {
		return err
	}
	return c.parse()
}

// diffLine is a line of the result, and what templates and JSON see.
type diffLine struct {
	Kind    image.ChangeKind
	Path    string
	Type    string
	OldSize int64
	NewSize int64
	What    []string `json:",omitempty"`
}

func newDiffLine(c image.Change) diffLine {
	l := diffLine{Kind: c.Kind, Path: c.Path, What: c.What}
	if c.Old != nil {
		l.Type, l.OldSize = typeName(*c.Old), c.Old.Size
	}
	if c.New != nil {
		l.Type, l.NewSize = typeName(*c.New), c.New.Size
	}
	return l
}

func (c *diffCommand) run(ctx context.Context, s *session) error {
	old, err := c.open(ctx, s, c.old)
	if err != nil {
		return err
	}
	fresh, err := c.open(ctx, s, c.new)
	if err != nil {
		return err
	}
	changes := image.Diff(old, fresh, image.DiffOptions{Times: c.times})
	lines := make([]diffLine, 0, len(changes))
	for _, change := range changes {
		lines = append(lines, newDiffLine(change))
	}
	if err := c.print(s, lines); err != nil {
		return err
	}
	if c.exitCode && len(lines) > 0 {
		return &exitError{exitOther}
	}
	return nil
}

func (c *diffCommand) open(ctx context.Context, s *session, name string) (*image.Files, error) {
	img, err := selectImage(ctx, s, name, c.platform.want)
	if err != nil {
		return nil, err
	}
	return s.files(ctx, img)
}

func (c *diffCommand) print(s *session, lines []diffLine) error {
	headers := map[string]string{"Kind": "KIND", "Path": "PATH", "Type": "TYPE", "OldSize": "OLD SIZE", "NewSize": "NEW SIZE", "What": "WHAT"}
	if done, err := writeFormatted(s.out, &c.listing, headers, lines); done {
		return err
	}
	if c.quiet {
		for _, l := range lines {
			if _, err := fmt.Fprintln(s.out, oneLine(l.Path)); err != nil {
				return err
			}
		}
		return nil
	}
	rows := make([][]string, 0, len(lines))
	for _, l := range lines {
		rows = append(rows, []string{string(l.Kind), l.size(), oneLine(l.Path) + l.what()})
	}
	if err := writeAligned(s.out, rows, []int{1}); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s.err, diffSummary(lines))
	return err
}

// size is the size of a file that came or went, or how much one has grown.
func (l diffLine) size() string {
	switch {
	case l.Type == "directory" || l.OldSize == 0 && l.NewSize == 0:
		return "-"
	case l.Kind == image.Added:
		return "+" + humanSize(l.NewSize)
	case l.Kind == image.Removed:
		return "-" + humanSize(l.OldSize)
	}
	return signedSize(l.NewSize - l.OldSize)
}

func signedSize(n int64) string {
	if n < 0 {
		return "-" + humanSize(-n)
	}
	return "+" + humanSize(n)
}

func (l diffLine) what() string {
	if len(l.What) == 0 {
		return ""
	}
	return " (" + strings.Join(l.What, ", ") + ")"
}

// diffSummary counts what changed.
func diffSummary(lines []diffLine) string {
	counts := map[image.ChangeKind]int{}
	var grown int64
	for _, l := range lines {
		counts[l.Kind]++
		grown += l.NewSize - l.OldSize
	}
	if len(lines) == 0 {
		return "no differences"
	}
	return fmt.Sprintf("%d added, %d removed, %d changed: %s", counts[image.Added], counts[image.Removed], counts[image.Changed], signedSize(grown))
}
