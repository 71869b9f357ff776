package main

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type imagesCommand struct {
	listing
	all, noTrunc, digests bool
	filterText            []string
	filters               imageFilters
	repository            string
}

func imagesDescription() *command {
	return &command{
		name: "images", args: "[REPOSITORY[:TAG]]", short: "list the images in the store",
		long: "Lists the images that have a name, the newest first; with a REPOSITORY those of it only. " +
			"SIZE is what an image's layers take in the store, DIGEST that of its manifest or index there.\n" +
			"\n" +
			"Filters: dangling=true|false, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, since=IMAGE. Several of " +
			"one kind: any of them; label: all of them.\n" +
			"Fields of templates: .ID .Repository .Tag .Digest .CreatedSince .CreatedAt .Size .Platform",
		examples: []example{
			{"ocibuild images --format '{{.Repository}}:{{.Tag}} {{.Size}}'", "one line an image"},
			{"ocibuild images --filter dangling=true -q", "the ids of images that no name leads to"},
			{"ocibuild images --json | jq -r .ID", "one JSON object a line"},
		},
		make: func() verb { return &imagesCommand{} },
	}
}

func (c *imagesCommand) Flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.all, "all", "a", false, "list images without a name too")
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "print the image ids only")
	fs.BoolVar(&c.noTrunc, "no-trunc", false, "print whole ids")
	fs.BoolVar(&c.digests, "digests", false, "print digests")
	fs.StringArrayVarP(&c.filterText, "filter", "f", nil, "list images for which this `KEY=VALUE` holds (may be repeated)")
	c.declare(fs)
}

func (c *imagesCommand) Check(_ *stdio, args []string) error {
	if err := count(args, 0, 1, "at most one REPOSITORY"); err != nil {
		return err
	}
	if len(args) == 1 {
		c.repository = args[0]
		if _, err := parseRef(strings.NewReplacer("*", "x", "?", "x").Replace(args[0])); err != nil {
			return err
		}
	}
	if err := c.parse(); err != nil {
		return err
	}
	var err error
	c.filters, err = parseFilters(c.filterText)
	return err
}

func (c *imagesCommand) Run(ctx context.Context, s *session) error {
	all := c.all || c.filters.dangling != nil && *c.filters.dangling
	images, err := listImages(ctx, s, all)
	if err != nil {
		return err
	}
	images, err = c.filters.apply(ctx, s, images)
	if err != nil {
		return err
	}
	sortByAge(images)
	var lines []imageLine
	for _, i := range images {
		lines = append(lines, c.lines(i, time.Now())...)
	}
	return c.print(s, lines)
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
	Platform     string
}

// none stands where an image has no name, tag or digest.
const none = "<none>"

// lines gives a line for each name of an image.
func (c *imagesCommand) lines(i *stored, now time.Time) []imageLine {
	base := imageLine{
		ID: shortID(i.id()), Repository: none, Tag: none, Digest: i.desc.Digest.String(),
		CreatedSince: age(i.img.Config.Created, now), CreatedAt: "N/A",
		Size: humanSize(i.size()), Platform: image.FormatPlatform(i.img.Config.Platform),
	}
	if c.noTrunc {
		base.ID = i.id().String()
	}
	if t := i.img.Config.Created; t != nil {
		base.CreatedAt = t.Format("2006-01-02 15:04:05 -0700 MST")
	}
	if len(i.refs) == 0 {
		if c.repository != "" || len(c.filters.reference) > 0 {
			return nil
		}
		return []imageLine{base}
	}
	var out []imageLine
	for _, ref := range i.refs {
		if c.repository != "" && !matchesReference(ref, c.repository) || !c.filters.matchesName(ref) {
			continue
		}
		line := base
		line.Repository, line.Tag = familiarName(ref), ref.Tag()
		if line.Tag == "" {
			line.Tag = none
		}
		out = append(out, line)
	}
	return out
}

// familiarName is a reference as users write it, without tag and digest.
func familiarName(ref image.Ref) string {
	name := ref.Familiar()
	if d := ref.Digest(); d != "" {
		name = strings.TrimSuffix(name, "@"+d.String())
	}
	if t := ref.Tag(); t != "" {
		name = strings.TrimSuffix(name, ":"+t)
	}
	return name
}

// matchesReference matches a name as docker does: the pattern is that of a
// repository or of a repository with its tag; * and ? stay within a component.
func matchesReference(ref image.Ref, pattern string) bool {
	name := familiarName(ref)
	for _, candidate := range []string{name, ref.Familiar(), ref.Host() + "/" + ref.Repository(), ref.String()} {
		if ok, _ := path.Match(pattern, candidate); ok {
			return true
		}
	}
	return false
}

func (c *imagesCommand) print(s *session, lines []imageLine) error {
	if c.quiet {
		return printIDs(s, lines)
	}
	if done, err := writeFormatted(s.out, &c.listing, imageHeaders(), lines); done {
		return err
	}
	headers := []string{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"}
	if c.digests {
		headers = []string{"REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"}
	}
	var rows [][]string
	for _, l := range lines {
		row := []string{l.Repository, l.Tag, l.ID, l.CreatedSince, l.Size}
		if c.digests {
			row = []string{l.Repository, l.Tag, l.Digest, l.ID, l.CreatedSince, l.Size}
		}
		rows = append(rows, row)
	}
	return writeTable(s.out, headers, rows)
}

func imageHeaders() map[string]string {
	return map[string]string{
		"ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST",
		"CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "Size": "SIZE", "Platform": "PLATFORM",
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

// imageFilters are the values of --filter.
type imageFilters struct {
	dangling         *bool
	reference, label []string
	before, since    string
}

// filterKeys are the filters there are.
var filterKeys = []string{"dangling", "reference", "label", "before", "since"}

func parseFilters(texts []string) (imageFilters, error) {
	var f imageFilters
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || value == "" {
			return f, usagef("--filter=%s: a filter looks like KEY=VALUE", text)
		}
		switch key {
		case "dangling":
			b, err := strconv.ParseBool(value)
			if err != nil {
				return f, usagef("--filter=%s: dangling is true or false", text)
			}
			f.dangling = &b
		case "reference":
			if _, err := path.Match(value, ""); err != nil {
				return f, usagef("--filter=%s: %v", text, err)
			}
			f.reference = append(f.reference, value)
		case "label":
			f.label = append(f.label, value)
		case "before":
			f.before = value
		case "since":
			f.since = value
		default:
			e := &usageError{msg: fmt.Sprintf("--filter=%s: unknown filter %q", text, key), hint: "the filters are " + strings.Join(filterKeys, ", ")}
			if near := nearest(key, filterKeys); near != "" {
				e.msg += fmt.Sprintf(" (did you mean %s?)", near)
			}
			return f, e
		}
	}
	return f, nil
}

func (f imageFilters) matchesName(ref image.Ref) bool {
	if len(f.reference) == 0 {
		return true
	}
	for _, pattern := range f.reference {
		if matchesReference(ref, pattern) {
			return true
		}
	}
	return false
}

// apply keeps the images for which the filters hold.
func (f imageFilters) apply(ctx context.Context, s *session, images []*stored) ([]*stored, error) {
	before, err := f.moment(ctx, s, f.before)
	if err != nil {
		return nil, err
	}
	since, err := f.moment(ctx, s, f.since)
	if err != nil {
		return nil, err
	}
	var out []*stored
	for _, i := range images {
		created := unixTime(i.img)
		switch {
		case f.dangling != nil && *f.dangling != (len(i.refs) == 0):
		case f.before != "" && created >= before:
		case f.since != "" && created <= since:
		case !f.matchesLabels(i.img):
		default:
			out = append(out, i)
		}
	}
	return out, nil
}

// moment is when the named image was created.
func (f imageFilters) moment(ctx context.Context, s *session, name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	img, _, err := resolveImage(ctx, s, name)
	if err != nil {
		return 0, err
	}
	return unixTime(img), nil
}

func (f imageFilters) matchesLabels(img *image.Image) bool {
	for _, want := range f.label {
		key, value, hasValue := strings.Cut(want, "=")
		got, ok := img.Config.Config.Labels[key]
		if !ok || hasValue && got != value {
			return false
		}
	}
	return true
}
