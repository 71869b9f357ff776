package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/ocibuild/ocibuild/build"
)

// The methods of --call.
const (
	callBuild   = "build"
	callCheck   = "check"
	callOutline = "outline"
	callTargets = "targets"
)

var callMethods = []string{callBuild, callCheck, callOutline, callTargets}

// call is a value of --call: what to do with the Dockerfile.
type call struct {
	method       string
	json         bool
	ignoreStatus bool // findings are no failure
}

// parseCall reads METHOD[,format=FORMAT][,ignorestatus=BOOL], as docker build takes it.
func parseCall(text string, check bool) (call, error) {
	c := call{method: callBuild}
	for i, word := range strings.Split(text, ",") {
		if i == 0 && !strings.Contains(word, "=") {
			c.method = word
			continue
		}
		if err := c.option(text, word); err != nil {
			return c, err
		}
	}
	switch {
	case !slices.Contains(callMethods, c.method):
		return c, oneOf("--call", c.method, callMethods)
	case check && c.method != callBuild && c.method != callCheck:
		return c, usagef("--check and --call=%s cannot both be done", c.method)
	case check:
		c.method = callCheck
	}
	return c, nil
}

// option reads one KEY=VALUE of a --call, whose whole text is for messages.
func (c *call) option(text, word string) (err error) {
	key, value, pair := strings.Cut(word, "=")
	switch {
	case key == "format" && (value == "json" || value == "text"):
		c.json = value == "json"
	case key == "format":
		return oneOf("--call=format", value, []string{"text", "json"})
	case key == "ignorestatus" && pair:
		if c.ignoreStatus, err = strconv.ParseBool(value); err != nil {
			return usagef("--call=%s: ignorestatus is true or false", text)
		}
	default:
		return &usageError{msg: "--call=" + text + ": unknown option " + key, hint: "it is METHOD[,format=json][,ignorestatus=true]"}
	}
	return nil
}

// answer tells something about the Dockerfile and builds nothing.
func (c *buildCommand) answer(ctx context.Context, s *session) error {
	w := &workshop{c: c, s: s}
	defer w.close()
	src, err := c.readSource(ctx, w)
	w.closeDisplay()
	if src.dockerfile == nil || err != nil && c.call.method != callCheck {
		return c.fail(s, src, nil, err)
	}
	switch c.call.method {
	case callOutline:
		err = c.outline(ctx, s, src)
	case callTargets:
		err = c.listTargets(s.out, src)
	default:
		return c.check(ctx, s, src, err)
	}
	if err != nil {
		return c.fail(s, src, nil, err)
	}
	return nil
}

// outlineJSON is what BuildKit's outline request gives as JSON.
type outlineJSON struct {
	Name        string         `json:"name,omitempty"`
	Description string         `json:"description,omitempty"`
	Args        []argJSON      `json:"args,omitempty"`
	Secrets     []requiredJSON `json:"secrets,omitempty"`
	SSH         []requiredJSON `json:"ssh,omitempty"`
	Sources     [][]byte       `json:"sources,omitempty"`
}

type argJSON struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Value       string   `json:"value,omitempty"`
	Location    location `json:"location"`
}

type requiredJSON struct {
	Name     string   `json:"name"`
	Required bool     `json:"required,omitempty"`
	Location location `json:"location"`
}

// outline prints what the target takes.
func (c *buildCommand) outline(ctx context.Context, s *session, src *source) error {
	req, err := c.checkRequest(s, src)
	if err != nil {
		return err
	}
	o, err := build.OutlineOf(ctx, req)
	if err != nil {
		return err
	}
	if c.json {
		return writeJSON(s.out, newOutlineJSON(o, src))
	}
	return printOutline(s.out, o)
}

func newOutlineJSON(o *build.Outline, src *source) outlineJSON {
	j := outlineJSON{Name: o.Name, Description: o.Description, Sources: [][]byte{src.text}}
	for _, a := range o.Args {
		j.Args = append(j.Args, argJSON{Name: a.Name, Description: a.Description, Value: a.Value, Location: locate(a.Range)})
	}
	required := func(list []build.OutlineMount) (out []requiredJSON) {
		for _, m := range list {
			out = append(out, requiredJSON{Name: m.Name, Required: m.Required, Location: locate(m.Range)})
		}
		return out
	}
	j.Secrets, j.SSH = required(o.Secrets), required(o.SSH)
	return j
}

func printOutline(w io.Writer, o *build.Outline) error {
	var t tables
	if o.Name != "" {
		t.begin(1, "TARGET:", o.Name)
		if o.Description != "" {
			t.row("DESCRIPTION:", o.Description)
		}
	}
	if len(o.Args) > 0 {
		t.begin(3, "BUILD ARG", "VALUE", "DESCRIPTION")
		for _, a := range o.Args {
			t.row(a.Name, a.Value, a.Description)
		}
	}
	for _, kind := range []struct {
		title string
		list  []build.OutlineMount
	}{{"SECRET", o.Secrets}, {"SSH", o.SSH}} {
		if len(kind.list) == 0 {
			continue
		}
		t.begin(3, kind.title, "REQUIRED")
		for _, m := range kind.list {
			required := ""
			if m.Required {
				required = "true"
			}
			t.row(m.Name, required)
		}
	}
	t.end()
	_, err := io.WriteString(w, t.text.String())
	return err
}

// tables prints tables with an empty line behind each.
type tables struct {
	text strings.Builder
	tab  *tabwriter.Writer
}

func (t *tables) begin(padding int, cells ...string) {
	t.end()
	t.tab = tabwriter.NewWriter(&t.text, 0, 0, padding, ' ', 0)
	t.row(cells...)
}

func (t *tables) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = sanitizeLine(cell)
	}
	fmt.Fprintln(t.tab, strings.Join(cells, "\t"))
}

func (t *tables) end() {
	if t.tab != nil {
		_ = t.tab.Flush()
		t.text.WriteByte('\n')
	}
}

// targetsJSON is what BuildKit's targets request gives as JSON.
type targetsJSON struct {
	Targets []targetJSON `json:"targets"`
	Sources [][]byte     `json:"sources"`
}

type targetJSON struct {
	Name        string   `json:"name,omitempty"`
	Default     bool     `json:"default,omitempty"`
	Description string   `json:"description,omitempty"`
	Base        string   `json:"base,omitempty"`
	Platform    string   `json:"platform,omitempty"`
	Location    location `json:"location"`
}

// listTargets prints the stages.
func (c *buildCommand) listTargets(w io.Writer, src *source) error {
	list := build.Targets(src.dockerfile)
	if c.json {
		j := targetsJSON{Sources: [][]byte{src.text}}
		for _, t := range list {
			j.Targets = append(j.Targets, targetJSON{t.Name, t.Default, t.Description, t.Base, t.Platform, locate(t.Range)})
		}
		return writeJSON(w, j)
	}
	tab := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprint(tab, "TARGET\tDESCRIPTION\n")
	for _, t := range list {
		name := t.Name
		switch {
		case t.Default && name == "":
			name = "(default)"
		case t.Default:
			name += " (default)"
		}
		fmt.Fprintf(tab, "%s\t%s\n", name, sanitizeLine(t.Description))
	}
	return tab.Flush()
}
