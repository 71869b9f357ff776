package parser

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

func parseIgnore(t *testing.T, text string) *Ignore {
	t.Helper()
	ig, err := ParseIgnore(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return ig
}

// excluded asks as a walk does: for each directory on the way first.
func excluded(t *testing.T, ig *Ignore, name string) bool {
	t.Helper()
	var m Match
	for i, c := range name + "/" {
		if c != '/' {
			continue
		}
		var err error
		if m, err = ig.Excluded(name[:i], m); err != nil {
			t.Fatal(err)
		}
	}
	return m.Excluded
}

func TestIgnore(t *testing.T) {
	tests := []struct {
		name, text string
		out, in    string // paths that are left out and that are not
	}{
		{"empty", "", "", "a .dockerignore"},
		{"comments and blanks", "# a\n\n  \n #b\n", "#b", "a b # .dockerignore"},
		{"name", "a", "a a/b a/b/c", "b b/a ab"},
		{"slashes are cleaned", "/a/\n./b\nc//d\ne/../f", "a a/x b c/d f", "c e x/a"},
		{"blanks are cut", "  a  \n\tb\t", "a b", "c"},
		{"carriage returns", "a\r\nb\r\n", "a b", "c"},
		{"byte order mark", "\ufeffa", "a", "b"},
		{"star stays in a component", "*.o\nx/*/y", "a.o .o x/1/y", "b/a.o x/y x/1/2/y"},
		{"question mark", "a?", "ab a1", "a abc a/"},
		{"class", "[ab]c", "ac bc", "cc"},
		{"escape", `\#a`, "#a", "a"},
		{"two stars", "**/a\nb/**\nc/**/d", "a x/a x/y/a b/x b/x/y c/d c/x/y/d", "b c c/x ab"},
		{"all", "*", "a a/b .x", ""},
		{"all but", "*\n!a\n!b/c", "x b b/d x/a", "a a/b b/c b/c/d"},
		{"the last one wins", "a\n!a\na/b", "a/b a/b/c", "a a/c"},
		{"exception first does nothing", "!a/b\na", "a a/b", "b"},
		{"exception with blanks and slash", "a\n!  /a/b", "a a/c", "a/b a/b/c"},
		{"exception inside", "a/*\n!a/b/c", "a/x a/b a/b/d", "a a/b/c"},
		{"exclusion of a directory after its exception", "*\n!a/b\na", "a a/c", "a/b a/b/c"},
		{"parents", "..\n../a", "", "a b"},
		{"dot", ".\n./", "", "a .a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ig := parseIgnore(t, tt.text)
			for want, names := range map[bool]string{true: tt.out, false: tt.in} {
				for name := range strings.FieldsSeq(names) {
					name = path.Clean(name)
					if got := excluded(t, ig, name); got != want {
						t.Errorf("%s: got %v, want %v", name, got, want)
					}
				}
			}
		})
	}
}

func TestIgnoreNil(t *testing.T) {
	var ig *Ignore
	if m, err := ig.Excluded("a", Match{}); err != nil || m.Excluded || ig.CanSkip("a") {
		t.Error("a nil Ignore leaves something out")
	}
}

func TestIgnoreErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"class", "a\n\n[b\n", `.dockerignore:3: bad pattern "[b": syntax error in pattern (a backslash makes the next character literal)`},
		{"exception of nothing", "!\n", `.dockerignore:1: bad pattern "!": illegal exclusion pattern: "!" (a backslash makes the next character literal)`},
		{"exception", "![a", `.dockerignore:1: bad pattern "![a": syntax error in pattern (a backslash makes the next character literal)`},
		{"range", "[b-a]", `.dockerignore:1: bad pattern "[b-a]": syntax error in pattern (a backslash makes the next character literal)`},
		{"long line", strings.Repeat("a", 1<<17), "bufio.Scanner: token too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseIgnore(strings.NewReader(tt.text))
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	broken := errors.New("broken")
	if _, err := ParseIgnore(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

func TestCanSkip(t *testing.T) {
	tests := []struct {
		name, text, dir string
		want            bool
	}{
		{"not excluded", "a", "b", false},
		{"excluded", "a", "a", true},
		{"inside an excluded one", "a", "a/b", true},
		{"exception elsewhere", "a\n!b/c", "a", true},
		{"exception below", "a\n!a/b", "a", false},
		{"exception deep below", "*\n!a/b/c", "a", false},
		{"exception beside", "*\n!a/b/c", "a/x", true},
		{"exception above", "a\n!a\na/b", "a/b", true},
		{"exception with a star", "*\n!*/b", "a", false},
		{"exception with a star, deeper", "*\n!*/b", "a/x", true},
		{"exception at any depth", "*\n!**/b", "a", false},
		{"exception before its directory", "*\n!a/b\na", "a/b", false},
		{"exception of a class", "*\n!a[/]b", "a", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseIgnore(t, tt.text).CanSkip(tt.dir); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestIgnoreConcurrently(t *testing.T) {
	ig := parseIgnore(t, "**/*.o\n*.tmp\n!a/*.o\nx?/[ab]*")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 100 {
				if _, err := ig.Excluded(fmt.Sprintf("d%d/%d.o", i, j), Match{}); err != nil {
					t.Error(err)
				}
				ig.CanSkip("a")
			}
		})
	}
	wg.Wait()
}

func BenchmarkIgnoreWalk(b *testing.B) {
	ig, err := ParseIgnore(strings.NewReader(".git\nnode_modules\n**/*.o\n**/*.tmp\n*.md\n!README.md\nbuild/**\n**/dist\n"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for d := range 100 {
			dir := fmt.Sprintf("src/pkg%d", d)
			parent, _ := ig.Excluded(dir, Match{})
			for f := range 100 {
				if _, err := ig.Excluded(fmt.Sprintf("%s/file%d.go", dir, f), parent); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}
