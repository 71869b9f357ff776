package parser

import (
	"encoding/json"
	goflag "flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = goflag.Bool("update", false, "write the golden files")

func TestExcerpt(t *testing.T) {
	const text = "\ufeffFROM a\r\n\r\nRUN b \\\r\n  c\r\nCMD d"
	tests := []struct {
		name, text string
		r          Range
		want       string
	}{
		{"the first line", text, Range{1, 1}, "   1 | >>> FROM a\n   2 |     \n   3 |     RUN b \\\n"},
		{"several lines", text, Range{3, 4}, "   2 |     \n   3 | >>> RUN b \\\n   4 | >>>   c\n   5 |     CMD d\n"},
		{"the last line", text, Range{5, 5}, "   3 |     RUN b \\\n   4 |       c\n   5 | >>> CMD d\n"},
		{"the last line, and its end", "FROM a\nCMD b\n", Range{2, 2}, "   1 |     FROM a\n   2 | >>> CMD b\n   3 |     \n"},
		{"an end past the file", text, Range{5, 9}, "   4 |       c\n   5 | >>> CMD d\n"},
		{"no line", text, Range{}, ""},
		{"outside", text, Range{6, 6}, ""},
		{"reversed", text, Range{3, 2}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Excerpt([]byte(tt.text), tt.r); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// TestGolden reads each testdata/*.Dockerfile and compares with the .golden
// beside it; go test -update writes those.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.Dockerfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".Dockerfile")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			d, err := Parse("Dockerfile", text)
			if err != nil {
				t.Fatal(err)
			}
			got := dump(t, d)
			golden := strings.TrimSuffix(file, ".Dockerfile") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// dump renders a file: a line for each instruction, stages set apart.
func dump(t *testing.T, d *Dockerfile) string {
	t.Helper()
	var b strings.Builder
	line := func(in Instruction) {
		fields, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		r := in.Range()
		fmt.Fprintf(&b, "%d-%d %s %s\n\t%q\n", r.Start, r.End, in.Keyword(), fields, in.Text())
	}
	fmt.Fprintf(&b, "escape %c syntax %q\n", d.Escape, d.Syntax)
	for _, a := range d.Args {
		line(a)
	}
	for _, s := range d.Stages {
		fmt.Fprintf(&b, "\nstage %d %q\n", s.Index, s.Name)
		line(s.From)
		for _, in := range s.Body {
			line(in)
		}
	}
	if len(d.Warnings) > 0 {
		b.WriteByte('\n')
	}
	for _, w := range d.Warnings {
		fmt.Fprintf(&b, "warning %d-%d %s: %s\n", w.Range.Start, w.Range.End, w.Rule, w.Msg)
	}
	return b.String()
}
