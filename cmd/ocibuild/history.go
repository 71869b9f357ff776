package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type historyCommand struct {
	listing
	name           string
	noTrunc, human bool
	platform       platformFlag
}

func historyDescription() *command {
	return &command{
		name: "history", args: "IMAGE", short: "show how an image was made",
		long: "Prints the instructions that an image was made by, the last one first, with the size of the layer that each gave.\n" +
			"Fields of templates: .ID .CreatedSince .CreatedAt .CreatedBy .Size .Comment",
		examples: []example{
			{"ocibuild history app:v1", ""},
			{"ocibuild history --no-trunc --format '{{.CreatedBy}}' app:v1", "the instructions only"},
		},
		make: func() verb { return &historyCommand{} },
	}
}

func (c *historyCommand) Flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "print the image ids only")
	fs.BoolVar(&c.noTrunc, "no-trunc", false, "print whole ids and instructions")
	fs.BoolVarP(&c.human, "human", "H", true, "print sizes and times for people; --human=false prints bytes and RFC 3339")
	c.platform.declare(fs, "show the image for this `OS/ARCH[/VARIANT]`")
	c.declare(fs)
}

func (c *historyCommand) Check(_ *stdio, args []string) error {
	if err := count(args, 1, 1, "one IMAGE"); err != nil {
		return err
	}
	c.name = args[0]
	if err := c.platform.check(); err != nil {
		return err
	}
	return c.parse()
}

// historyLine is a line of the history, and what templates and JSON see.
type historyLine struct {
	ID           string
	CreatedSince string
	CreatedAt    string
	CreatedBy    string
	Size         string
	Comment      string
}

func (c *historyCommand) Run(ctx context.Context, s *session) error {
	img, err := selectImage(ctx, s, c.name, c.platform.want)
	if err != nil {
		return err
	}
	lines := c.lines(img, time.Now())
	if c.quiet {
		for _, l := range lines {
			if _, err := fmt.Fprintln(s.out, l.ID); err != nil {
				return err
			}
		}
		return nil
	}
	if done, err := writeFormatted(s.out, &c.listing, historyHeaders(), lines); done {
		return err
	}
	return c.printTable(s, lines)
}

func historyHeaders() map[string]string {
	return map[string]string{
		"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT",
		"CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT",
	}
}

func (c *historyCommand) printTable(s *session, lines []historyLine) error {
	var rows [][]string
	for _, l := range lines {
		created := l.CreatedSince
		if !c.human {
			created = l.CreatedAt
		}
		rows = append(rows, []string{l.ID, created, l.CreatedBy, l.Size, l.Comment})
	}
	return writeTable(s.out, []string{"IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"}, rows)
}

// lines gives a line for each entry of the history, the newest first. Layers
// that no entry stands for get one of their own.
func (c *historyCommand) lines(img *image.Image, now time.Time) []historyLine {
	var out []historyLine
	layers := img.Layers
	for _, h := range img.Config.History {
		var size int64
		if !h.EmptyLayer && len(layers) > 0 {
			size, layers = layers[0].Descriptor.Size, layers[1:]
		}
		out = append(out, c.line(h.CreatedBy, h.Comment, h.Created, size, now))
	}
	for _, l := range layers {
		out = append(out, c.line("", "", nil, l.Descriptor.Size, now))
	}
	slices.Reverse(out)
	for i := range out {
		out[i].ID = "<missing>"
	}
	if len(out) > 0 {
		out[0].ID = shortID(img.ID())
		if c.noTrunc {
			out[0].ID = img.ID().String()
		}
	}
	return out
}

func (c *historyCommand) line(by, comment string, created *time.Time, size int64, now time.Time) historyLine {
	l := historyLine{
		CreatedSince: age(created, now), CreatedAt: "N/A", Size: humanSize(size),
		CreatedBy: oneLine(by), Comment: oneLine(comment),
	}
	if created != nil {
		l.CreatedAt = created.Format(time.RFC3339)
	}
	if !c.human {
		l.Size = strconv.FormatInt(size, 10)
	}
	if !c.noTrunc {
		l.CreatedBy = clip(l.CreatedBy, 45)
	}
	return l
}

// oneLine makes foreign text fit into a line of a table.
func oneLine(s string) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(sanitizeText(s))
}
