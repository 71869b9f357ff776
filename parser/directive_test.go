package parser

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSyntax reads the directive in all its forms, whatever the rest of the
// file is.
func TestSyntax(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"none", "FROM busybox\nRUN ls\n", ""},
		{"with options", "# syntax = dockerfile:experimental // opts\nFROM busybox\n", "dockerfile:experimental"},
		{"after a shebang", "#!/bin/sh\n# syntax = x:y\nFROM busybox\n", "x:y"},
		{"after a shebang and a blank line", "#!/bin/sh\n\n# syntax = x\n", ""},
		{"in any case", "# SynTax=x\n", "x"},
		{"after another directive", "# escape=`\n# check=skip=all\n# syntax=x\n", "x"},
		{"after one that is unknown", "# key=value\n# syntax=x\n", ""},
		{"behind slashes", "//syntax=foo\n//key=value", "foo"},
		{"behind slashes after a shebang", "#!/bin/sh\n//syntax=x", "x"},
		{"in JSON", `{"syntax": "foo", "bar": ["abc"]}`, "foo"},
		{"in JSON that ends early", `{"syntax": "foo"`, ""},
		{"in JSON that something follows", "{\"syntax\": \"foo\"}\n# syntax=bar", ""},
		{"in JSON as no string", `{"syntax": 1}`, ""},
		{"after a byte order mark", "\ufeff# syntax = mine\nFROM busybox\n", "mine"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, _ := Parse("Dockerfile", []byte(tt.text))
			if d.Syntax != tt.want {
				t.Errorf("got %q, want %q", d.Syntax, tt.want)
			}
		})
	}
}

func TestForeignSyntax(t *testing.T) {
	warning := func(at, name string) []string {
		return []string{at + " ForeignSyntax: The frontend " + name + " is not used: ocibuild reads the file as a Dockerfile itself. " +
			"Remove the syntax line, or write # syntax=docker/dockerfile:1"}
	}
	const file = "\nFROM scratch\n"
	tests := []struct {
		name, text, instead string
		want                []string
		err                 string
	}{
		{name: "ours", text: "# syntax=docker/dockerfile:1" + file},
		{name: "ours without a tag", text: "# syntax=docker/dockerfile" + file},
		{name: "ours by a digest", text: "# syntax=docker/dockerfile:1@sha256:abc" + file},
		{name: "ours from another registry", text: "# syntax=mirror:5000/cache/docker/dockerfile:1.7-labs" + file},
		{name: "the next one", text: "# syntax=docker.io/docker/dockerfile-upstream:master" + file},
		{name: "another", text: "# syntax=dockerfile/x:1" + file, want: warning("1-1", "dockerfile/x:1")},
		{name: "one that is called alike", text: "# escape=`\n# syntax=me/dockerfile" + file, want: warning("2-2", "me/dockerfile")},
		{name: "skipped", text: "# syntax=me/dockerfile\n# check=skip=ForeignSyntax" + file},
		{name: "the argument wins", text: "# syntax=me/dockerfile" + file, instead: " docker/dockerfile:1 x"},
		{name: "the argument is another", text: "# syntax=docker/dockerfile" + file, instead: "you/lang opts", want: warning("0-0", "you/lang")},
		{
			name: "what is no Dockerfile", text: "# syntax=me/lang\nFROM scratch\nINCLUDE Dockerfile.base\n", want: warning("1-1", "me/lang"),
			err: "f:3: unknown instruction: INCLUDE (the file asks for the frontend me/lang; ocibuild reads Dockerfiles alone)",
		},
		{
			name: "a typo in it", text: "# syntax=me/lang\nFORM scratch\n", want: warning("1-1", "me/lang"),
			err: "f:2: unknown instruction: FORM (did you mean FROM?)",
		},
		{
			name: "JSON", text: `{"syntax": "me/lang"}`, want: warning("1-1", "me/lang"),
			err: `f:1: unknown instruction: {"syntax": (the file asks for the frontend me/lang; ocibuild reads Dockerfiles alone)`,
		},
		{
			name: "slashes", text: "// syntax=me/lang\npackage x\n", want: warning("1-1", "me/lang"),
			err: "f:1: unknown instruction: // (the file asks for the frontend me/lang; ocibuild reads Dockerfiles alone)",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := Options{Syntax: tt.instead}.Parse("f", []byte(tt.text))
			if diff := cmp.Diff(tt.want, found(d)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("got  %v\nwant %s", err, tt.err)
			}
		})
	}
}

// FuzzDirectives puts anything before a Dockerfile. What is no directive is a
// comment or an error, and a check that was understood is understood again.
func FuzzDirectives(f *testing.F) {
	for _, seed := range []string{
		"", "# escape=`", "#syntax=a/b:c d\n# CHECK = skip=A, B;error=1;experimental=all", "#!/bin/sh\n# check=error=false",
		"// syntax=x", `{"syntax": "x"}`, "\ufeff# check=skip=all\n# check=skip=all", "# escape=\\\r\n#\n# check=x", "# check=skip==;;",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, head string) {
		d, err := Parse("f", []byte(head+"\nFROM scratch\nRUN a\n"))
		if err != nil && len(d.Lines) == 0 {
			t.Fatal("the lines are lost")
		}
		again, err := Options{Check: &d.Check, Syntax: d.Syntax}.Parse("f", []byte("FROM scratch\n"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d.Check, again.Check); diff != "" || again.Syntax != d.Syntax {
			t.Errorf("%q, then %q\n%s", d.Syntax, again.Syntax, diff)
		}
		for _, r := range Rules() {
			if on := d.Check.Wants(r.Name); on && d.Check.SkipAll && !r.Experimental {
				t.Errorf("%s is wanted though all are skipped", r.Name)
			}
		}
	})
}
