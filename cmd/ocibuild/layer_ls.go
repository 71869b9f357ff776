package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

// layerListing prints layers as layer ls and layer chain do.
type layerListing struct {
	listing
	noTrunc bool
}

const layerFields = "Fields of templates: .ID .DiffID .Parent .Digest .MediaType .Size .Kept .Labels .Images .Descriptor"

func (c *layerListing) declareFlags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "print the ids only")
	fs.BoolVar(&c.noTrunc, "no-trunc", false, "print whole ids")
	c.declare(fs)
}

func (c *layerListing) print(s *session, list []image.StoredLayer) error {
	lines := make([]layerLine, 0, len(list))
	for i := range list {
		lines = append(lines, newLayerLine(&list[i]))
	}
	if c.quiet {
		for _, l := range lines {
			if _, err := fmt.Fprintln(s.out, c.id(l.ID)); err != nil {
				return err
			}
		}
		return nil
	}
	headers := map[string]string{
		"ID": "LAYER", "DiffID": "DIFF ID", "Parent": "PARENT", "Digest": "DIGEST", "MediaType": "TYPE", "Size": "SIZE", "Kept": "KEPT",
		"Labels": "LABELS", "Images": "IMAGES",
	}
	if done, err := writeFormatted(s.out, &c.listing, headers, lines); done {
		return err
	}
	rows := make([][]string, 0, len(lines))
	for _, l := range lines {
		rows = append(rows, []string{c.id(l.ID), c.id(l.Parent), humanSize(l.Size), kept(l), strings.Join(l.Images, ", ")})
	}
	return writeTable(s.out, []string{"LAYER", "PARENT", "SIZE", "KEPT", "IMAGES"}, rows)
}

func (c *layerListing) id(d digest.Digest) string {
	switch {
	case d == "":
		return "-"
	case c.noTrunc:
		return d.String()
	}
	return shortID(d)
}

// kept says whether a layer is kept, and its labels.
func kept(l layerLine) string {
	if !l.Kept {
		return "-"
	}
	words := []string{}
	for _, key := range slices.Sorted(maps.Keys(l.Labels)) {
		words = append(words, oneLine(key+"="+l.Labels[key]))
	}
	if len(words) == 0 {
		return "yes"
	}
	return strings.Join(words, " ")
}

type layerLsCommand struct {
	layerListing
	kept       bool
	filterText []string
}

func layerLsDescription() *command {
	return &command{
		name: "layer ls", short: "list layers",
		long: "Lists the layers of all images that have a name, and those that are kept on their own, parents before what is on " +
			"them. KEPT has the labels of those that are kept.\n" + layerFields,
		examples: []example{
			{"ocibuild layer ls", ""},
			{"ocibuild layer ls -q --kept --filter label=kind=certificates", ""},
		},
		make: func() verb { return &layerLsCommand{} },
	}
}

func (c *layerLsCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&c.kept, "kept", false, "list those alone that are kept on their own")
	fs.StringArrayVarP(&c.filterText, "filter", "f", nil, "list layers for which `label=KEY[=VALUE]` holds (may be repeated)")
	c.declareFlags(fs)
}

func (c *layerLsCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 0, 0, "no arguments"); err != nil {
		return err
	}
	for _, text := range c.filterText {
		if key, value, _ := strings.Cut(text, "="); key != "label" || value == "" {
			return &usageError{msg: fmt.Sprintf("--filter=%s: unknown filter", text), hint: "the filter of layers is label=KEY[=VALUE]"}
		}
	}
	return c.parse()
}

func (c *layerLsCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	list, err := st.Layers(ctx)
	if err != nil {
		return err
	}
	return c.print(s, slices.DeleteFunc(list, func(l image.StoredLayer) bool { return c.kept && !l.Kept || !c.matches(&l) }))
}

func (c *layerLsCommand) matches(l *image.StoredLayer) bool {
	for _, text := range c.filterText {
		key, value, hasValue := strings.Cut(strings.TrimPrefix(text, "label="), "=")
		if got, ok := l.Labels[key]; !ok || hasValue && got != value {
			return false
		}
	}
	return true
}

type layerChainCommand struct {
	layerListing
	name string
}

func layerChainDescription() *command {
	return &command{
		name: "layer chain", args: "LAYER", short: "list a layer and all below it, parents first",
		long:     "Lists a layer and all below it, the bottom first.\n" + layerFields,
		examples: []example{{"ocibuild layer chain 3f2a9c", ""}},
		make:     func() verb { return &layerChainCommand{} },
	}
}

func (c *layerChainCommand) flags(fs *pflag.FlagSet) { c.declareFlags(fs) }

func (c *layerChainCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, 1, "one LAYER"); err != nil {
		return err
	}
	c.name = args[0]
	return c.parse()
}

func (c *layerChainCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	chain, err := st.LayerChain(ctx, c.name)
	if err != nil {
		return layerError(c.name, err)
	}
	return c.print(s, chain)
}

type layerInspectCommand struct {
	names    []string
	format   string
	template *template.Template
}

func layerInspectDescription() *command {
	return &command{
		name: "layer inspect", args: "LAYER...", short: "print everything about layers",
		long: "Prints a JSON array with an object for each layer, or a Go template for each.\n" + layerFields,
		examples: []example{
			{"ocibuild layer inspect 3f2a9c", ""},
			{"ocibuild layer inspect -f '{{.Size}}' 3f2a9c", ""},
		},
		make: func() verb { return &layerInspectCommand{} },
	}
}

func (c *layerInspectCommand) flags(fs *pflag.FlagSet) {
	fs.StringVarP(&c.format, "format", "f", "", "print this Go `TEMPLATE` for each layer, or json")
}

func (c *layerInspectCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, -1, "a LAYER"); err != nil {
		return err
	}
	c.names = args
	if c.format == "" || c.format == "json" {
		return nil
	}
	var err error
	c.template, err = parseTemplate(c.format)
	return err
}

func (c *layerInspectCommand) run(ctx context.Context, s *session) error {
	lines := []layerLine{}
	for _, name := range c.names {
		_, l, err := findLayer(ctx, s, name)
		if err != nil {
			return err
		}
		lines = append(lines, newLayerLine(l))
	}
	if c.format == "" {
		return writeJSON(s.out, lines)
	}
	for _, l := range lines {
		write := func() error { return writeJSONLine(s.out, l) }
		if c.template != nil {
			write = func() error { return execute(s.out, c.template, l) }
		}
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}
