package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
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
		long: "Prints the instructions that an image was made by, the last one first, with the size of the layer that each gave. Of " +
			"steps that were built here and are in the build cache, TOOK is how long they ran, and KEY their cache key; of commands, CPU is " +
			"the time on processors, MEMORY the most in use at once, WRITTEN what went to files.\n" +
			"Fields of templates: .ID .CreatedSince .CreatedAt .CreatedBy .Size .Comment .Took .CPU .Memory .Written .CacheKey .Layer; Layer is " +
			"the diff id.",
		examples: []example{
			{"ocibuild history app:v1", ""},
			{"ocibuild history --no-trunc --format '{{.CreatedBy}}' app:v1", "the instructions only"},
			{"ocibuild history --format '{{.Took}} {{.CreatedBy}}' app:v1", "where the time went"},
		},
		make: func() verb { return &historyCommand{} },
	}
}

func (c *historyCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "print the image ids only")
	fs.BoolVar(&c.noTrunc, "no-trunc", false, "print whole ids and instructions")
	fs.BoolVarP(&c.human, "human", "H", true, "print sizes and times for people; --human=false prints bytes and RFC 3339")
	c.platform.declare(fs, "show the image for this `OS/ARCH[/VARIANT]`")
	c.declare(fs)
}

func (c *historyCommand) accept(_ *stdio, args []string) error {
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
	Took         string
	CPU          string
	Memory       string
	Written      string
	CacheKey     string
	Layer        digest.Digest
}

func (c *historyCommand) run(ctx context.Context, s *session) error {
	img, err := selectImage(ctx, s, c.name, c.platform.want)
	if err != nil {
		return err
	}
	records, err := recordsOf(ctx, s, img)
	if err != nil {
		return err
	}
	lines := c.lines(img, records, time.Now())
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
		"CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT", "Took": "TOOK", "CacheKey": "KEY", "Layer": "LAYER",
		"CPU": "CPU", "Memory": "MEMORY", "Written": "WRITTEN",
	}
}

func (c *historyCommand) printTable(s *session, lines []historyLine) error {
	built := slices.ContainsFunc(lines, func(l historyLine) bool { return l.CacheKey != "" })
	headers := []string{"IMAGE", "CREATED", "CREATED BY", "SIZE"}
	if built {
		headers = append(headers, "TOOK", "CPU", "MEMORY", "WRITTEN", "KEY")
	}
	var rows [][]string
	for _, l := range lines {
		created := l.CreatedSince
		if !c.human {
			created = l.CreatedAt
		}
		row := []string{l.ID, created, l.CreatedBy, l.Size}
		if built {
			row = append(row, l.Took, l.CPU, l.Memory, l.Written, l.CacheKey)
		}
		rows = append(rows, append(row, l.Comment))
	}
	return writeTable(s.out, append(headers, "COMMENT"), rows)
}

// stepRecords are the records of the build cache that have an image's layers, by
// diff id, the last that was made first.
type stepRecords map[digest.Digest][]*cache.Record

// of finds the record that a step came from: among those that have its layer, one of
// the same instruction, if there is one. Steps that change nothing all have the same layer.
func (r stepRecords) of(step image.Step) *cache.Record {
	if step.Layer == nil || len(r[step.Layer.DiffID]) == 0 {
		return nil
	}
	list := r[step.Layer.DiffID]
	keyword, _, _ := strings.Cut(step.CreatedBy, " ")
	for _, record := range list {
		if _, words, _ := strings.Cut(record.Name, " "); strings.HasPrefix(words, keyword+" ") {
			return record
		}
	}
	return list[0]
}

// recordsOf finds the records of the build cache that have an image's layers.
func recordsOf(ctx context.Context, s *session, img *image.Image) (stepRecords, error) {
	memory, err := s.cache()
	if err != nil {
		return nil, err
	}
	wanted := map[digest.Digest]bool{}
	for _, l := range img.Layers {
		wanted[l.DiffID] = true
	}
	records := stepRecords{}
	for record, err := range memory.Records(ctx) {
		if record == nil {
			if ctx.Err() != nil {
				return nil, err
			}
			continue
		}
		for _, b := range record.Blobs {
			if wanted[b.Digest] {
				records[b.Digest] = append(records[b.Digest], record)
			}
		}
	}
	for _, list := range records {
		slices.SortFunc(list, func(a, b *cache.Record) int { return b.Created.Compare(a.Created) })
	}
	return records, nil
}

// lines gives a line for each step, the newest first.
func (c *historyCommand) lines(img *image.Image, records stepRecords, now time.Time) []historyLine {
	var out []historyLine
	for _, step := range img.Steps() {
		out = append(out, c.line(step, records, now))
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

func (c *historyCommand) line(step image.Step, records stepRecords, now time.Time) historyLine {
	l := historyLine{
		CreatedSince: age(step.Created, now), CreatedAt: "N/A",
		CreatedBy: oneLine(step.CreatedBy), Comment: oneLine(step.Comment),
	}
	if step.Created != nil {
		l.CreatedAt = step.Created.Format(time.RFC3339)
	}
	var size int64
	if step.Layer != nil {
		size, l.Layer = step.Layer.Descriptor.Size, step.Layer.DiffID
	}
	l.Size = c.bytes(size)
	if record := records.of(step); record != nil {
		l.CacheKey, l.Took = string(record.Key), seconds(record.Duration)
		if used := build.UsageOf(record); used != nil {
			l.CPU, l.Memory, l.Written = seconds(used.CPUTime), c.bytes(used.PeakMemory), c.bytes(used.Written)
		}
	}
	if !c.noTrunc {
		l.CreatedBy, l.CacheKey = clip(l.CreatedBy, 45), l.CacheKey[:min(12, len(l.CacheKey))]
	}
	return l
}

// bytes words a size as it is asked for.
func (c *historyCommand) bytes(n int64) string {
	if c.human {
		return humanSize(n)
	}
	return strconv.FormatInt(n, 10)
}

// oneLine makes foreign text fit into a line of a table.
func oneLine(s string) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(sanitizeText(s))
}
