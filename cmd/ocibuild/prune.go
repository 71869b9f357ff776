package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/build/space"
	"github.com/spf13/pflag"
)

type pruneCommand struct {
	all, cache, force bool
	dryRun, json      bool
	filters           []string
	keep              string

	options space.Options
}

// pruneAreas are the areas that prune takes as arguments.
var pruneAreas = []space.Area{space.Images, space.Cache, space.Snapshots, space.Mounts, space.Quarantine}

func pruneDescription() *command {
	return &command{
		name: "prune", args: "[AREA...]", short: "free space in the store",
		long: "Deletes images without a name, blobs and cache records that are of no use, what interrupted programs left behind, and " +
			"unpacked layers and downloads that were not used for a week. With areas it deletes what is in these instead: images " +
			"(those without a name), cache (the build cache), snapshots (unpacked layers), mounts (the directories of cache mounts), " +
			"quarantine (what `fsck --repair` has taken out of the way). --all deletes names too, and without areas everything. What a " +
			"running build has used stays in any case. " +
			"Asks before it begins when it is used on a terminal; elsewhere --force is needed.\n" +
			"\n" +
			"--keep-storage deletes the least recently used, and no more than it takes.\n" +
			"\n" +
			"Filters: until=TIME (nothing that was used since, no image that was made since), label=KEY[=VALUE] and " +
			"label!=KEY[=VALUE] (only images for which that holds). All of them must hold. A TIME is 2024-01-31, " +
			"2024-01-31T12:00:00, seconds since 1970, or 24h for a day ago.",
		examples: []example{
			{"ocibuild prune -f", "what nobody can miss"},
			{"ocibuild prune --dry-run cache", "what dropping the build cache would free"},
			{"ocibuild prune -f cache snapshots mounts --filter until=240h", "what no build has used for ten days"},
			{"ocibuild prune -f --keep-storage 10GB", "what was not used for longest, until the store takes 10GB"},
			{"ocibuild prune -f --all", "and all images: the store is empty after it"},
		},
		enters: true,
		make:   func() verb { return &pruneCommand{} },
	}
}

func (c *pruneCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.all, "all", "a", false, "delete names too, and without areas everything")
	fs.BoolVar(&c.cache, "cache", false, "the areas images, cache, snapshots and mounts")
	fs.BoolVarP(&c.force, "force", "f", false, "do not ask")
	fs.BoolVar(&c.dryRun, "dry-run", false, "tell what would go, and delete nothing")
	fs.StringArrayVar(&c.filters, "filter", nil, "delete only that for which this `KEY=VALUE` holds (may be repeated)")
	fs.StringVar(&c.keep, "keep-storage", "", "delete the least recently used, until this `SIZE` is left of the areas, or of the store")
	fs.BoolVar(&c.json, "json", false, "print the result as JSON")
}

func (c *pruneCommand) accept(s *stdio, args []string) error {
	if err := c.checkAreas(args); err != nil {
		return err
	}
	c.options.All = c.all
	for _, text := range c.filters {
		if err := c.addFilter(text, time.Now()); err != nil {
			return err
		}
	}
	if len(c.options.Labels) > 0 && (c.cache || slices.ContainsFunc(c.options.Areas, func(a space.Area) bool { return a != space.Images })) {
		return &usageError{msg: "only images have labels", hint: "leave out the areas, or name images alone"}
	}
	if c.keep != "" {
		n, err := parseBytes(c.keep)
		if err != nil {
			return usagef("--keep-storage: %v", err)
		}
		c.options.Limit = &n
	}
	if !c.force && !c.dryRun && !s.inTTY {
		return &usageError{msg: "there is no terminal to ask on", hint: "say --force to go on without a question, or --dry-run to see what would go"}
	}
	return nil
}

func (c *pruneCommand) checkAreas(args []string) error {
	if c.cache && len(args) > 0 {
		return &usageError{msg: "--cache and areas exclude each other", hint: "--cache stands for the areas images, cache, snapshots and mounts"}
	}
	if c.cache {
		c.options.Areas = []space.Area{space.Images, space.Cache, space.Snapshots, space.Mounts}
	}
	for _, arg := range args {
		area := space.Area(arg)
		if !slices.Contains(pruneAreas, area) {
			return unknownArea(arg)
		}
		c.options.Areas = append(c.options.Areas, area)
	}
	return nil
}

func unknownArea(arg string) error {
	names := make([]string, len(pruneAreas))
	for i, a := range pruneAreas {
		names[i] = string(a)
	}
	e := &usageError{msg: fmt.Sprintf("unknown area %q", arg), hint: "the areas are " + strings.Join(names, ", ")}
	if near := nearest(arg, names); near != "" {
		e.msg += fmt.Sprintf(" (did you mean %s?)", near)
	}
	return e
}

// pruneFilters are the keys of prune --filter.
var pruneFilters = []string{"until", "label", "label!"}

func (c *pruneCommand) addFilter(text string, now time.Time) (err error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok || value == "" {
		return usagef("--filter=%s: a filter looks like KEY=VALUE", text)
	}
	switch key {
	case "until":
		until, err := parseMoment(value, now)
		if err != nil {
			return usagef("--filter=%s: %v", text, err)
		}
		if c.options.Until.IsZero() || until.Before(c.options.Until) {
			c.options.Until = until
		}
	case "label", "label!":
		c.options.Labels = append(c.options.Labels, space.ParseLabel(value, key == "label!"))
	default:
		e := &usageError{msg: fmt.Sprintf("--filter=%s: unknown filter %q", text, key), hint: "the filters are until, label and label!"}
		if near := nearest(key, pruneFilters); near != "" {
			e.msg += fmt.Sprintf(" (did you mean %s?)", near)
		}
		return e
	}
	return nil
}

func (c *pruneCommand) run(ctx context.Context, s *session) error {
	if ok, err := c.confirm(s); !ok {
		return err
	}
	sp, err := s.space()
	if err != nil {
		return err
	}
	census, err := sp.Census(ctx)
	if err != nil {
		return err
	}
	plan := census.Plan(c.options)
	report := plan.Report()
	if !c.dryRun {
		if report, err = plan.Prune(ctx); err != nil {
			return err
		}
	}
	if err := c.print(s, report); err != nil || c.options.Limit == nil || c.dryRun {
		return err
	}
	return c.tellExcess(ctx, s, sp)
}

func (c *pruneCommand) confirm(s *session) (bool, error) {
	if c.force || c.dryRun {
		return true, nil
	}
	fmt.Fprintf(s.err, "This deletes %s. Go on? [y/N] ", c.question())
	line, err := bufio.NewReader(io.LimitReader(s.in, 100)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}

// areaWords say what is in an area, without --all.
var areaWords = map[space.Area]string{
	space.Images: "images without a name and blobs that nothing needs", space.Cache: "the build cache",
	space.Snapshots: "unpacked layers", space.Mounts: "the directories of cache mounts", space.Quarantine: "what fsck took out of the way",
}

// question words what is going to be deleted.
func (c *pruneCommand) question() string {
	var parts []string
	for _, a := range c.options.Areas {
		word := areaWords[a]
		if a == space.Images && c.all {
			word = "all images"
		}
		parts = append(parts, word)
	}
	switch {
	case len(parts) > 0:
	case c.all && len(c.options.Labels) > 0:
		parts = []string{"all images"}
	case c.all:
		parts = []string{"all images and the build cache"}
	default:
		parts = []string{areaWords[space.Images]}
	}
	text := strings.Join(parts, ", ")
	if c.options.Limit != nil {
		text = "the least recently used of " + text + ", until " + humanSize(*c.options.Limit) + " are left"
	}
	if len(c.filters) > 0 {
		text += ", as far as " + strings.Join(c.filters, " and ") + " holds"
	}
	return sanitizeText(text)
}

// pruneResult is what prune --json prints.
type pruneResult struct {
	DryRun     bool     `json:"dry_run,omitempty"`
	Untagged   []string `json:"untagged"`
	Images     []string `json:"images"`
	Deleted    []string `json:"deleted"`
	Unpacked   int      `json:"unpacked_layers"`
	Records    int      `json:"cache_records"`
	Memories   int      `json:"cache_memories"`
	Mounts     int      `json:"cache_mounts"`
	Compressed int      `json:"compressed_layers"`
	Fetched    int      `json:"fetched"`
	Leftovers  int      `json:"leftovers"`
	Quarantine int      `json:"quarantined"`
	Bytes      int64    `json:"bytes"`
}

func newPruneResult(r space.Report) *pruneResult {
	p := &pruneResult{Untagged: []string{}, Images: []string{}, Deleted: []string{}, Bytes: r.Bytes}
	p.Untagged, p.Images = append(p.Untagged, r.Untagged...), append(p.Images, r.Images...)
	for _, d := range r.Blobs {
		p.Deleted = append(p.Deleted, d.String())
	}
	p.Unpacked, p.Records, p.Mounts = r.Counts[space.KindSnapshot], r.Counts[space.KindRecord], r.Counts[space.KindMount]
	p.Memories = r.Counts[space.KindTOC] + r.Counts[space.KindFact] + r.Counts[space.KindFiles]
	p.Compressed, p.Fetched = r.Counts[space.KindCompressed], r.Counts[space.KindSource]
	p.Leftovers, p.Quarantine = r.Counts[space.KindUnfinished], r.Counts[space.KindQuarantine]
	return p
}

func (c *pruneCommand) print(s *session, r space.Report) error {
	result := newPruneResult(r)
	if result.DryRun = c.dryRun; c.json {
		return writeJSON(s.out, result)
	}
	words := []string{"Untagged:", "Deleted:", "Dropped", "Reclaimed"}
	if c.dryRun {
		words = []string{"Would untag:", "Would delete:", "Would drop", "Would reclaim"}
	}
	var b strings.Builder
	for _, name := range result.Untagged {
		fmt.Fprintf(&b, "%s %s\n", words[0], name)
	}
	for _, d := range result.Deleted {
		fmt.Fprintf(&b, "%s %s\n", words[1], d)
	}
	for _, line := range result.counts() {
		fmt.Fprintf(&b, "%s %s\n", words[2], line)
	}
	fmt.Fprintf(&b, "%s %s\n", words[3], humanSize(r.Bytes))
	_, err := io.WriteString(s.out, b.String())
	return err
}

// counts words what is not listed one by one.
func (p *pruneResult) counts() []string {
	var lines []string
	for _, c := range []struct {
		n         int
		one, many string
	}{
		{p.Records, "record of the build cache", "records of the build cache"},
		{p.Memories, "other entry of the build cache", "other entries of the build cache"},
		{p.Compressed, "compressed form of a layer", "compressed forms of layers"},
		{p.Fetched, "download", "downloads"},
		{p.Mounts, "cache mount", "cache mounts"},
		{p.Unpacked, "unpacked layer", "unpacked layers"},
		{p.Leftovers, "leftover of an interrupted program", "leftovers of interrupted programs"},
		{p.Quarantine, "quarantined directory", "quarantined directories"},
	} {
		switch c.n {
		case 0:
		case 1:
			lines = append(lines, "1 "+c.one)
		default:
			lines = append(lines, fmt.Sprintf("%d %s", c.n, c.many))
		}
	}
	return lines
}

// tellExcess says why more is left than was to be kept.
func (c *pruneCommand) tellExcess(ctx context.Context, s *session, sp space.Space) error {
	census, err := sp.Census(ctx)
	if err != nil {
		return err
	}
	left, held := census.Held(c.options)
	if left <= *c.options.Limit {
		return nil
	}
	what := "the store"
	if len(c.options.Areas) > 0 {
		names := make([]string, len(c.options.Areas))
		for i, a := range c.options.Areas {
			names[i] = string(a)
		}
		what = strings.Join(names, ", ")
	}
	fmt.Fprintf(s.err, "warning: %s still takes %s, more than %s: %s\n", what, humanSize(left), humanSize(*c.options.Limit), wordHeld(held))
	return nil
}

// wordHeld words why what is left does not go.
func wordHeld(h space.Held) string {
	var parts []string
	if h.Made > 0 {
		parts = append(parts, humanSize(h.Made)+" were made just now")
	}
	if h.Named > 0 {
		parts = append(parts, humanSize(h.Named)+" are images with names")
	}
	if h.InUse > 0 {
		parts = append(parts, humanSize(h.InUse)+" are in use")
	}
	if h.Rest > 0 {
		parts = append(parts, humanSize(h.Rest)+" are the rest")
	}
	return strings.Join(parts, ", ")
}
