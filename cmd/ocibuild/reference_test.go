package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
)

// TestReferenceIsWhole compares the table with what the parser knows: what one
// has and the other has not is a mistake in the table.
func TestReferenceIsWhole(t *testing.T) {
	var keywords, mounts, options []string
	for _, in := range dockerfileReference {
		keywords = append(keywords, in.keyword)
		var have, want []string
		for _, f := range in.flags {
			have = append(have, f.name)
		}
		for _, f := range parser.Flags(in.keyword) {
			want = append(want, f.Name)
		}
		sameWords(t, "flags of "+in.keyword, have, want)
		for _, m := range in.mounts {
			mounts = append(mounts, m.name)
		}
	}
	sameWords(t, "instructions", keywords, parser.Keywords())
	sameWords(t, "mount types", mounts, parser.MountTypes())
	for _, o := range mountOptions {
		options = append(options, strings.Split(o.names, ", ")...)
	}
	sameWords(t, "mount options", options, parser.MountOptions())
	if !slices.IsSorted(keywords) {
		t.Error("the instructions are not in the order of the alphabet")
	}
}

func sameWords(t *testing.T, what string, have, want []string) {
	t.Helper()
	for _, w := range want {
		if !slices.Contains(have, w) {
			t.Errorf("%s: reference.go lacks %s", what, w)
		}
	}
	for _, h := range have {
		if !slices.Contains(want, h) {
			t.Errorf("%s: reference.go has %s, which the parser does not know", what, h)
		}
	}
	if len(have) != len(want) {
		t.Errorf("%s: %d in reference.go, %d in the parser", what, len(have), len(want))
	}
}

// TestReferenceIsTrue tries everything in the table.
func TestReferenceIsTrue(t *testing.T) {
	for _, in := range dockerfileReference {
		for _, e := range in.examples {
			planned(t, e)
		}
		for _, f := range in.flags {
			if !strings.HasPrefix(f.use, in.keyword+" --"+f.name) {
				t.Errorf("%q does not use %s --%s", f.use, in.keyword, f.name)
			}
			planned(t, f.use)
		}
		for _, m := range in.mounts {
			if !strings.HasPrefix(m.use, "type="+m.name) {
				t.Errorf("%q is no mount of type %s", m.use, m.name)
			}
			planned(t, "RUN --mount="+m.use+" true")
		}
	}
}

func planned(t *testing.T, text string) {
	t.Helper()
	if !strings.HasPrefix(text, "FROM") {
		text = "FROM scratch AS build\nFROM scratch AS last\n" + text + "\n"
	}
	df, err := parser.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return
	}
	all := build.Allowed{NetworkHost: true, SecurityInsecure: true, AllDevices: true}
	p := image.HostPlatform()
	if _, err := build.Plan(df, build.PlanOptions{Platform: p, BuildPlatform: p, Allow: all}); err != nil {
		t.Errorf("%s: %v", text, err)
	}
}

// TestMountOptionsAreTrue tries each option with each type that has it.
func TestMountOptionsAreTrue(t *testing.T) {
	values := map[string]string{"readonly": "true", "readwrite": "true", "required": "true", "size": "1m", "mode": "0755", "uid": "1", "gid": "1", "sharing": "locked"}
	run, _ := findInstruction("run")
	for _, m := range run.mounts {
		for _, o := range m.options {
			value := values[o]
			if value == "" {
				value = "x"
			}
			text := "FROM scratch\nRUN --mount=type=" + m.name + "," + o + "=" + value
			if m.name == "secret" && o != "id" && o != "target" {
				text += ",id=a"
			}
			if _, err := parser.Parse("Dockerfile", []byte(text+" true\n")); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
}

// TestReferenceFits keeps each page to a screen.
func TestReferenceFits(t *testing.T) {
	page := func(name string, lines int, write func(*strings.Builder) error) {
		var b strings.Builder
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		text := strings.TrimSuffix(b.String(), "\n")
		if n := strings.Count(text, "\n") + 1; n > lines {
			t.Errorf("%s has %d lines, more than %d", name, n, lines)
		}
		for line := range strings.SplitSeq(text, "\n") {
			if len(line) > 80 {
				t.Errorf("%s: too long: %s", name, line)
			}
		}
	}
	for _, in := range dockerfileReference {
		lines := 30
		if len(in.mounts) > 0 {
			lines = 50
		}
		page(in.keyword, lines, func(b *strings.Builder) error { return writeInstruction(b, in) })
	}
	page("dockerfile", 45, func(b *strings.Builder) error { return writeReference(b) })
	page("checks", 100, func(b *strings.Builder) error { return writeChecks(b) })
}

// TestReferenceInReadme compares the short form with the table.
func TestReferenceInReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := referenceTable(); !strings.Contains(string(text), want) {
		t.Errorf("the README lacks this table:\n%s", want)
	}
	for _, r := range parser.Rules() {
		if r.Own && !strings.Contains(string(text), "| `"+r.Name+"` |") {
			t.Errorf("the README lacks the rule %s", r.Name)
		}
	}
}

// referenceTable is the list of instructions and flags as the README has it.
func referenceTable() string {
	var b strings.Builder
	b.WriteString("| instruction | does | flags |\n|---|---|---|\n")
	for _, in := range dockerfileReference {
		var flags []string
		for _, f := range in.flags {
			if f.name != "mount" {
				flags = append(flags, "`--"+f.name+"`")
			}
		}
		for _, m := range in.mounts {
			flags = append(flags, "`--mount=type="+m.name+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", in.keyword, in.short, strings.Join(flags, " "))
	}
	return strings.ReplaceAll(b.String(), "|  |", "| |")
}
