package main

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ocibuild/ocibuild/build/space"
	"github.com/spf13/pflag"
)

type dfCommand struct {
	listing
	verbose bool
	why     string
}

func dfDescription() *command {
	return &command{
		name: "df", short: "tell what the store takes on the disk",
		long: "Lists what images, the build cache, unpacked layers (snapshots), the directories of cache mounts, and unfinished work take on " +
			"the disk, and how much of it `ocibuild prune AREA` would free. What several share is counted once, for the first of them; " +
			"other is the table of names, locks and directories. The sum is what du(1) says of the store.\n" +
			"\n" +
			"--verbose lists everything one by one: ALONE is what would come back if it alone went, and STAYS why it does not go. " +
			"--why tells what holds a blob, or the blobs of an image.\n" +
			"Fields of templates: .Area .Items .Size .Reclaimable .Bytes .ReclaimableBytes; with --verbose .Area .Kind .ID .Name .Size " +
			".Alone .Bytes .AloneBytes .Used .UsedSince .Stays; with --why .Blob .Kind .Size .Bytes .Used .HeldBy .InUse",
		examples: []example{
			{"ocibuild df", ""},
			{"ocibuild df -v --format '{{.AloneBytes}} {{.Kind}} {{.Name}}' | sort -rn | head", "what takes most"},
			{"ocibuild df --why app:v1", "what removing an image would free, and who shares the rest"},
			{"ocibuild df --why sha256:3f2a", "why a blob is still there"},
		},
		enters: true,
		make:   func() verb { return &dfCommand{} },
	}
}

func (c *dfCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.verbose, "verbose", "v", false, "list everything one by one")
	fs.StringVar(&c.why, "why", "", "tell what holds this `DIGEST|IMAGE`")
	c.declare(fs)
}

func (c *dfCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 0, 0, "no arguments"); err != nil {
		return err
	}
	if c.verbose && c.why != "" {
		return usagef("--verbose and --why exclude each other")
	}
	return c.parse()
}

func (c *dfCommand) run(ctx context.Context, s *session) error {
	sp, err := s.space()
	if err != nil {
		return err
	}
	census, err := sp.Census(ctx)
	switch {
	case err != nil:
		return err
	case c.why != "":
		return c.tellWhy(ctx, s, census)
	case c.verbose:
		return c.listItems(s, census)
	}
	return c.listAreas(s, sp, census)
}

// dfLine is a line of the list of areas, and what templates and JSON see.
type dfLine struct {
	Area, Items, Size, Reclaimable string
	Bytes, ReclaimableBytes        int64
}

// countedKinds are what is counted of each area.
var countedKinds = map[space.Area][]space.Kind{
	space.Images: {space.KindImage, space.KindLayer}, space.Cache: {space.KindRecord, space.KindSource},
	space.Snapshots: {space.KindSnapshot}, space.Mounts: {space.KindMount},
	space.Unfinished: {space.KindUnfinished}, space.Quarantine: {space.KindQuarantine},
}

func (c *dfCommand) listAreas(s *session, sp space.Space, census *space.Census) error {
	sizes := census.Sizes()
	var lines []dfLine
	for _, a := range space.Areas() {
		n := 0
		for _, i := range census.Items {
			if i.Area == a && slices.Contains(countedKinds[a], i.Kind) {
				n++
			}
		}
		if a == space.Quarantine && n == 0 {
			continue
		}
		l := dfLine{Area: string(a), Items: strconv.Itoa(n), Bytes: sizes[a], ReclaimableBytes: census.Reclaimable(a)}
		if a == space.Other {
			l.Items = ""
		}
		lines = append(lines, l)
	}
	all := census.Plan(space.Options{Areas: append(slices.Clone(pruneAreas), space.Unfinished)}).Bytes
	lines = append(lines, dfLine{Area: "total", Bytes: census.Total, ReclaimableBytes: all})
	for i := range lines {
		lines[i].Size, lines[i].Reclaimable = humanSize(lines[i].Bytes), humanSize(lines[i].ReclaimableBytes)
	}
	headers := map[string]string{"Area": "AREA", "Items": "ITEMS", "Size": "SIZE", "Reclaimable": "RECLAIMABLE", "Bytes": "BYTES", "ReclaimableBytes": "RECLAIMABLE BYTES"}
	if done, err := writeFormatted(s.out, &c.listing, headers, lines); done {
		return err
	}
	rows := make([][]string, 0, len(lines))
	for _, l := range lines {
		rows = append(rows, []string{l.Area, l.Items, l.Size, l.Reclaimable})
	}
	if err := writeTable(s.out, []string{"AREA", "ITEMS", "SIZE", "RECLAIMABLE"}, rows); err != nil {
		return err
	}
	return c.tellRoom(s, sp, census)
}

// tellRoom tells how much more the store could take.
func (c *dfCommand) tellRoom(s *session, sp space.Space, census *space.Census) error {
	free, err := sp.Free()
	if err != nil {
		return err
	}
	text := ""
	limit, err := s.limit()
	switch {
	case err != nil:
		return err
	case limit.set():
		text = fmt.Sprintf("The store may take %s (%s). ", humanSize(limit.bytes), limit.from)
	}
	if n := len(census.Leases); n > 0 {
		text += fmt.Sprintf("What was used since %s is in use by %s. ", census.Leases[0].Began.Local().Format(time.TimeOnly), wordLeases(census))
	}
	_, err = fmt.Fprintf(s.out, "%s%s are free on its file system.\n", text, humanSize(free))
	return err
}

func wordLeases(census *space.Census) string {
	if n := len(census.Leases); n > 1 {
		return fmt.Sprintf("%d running programs", n)
	}
	return fmt.Sprintf("a running program (process %d)", census.Leases[0].Process)
}

// dfItem is a line of the list of everything, and what templates and JSON see.
type dfItem struct {
	Area, Kind, ID, Name, Size, Alone string
	Bytes, AloneBytes                 int64
	Used                              time.Time
	UsedSince, Stays                  string
}

func (c *dfCommand) listItems(s *session, census *space.Census) error {
	now := time.Now()
	var lines []dfItem
	for at := range census.Items {
		i := &census.Items[at]
		if i.Area == space.Other {
			continue
		}
		lines = append(lines, newDfItem(census, i, now))
	}
	slices.SortStableFunc(lines, func(a, b dfItem) int {
		areas := space.Areas()
		return cmp.Or(slices.Index(areas, space.Area(a.Area))-slices.Index(areas, space.Area(b.Area)), cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.ID, b.ID))
	})
	headers := map[string]string{
		"Area": "AREA", "Kind": "KIND", "ID": "ID", "Name": "NAME", "Size": "SIZE", "Alone": "ALONE", "Bytes": "BYTES",
		"AloneBytes": "ALONE BYTES", "Used": "USED AT", "UsedSince": "USED", "Stays": "STAYS",
	}
	if done, err := writeFormatted(s.out, &c.listing, headers, lines); done {
		return err
	}
	rows := make([][]string, 0, len(lines))
	for _, l := range lines {
		rows = append(rows, []string{l.Area, l.Kind, shortItem(l.ID), l.Size, l.Alone, l.UsedSince, l.Name, l.Stays})
	}
	return writeTable(s.out, []string{"AREA", "KIND", "ID", "SIZE", "ALONE", "USED", "NAME", "STAYS"}, rows)
}

func newDfItem(census *space.Census, i *space.Item, now time.Time) dfItem {
	l := dfItem{
		Area: string(i.Area), Kind: string(i.Kind), ID: i.ID, Name: sanitizeLine(i.Title), Used: i.Used,
		Bytes: census.Size(i), AloneBytes: census.Alone(i), UsedSince: age(&i.Used, now), Stays: string(i.Pin),
	}
	if img := i.Image(); img != nil && len(img.Refs) > 1 {
		l.Name += fmt.Sprintf(" and %d more", len(img.Refs)-1)
	}
	if i.Useless && l.Stays == "" {
		l.Stays = "no: it is of no use"
	}
	l.Size, l.Alone = humanSize(l.Bytes), humanSize(l.AloneBytes)
	return l
}

// shortItem shortens what is, or begins with, a digest or a key.
func shortItem(id string) string {
	if short := shortHex(id); short != id {
		return short
	}
	if hexKey().MatchString(id) {
		return id[:12]
	}
	return id
}

var hexKey = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{64}`) })
