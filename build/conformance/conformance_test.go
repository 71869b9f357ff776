package conformance

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEntryLines(t *testing.T) {
	for _, line := range []string{
		`/d dir 0755 0:0`,
		`/f file 4644 1:2 "a\nb" user.k="v w"`,
		`/h file 0644 0:0 = /f`,
		`/l link 0777 0:0 -> "a b"`,
		`"/bad \xff name" fifo 0600 0:0 @1000`,
		`/z file 0644 0:0 zeros:100 @5.500000000`,
		`/dev/x char 0666 0:0 1,3`,
	} {
		tree, err := ParseTree(line)
		if err != nil {
			t.Fatal(err)
		}
		if got := tree[0].String(); got != line {
			t.Errorf("%s\nis read as\n%s", line, got)
		}
	}
	for _, line := range []string{"/f", `/f file "x`, "/f file 9", "/f file 1:x", "/f file @x"} {
		if _, err := ParseTree(line); err == nil {
			t.Errorf("%s is read", line)
		}
	}
}

// Layers are merged as the image specification has it.
func TestViewMerges(t *testing.T) {
	v := newView()
	for _, layer := range []string{
		"a dir 700\na/f file \"1\"\na/g file \"2\"\nb dir\nb/x file \"x\"\nc file\n",
		"a/.wh.f file\nb dir\nb/.wh..wh..opq file\nb/y file \"y\"\nc dir\nc/k file \"k\"\nn/m/h file = a/g\n",
	} {
		tree, err := ParseTree(layer)
		if err != nil {
			t.Fatal(err)
		}
		var buf bytes.Buffer
		if err := tree.WriteTar(&buf); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "layer")
		if err := os.WriteFile(name, buf.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := v.apply(name); err != nil {
			t.Fatal(err)
		}
	}
	want := `/a dir 0700 0:0
/a/g file 0644 0:0 "2"
/b dir 0755 0:0
/b/y file 0644 0:0 "y"
/c dir 0755 0:0
/c/k file 0644 0:0 "k"
/n dir 0755 0:0
/n/m dir 0755 0:0
/n/m/h file 0644 0:0 = /a/g`
	if d := Diff(strings.Split(want, "\n"), v.tree().Since(nil)); d != "" {
		t.Error(d)
	}
	if err := v.member(&tar.Header{Name: "a/g/x", Typeflag: tar.TypeReg, ModTime: time.Now()}, nil, map[string]bool{}); err == nil {
		t.Error("a file below a file is taken")
	}
}

// A difference that is known is none, unless it is there no more.
func TestKnown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "differs")
	if err := os.WriteFile(file, []byte("# text\nbuildah one: it is wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := ReadKnown(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		builder, name, difference string
		fails                     bool
	}{
		{"buildah", "one", "- x", false},
		{"buildah", "one", "", true},
		{"buildah", "two", "", false},
		{"buildah", "two", "- x", true},
		{"buildkit", "one", "- x", true},
	} {
		if _, err := k.Judge(tt.builder, tt.name, tt.difference); (err != nil) != tt.fails {
			t.Errorf("%v gives %v", tt, err)
		}
	}
}
