package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

type imagesCommand struct {
	listing
	all, noTrunc, digests, sizes bool
	filterText                   []string
	filters                      image.ListOptions
}

func imagesDescription() *command {
	return &command{
		name: "images", args: "[REPOSITORY[:TAG]]", short: "list the images in the store",
		long: "Lists the images that have a name, the newest first; with a REPOSITORY those of it only. " +
			"SIZE is that of an image's content, for all platforms that are there; SHARED the part that other images " +
			"need too, and UNIQUE the rest, which is free when the image goes. DISK is what the files of its content take on the disk; " +
			"`ocibuild df -v` has unpacked layers too. DIGEST is that of its manifest or index. The id " +
			"of an image for several platforms is its index's digest.\n" +
			"\n" +
			"Filters: dangling=true|false, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME (a date, " +
			"or 24h for a day ago). Several references: any of them; labels: all of them.\n" +
			"Fields of templates: .ID .Repository .Tag .Digest .CreatedSince .CreatedAt .Size .SharedSize .UniqueSize .DiskSize .Bytes .DiskBytes " +
			".Platform .Platforms",
		examples: []example{
			{"ocibuild images --format '{{.Repository}}:{{.Tag}} {{.Size}}'", "one line an image"},
			{"ocibuild images --filter dangling=true -q", "the ids of images that no name leads to"},
			{"ocibuild images --json | jq -r .ID", "one JSON object a line"},
		},
		make: func() verb { return &imagesCommand{} },
	}
}

func (c *imagesCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.all, "all", "a", false, "list images without a name too")
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "print the image ids only")
	fs.BoolVar(&c.noTrunc, "no-trunc", false, "print whole ids")
	fs.BoolVar(&c.digests, "digests", false, "print digests")
	fs.BoolVarP(&c.sizes, "size", "s", false, "print how much of the size other images share, and what it takes on the disk")
	fs.StringArrayVarP(&c.filterText, "filter", "f", nil, "list images for which this `KEY=VALUE` holds (may be repeated)")
	c.declare(fs)
}

func (c *imagesCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 0, 1, "at most one REPOSITORY"); err != nil {
		return err
	}
	if err := c.parse(); err != nil {
		return err
	}
	var err error
	if c.filters, err = parseFilters(c.filterText, time.Now()); err != nil {
		return err
	}
	c.filters.Unnamed = c.all
	c.filters.Shared = c.sizes || c.json || c.format != ""
	c.filters.Disk = c.sizes || c.json || strings.Contains(c.format, "Disk") || c.format == "json"
	for _, repository := range args {
		if _, err := parseRef(strings.NewReplacer("*", "x", "?", "x").Replace(repository)); err != nil {
			return err
		}
		c.filters.Name = repository
	}
	return nil
}

func (c *imagesCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	images, err := st.List(ctx, c.filters)
	if err != nil {
		return missingImage(strings.Trim(c.filters.Before+" "+c.filters.Since, " "), err)
	}
	var lines []imageLine
	for i := range images {
		if err := images[i].Err; err != nil {
			fmt.Fprintf(s.err, "warning: %s: %s\n", title(&images[i]), message(err))
			continue
		}
		lines = append(lines, c.lines(&images[i], time.Now())...)
	}
	return c.print(s, lines)
}

// title is a name of an image, or its digest.
func title(i *image.Summary) string {
	if len(i.Refs) > 0 {
		return i.Refs[0].Familiar()
	}
	return i.Descriptor.Digest.String()
}

// imageLine is a line of the list, and what templates and JSON see.
type imageLine struct {
	ID           string
	Repository   string
	Tag          string
	Digest       string
	CreatedSince string
	CreatedAt    string
	Size         string
	SharedSize   string
	UniqueSize   string
	DiskSize     string
	Bytes        int64
	DiskBytes    int64
	Platform     string // of the image that stands for the whole
	Platforms    string // all that are in the store
}

// none stands where an image has no name, tag or digest.
const none = "<none>"

// lines gives a line for each name of an image.
func (c *imagesCommand) lines(i *image.Summary, now time.Time) []imageLine {
	main, _ := i.Main()
	size := i.Size()
	base := imageLine{
		ID: c.id(i.ID()), Repository: none, Tag: none, Digest: i.Descriptor.Digest.String(),
		CreatedSince: age(main.Created, now), CreatedAt: "N/A",
		Size: humanSize(size), SharedSize: humanSize(i.Shared), UniqueSize: humanSize(size - i.Shared), Bytes: size,
		DiskSize: humanSize(i.Disk), DiskBytes: i.Disk,
		Platform: platformOf(main), Platforms: platformsOf(i),
	}
	if t := main.Created; t != nil {
		base.CreatedAt = t.Format("2006-01-02 15:04:05 -0700 MST")
	}
	if len(i.Refs) == 0 {
		return []imageLine{base}
	}
	var out []imageLine
	for _, ref := range i.Refs {
		line := base
		line.Repository, line.Tag = ref.FamiliarName(), ref.Tag()
		if line.Tag == "" {
			line.Tag = none
		}
		out = append(out, line)
	}
	return out
}

func (c *imagesCommand) id(d digest.Digest) string {
	if c.noTrunc {
		return d.String()
	}
	return shortID(d)
}

// platformOf is an image's platform; empty for what is no image.
func platformOf(m image.Member) string {
	if m.Kind != image.KindImage {
		return ""
	}
	return image.FormatPlatform(m.Platform)
}

// platformsOf lists the platforms that the store has an image for.
func platformsOf(i *image.Summary) string {
	var list []string
	for _, m := range i.Images() {
		if p := platformOf(m); m.Present && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return strings.Join(list, ",")
}

func (c *imagesCommand) print(s *session, lines []imageLine) error {
	if c.quiet {
		return printIDs(s, lines)
	}
	if done, err := writeFormatted(s.out, &c.listing, imageHeaders(), lines); done {
		return err
	}
	headers := []string{"REPOSITORY", "TAG"}
	if c.digests {
		headers = append(headers, "DIGEST")
	}
	headers = append(headers, "IMAGE ID", "CREATED", "SIZE")
	if c.sizes {
		headers = append(headers, "SHARED", "UNIQUE", "DISK")
	}
	var rows [][]string
	for _, l := range lines {
		row := []string{l.Repository, l.Tag}
		if c.digests {
			row = append(row, l.Digest)
		}
		row = append(row, l.ID, l.CreatedSince, l.Size)
		if c.sizes {
			row = append(row, l.SharedSize, l.UniqueSize, l.DiskSize)
		}
		rows = append(rows, row)
	}
	return writeTable(s.out, headers, rows)
}

func imageHeaders() map[string]string {
	return map[string]string{
		"ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST",
		"CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "Size": "SIZE", "SharedSize": "SHARED",
		"UniqueSize": "UNIQUE", "DiskSize": "DISK", "Bytes": "BYTES", "DiskBytes": "DISK BYTES", "Platform": "PLATFORM", "Platforms": "PLATFORMS",
	}
}

// printIDs prints each image id once.
func printIDs(s *session, lines []imageLine) error {
	seen := map[string]bool{}
	for _, l := range lines {
		if seen[l.ID] {
			continue
		}
		seen[l.ID] = true
		if _, err := fmt.Fprintln(s.out, l.ID); err != nil {
			return err
		}
	}
	return nil
}
