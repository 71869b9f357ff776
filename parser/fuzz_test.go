package parser

import (
	"bytes"
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"",
		"# syntax=a\n# escape=`\n# check=skip=all;error=true\nARG a=b\nFROM $a AS b\nRUN x `\n y\n",
		"FROM a\nCOPY <<A <<-'B' /\n1\nA\n\t2\n\tB\nRUN <<EOF\n#!/bin/sh\nEOF\n",
		"FROM a\nRUN --mount=type=cache,target=$x,\"id=a,b\" --network=none [\"a\"]\n",
		"FROM a\nHEALTHCHECK --interval=1s CMD [\"a\"]\nONBUILD COPY <<E /\nx\nE\n",
		"FROM a\nENV a b\nENV a=b c='d e'\nLABEL \"a b\"=c\nEXPOSE 80/TCP 1:2\nSHELL [\"a\"]\n",
		"FROM --platform=linux/amd64 a as B\n\n#check=skip=X\nWORKDIR a\nUSER b\\\n\n# c\nVOLUME [\"a\"]\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse("f", text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.File != "f" || e.Msg == "" {
				t.Fatalf("not a full *Error: %#v", err)
			}
			checkRange(t, text, e.Range)
			return
		}
		for _, w := range d.Warnings {
			checkRange(t, text, w.Range)
		}
		for _, s := range d.Stages {
			for _, in := range s.Body {
				checkRange(t, text, in.Range())
				checkInstruction(t, in)
			}
		}
	})
}

func checkRange(t *testing.T, text []byte, r Range) {
	t.Helper()
	lines := len(splitLines(text))
	if r != (Range{}) && (r.Start < 1 || r.End < r.Start || r.End > lines+1) {
		t.Errorf("range %v in %d lines", r, lines)
	}
	Excerpt(text, r)
}

func checkInstruction(t *testing.T, in Instruction) {
	t.Helper()
	switch in := in.(type) {
	case *Run:
		in.Script()
		if in.Shell && len(in.Args) != 1 {
			t.Errorf("shell form with %d texts", len(in.Args))
		}
		for _, m := range in.Mounts {
			_, _ = m.Expand(expandTest)
		}
	case *OnBuild:
		// The escape character of a file that stores a trigger is lost, so a
		// trigger may read differently later, but never worse than with an error.
		if _, err := ParseTrigger("t", in.Trigger); err != nil && !errors.As(err, new(*Error)) {
			t.Errorf("trigger %q: %v", in.Trigger, err)
		}
	}
}

func FuzzWord(f *testing.F) {
	for _, seed := range []string{
		"", "a", `"a\"$PWD"`, `'a'$`, "${XXX:-${PWD##*/}}", "${FILE//\\//-}", "${UML%ö*}", "$변수", "${", "`$PWD", `${SLASHED#"a\b"}`,
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, word string, backtick bool) {
		x := Expander{}
		if backtick {
			x.Escape = '`'
		}
		got, err := x.Word(word, testEnv)
		if err == nil && !strings.ContainsAny(word, "$'\"\\`") && got != word {
			t.Errorf("%q becomes %q", word, got)
		}
		words, werr := x.Words(word, testEnv)
		if (err == nil) != (werr == nil) {
			t.Errorf("Word gives %v, Words %v", err, werr)
		}
		blanks := func(s string) string { return strings.Join(strings.Fields(s), "") }
		if all := strings.Join(words, ""); err == nil && blanks(all) != blanks(got) {
			t.Errorf("Word gives %q, Words %q", got, words)
		}
		_, _ = x.Body(word, testEnv)
	})
}

func FuzzParseIgnore(f *testing.F) {
	for _, seed := range [][2]string{
		{"", "a"},
		{"*\n!a/b", "a/b/c"},
		{"**/a\nb/**\nc/**/d\n", "c/x/d"},
		{"a?[b-c]\\*\n# x\n", "axb*"},
		{" /a/ \n!./b\n..", "b"},
		{"*.o\n!x.o\nx*", "y/x.o"},
	} {
		f.Add([]byte(seed[0]), seed[1])
	}
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		ig, err := ParseIgnore(bytes.NewReader(text))
		if err != nil {
			if !errors.As(err, new(*Error)) {
				t.Fatalf("not an *Error: %v", err)
			}
			return
		}
		if name == "." || path.Clean("/" + name)[1:] != name {
			return
		}
		want := oracle(t, text, name)
		if got := excluded(t, ig, name); got != want {
			t.Errorf("walking to %q gives %v, want %v", name, got, want)
		}
		for i := range name {
			if name[i] == '/' && want == false && ig.CanSkip(name[:i]) {
				t.Errorf("%q is in, but %q can be skipped", name, name[:i])
			}
		}
	})
}

// oracle asks the matcher without any of our shortcuts.
func oracle(t *testing.T, text []byte, name string) bool {
	t.Helper()
	patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	var got bool
	var info patternmatcher.MatchInfo
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		if got, info, err = matcher.MatchesUsingParentResults(name[:i], info); err != nil {
			t.Fatal(err)
		}
	}
	return got
}
