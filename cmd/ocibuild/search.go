package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	"github.com/spf13/pflag"
)

type searchCommand struct {
	listing
	term, registry string
	limit          int
	noTrunc, tags  bool
	insecure       []string
}

// searchLimit is how many lines are printed, as docker does.
const searchLimit = 25

func searchDescription() *command {
	return &command{
		name: "search", args: "TERM", short: "find images by a word",
		long: "Lists the images of the store that have TERM in a name, a tag, a label or an annotation. With --registry the " +
			"repositories of a registry that have TERM in their name, and with --list-tags their tags; not every registry " +
			"tells which repositories it has.\n" +
			"Fields of templates: .Name .Description .ID",
		examples: []example{
			{"ocibuild search nginx", ""},
			{"ocibuild search org.example.team=web", "by a label"},
			{"ocibuild search --registry localhost:5000 --list-tags app", ""},
		},
		make: func() verb { return &searchCommand{} },
	}
}

func (c *searchCommand) flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.registry, "registry", "", "search this registry's list of repositories, `HOST[:PORT]`")
	fs.BoolVar(&c.tags, "list-tags", false, "with --registry: print a line for each tag")
	fs.IntVar(&c.limit, "limit", searchLimit, "print at most this `NUMBER` of lines; 0 is all")
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "print the names only")
	fs.BoolVar(&c.noTrunc, "no-trunc", false, "print whole descriptions and ids")
	insecureFlag(fs, &c.insecure)
	c.declare(fs)
}

func (c *searchCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, 1, "one TERM"); err != nil {
		return err
	}
	c.term = args[0]
	switch {
	case c.term == "":
		return usagef("the TERM is empty")
	case c.tags && c.registry == "":
		return &usageError{msg: "--list-tags needs --registry", hint: "what is found in the store has its tags"}
	case c.limit < 0:
		return usagef("--limit=%d: it cannot be negative", c.limit)
	}
	return c.parse()
}

// searchLine is a line of the result, and what templates and JSON see.
type searchLine struct {
	Name        string
	Description string
	ID          string `json:",omitempty"`
}

func (c *searchCommand) run(ctx context.Context, s *session) error {
	find := c.inStore
	if c.registry != "" {
		find = c.atRegistry
	}
	lines, err := find(ctx, s)
	if err != nil {
		return err
	}
	if c.quiet {
		for _, l := range lines {
			if _, err := fmt.Fprintln(s.out, l.Name); err != nil {
				return err
			}
		}
		return nil
	}
	headers := map[string]string{"Name": "NAME", "Description": "DESCRIPTION", "ID": "IMAGE ID"}
	if done, err := writeFormatted(s.out, &c.listing, headers, lines); done {
		return err
	}
	rows := make([][]string, 0, len(lines))
	for _, l := range lines {
		rows = append(rows, []string{l.Name, l.Description})
	}
	return writeTable(s.out, []string{"NAME", "DESCRIPTION"}, rows)
}

// full reports whether there are as many lines as are wanted.
func (c *searchCommand) full(lines []searchLine) bool { return c.limit > 0 && len(lines) >= c.limit }

func (c *searchCommand) inStore(ctx context.Context, s *session) ([]searchLine, error) {
	st, err := s.store()
	if err != nil {
		return nil, err
	}
	found, err := st.Search(ctx, c.term)
	if err != nil {
		return nil, err
	}
	var lines []searchLine
	for _, f := range found {
		if c.full(lines) {
			break
		}
		lines = append(lines, c.line(f))
	}
	return lines, nil
}

func (c *searchCommand) line(f image.Found) searchLine {
	l := searchLine{Name: f.Ref.Familiar(), Description: oneLine(f.Image.Description()), ID: f.Image.ID().String()}
	if !c.noTrunc {
		l.Description, l.ID = clip(l.Description, 45), shortID(f.Image.ID())
	}
	return l
}

func (c *searchCommand) atRegistry(ctx context.Context, s *session) ([]searchLine, error) {
	client := s.client(c.insecure, noDisplay{})
	var lines []searchLine
	for name, err := range client.Catalog(ctx, c.registry) {
		if err != nil {
			return nil, err
		}
		if c.full(lines) {
			break
		}
		if !strings.Contains(strings.ToLower(name), strings.ToLower(c.term)) {
			continue
		}
		full := c.registry + "/" + name
		if !c.tags {
			lines = append(lines, searchLine{Name: full})
			continue
		}
		for tag, err := range client.Tags(ctx, registry.Repository{Host: c.registry, Name: name}) {
			if err != nil {
				return nil, err
			}
			if c.full(lines) {
				break
			}
			lines = append(lines, searchLine{Name: full + ":" + tag})
		}
	}
	return lines, nil
}
