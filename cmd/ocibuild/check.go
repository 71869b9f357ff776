package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/parser"
)

// check tells what is doubtful in the Dockerfile. What it finds is the
// result, and an exit code of its own.
func (c *buildCommand) check(ctx context.Context, s *session, src *source, err error) error {
	found := src.warnings()
	if err == nil {
		found, err = c.askRules(ctx, s, src)
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if c.json {
		if werr := writeFindings(s.out, src, found, err); werr != nil {
			return werr
		}
	} else {
		printFindings(s.out, src, found, err)
	}
	switch {
	case err != nil:
		return c.fail(s, src, nil, err)
	case len(found) > 0 && !c.call.ignoreStatus:
		return &exitError{exitOther}
	}
	return nil
}

// askRules asks all rules. Registries are asked for base images only when
// --pull says so: what is not in the store is left out of account, and so is a
// store that is not there or cannot be read.
func (c *buildCommand) askRules(ctx context.Context, s *session, src *source) ([]parser.Warning, error) {
	req, err := c.checkRequest(s, src)
	if err != nil {
		return nil, err
	}
	return build.Check(ctx, req)
}

func (c *buildCommand) checkRequest(s *session, src *source) (build.CheckRequest, error) {
	req := build.CheckRequest{Dockerfile: src.dockerfile, ContextDir: src.dir, Fetched: src.fetched, Ignore: src.ignore, Plan: c.plan(), Pull: build.PullNever}
	if !c.pullFlag.Changed && !s.hasStore() {
		return req, nil
	}
	if c.pullFlag.Changed {
		req.Pull = build.PullPolicy(c.pullText)
	}
	st, err := s.store()
	switch {
	case err == nil:
		req.Bases = &bases{store: st, client: s.client(c.insecure, noDisplay{}), show: noDisplay{}, later: true}
	case c.pullFlag.Changed:
		return req, err
	}
	return req, nil
}

// hasStore tells whether there is a store, which opening one would make.
func (s *session) hasStore() bool {
	dir, err := s.root()
	return err == nil && exists(filepath.Join(dir, "oci-layout"))
}

// printFindings prints what was found as `docker build --check` does.
func printFindings(w io.Writer, src *source, found []parser.Warning, err error) {
	switch {
	case len(found) == 1:
		fmt.Fprintln(w, "Check complete, 1 warning has been found!")
	case len(found) > 1:
		fmt.Fprintf(w, "Check complete, %d warnings have been found!\n", len(found))
	case err == nil:
		fmt.Fprintln(w, "Check complete, no warnings found.")
	}
	for _, f := range byLine(found) {
		fmt.Fprintf(w, "\nWARNING: %s", f.Rule)
		if url := parser.RuleNamed(f.Rule).URL; url != "" {
			fmt.Fprintf(w, " - %s", url)
		}
		fmt.Fprintf(w, "\n%s\n", sanitizeLine(f.Msg))
		writeExcerpt(w, src.name, src.text, f.Range)
	}
	if err != nil && len(found) > 0 {
		fmt.Fprintln(w)
	}
}

// findings is what BuildKit's lint request gives as JSON.
type findings struct {
	Warnings []finding      `json:"warnings"`
	Sources  []findingsFile `json:"sources"`
	Error    *findingsError `json:"buildError,omitempty"`
}

type finding struct {
	Rule        string   `json:"ruleName"`
	Description string   `json:"description,omitempty"`
	URL         string   `json:"url,omitempty"`
	Detail      string   `json:"detail,omitempty"`
	Location    location `json:"location"`
}

type findingsFile struct {
	Filename string `json:"filename,omitempty"`
	Data     []byte `json:"data,omitempty"`
	Language string `json:"language,omitempty"`
}

type findingsError struct {
	Message  string   `json:"message"`
	Location location `json:"location"`
}

// location is a place in the only source, whose number is 0 and left out.
type location struct {
	Ranges []lineRange `json:"ranges,omitempty"`
}

type lineRange struct {
	Start position `json:"start"`
	End   position `json:"end"`
}

type position struct {
	Line int `json:"line"`
}

// locate gives a place with a range a line, as BuildKit does.
func locate(r parser.Range) location {
	var l location
	for n := r.Start; n > 0 && n <= r.End; n++ {
		l.Ranges = append(l.Ranges, lineRange{position{n}, position{n}})
	}
	return l
}

// writeFindings prints what was found as JSON.
func writeFindings(w io.Writer, src *source, found []parser.Warning, err error) error {
	f := findings{
		Warnings: []finding{},
		Sources:  []findingsFile{{Filename: src.name, Data: src.text, Language: "Dockerfile"}},
	}
	for _, w := range found {
		rule := parser.RuleNamed(w.Rule)
		f.Warnings = append(f.Warnings, finding{
			Rule: w.Rule, Description: rule.Description, URL: rule.URL, Detail: w.Msg, Location: locate(w.Range),
		})
	}
	if err != nil {
		f.Error = &findingsError{Message: err.Error()}
		var file *parser.Error
		if errors.As(err, &file) {
			f.Error.Message, f.Error.Location = file.Msg, locate(file.Range)
		}
	}
	return writeJSON(w, f)
}
