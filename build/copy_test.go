package build

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
)

// landed copies with one instruction onto a tree and gives what was made, a
// line a path, and the facts the step depends on.
func land(t *testing.T, instr, workdir string, context_, below fakeTree) (made []string, facts map[string]string, err error) {
	t.Helper()
	df := dockerfile(t, "FROM scratch\n"+instr+"\n")
	st := scratchState(amd64().Platform)
	if workdir != "" {
		st.Config.Config.WorkingDir = workdir
	}
	tr, err := expandTransfer(scoped{x: parser.Expander{Escape: '\\'}, state: st}, df.Stages[0].Body[0])
	if err != nil {
		return nil, nil, err
	}
	ctx := context.Background()
	sources, err := tr.selectors()
	if err != nil {
		return nil, nil, err
	}
	sel, err := selectSources(ctx, context_, sources)
	if err != nil {
		return nil, nil, err
	}
	var own *owner
	if tr.chown != "" {
		value := strings.NewReplacer("bob", "5", "staff", "50").Replace(tr.chown)
		o, _, err := parseOwnership(value).resolve(ctx, nil)
		if err != nil {
			return nil, nil, err
		}
		own = &o
	}
	l := newLanding(below, time.Unix(0, 0))
	arch := &archives{dir: t.TempDir()}
	defer arch.close()
	if err := tr.land(ctx, l, sel, own, arch); err != nil {
		return nil, nil, err
	}
	for _, f := range mustSettle(t, l) {
		e := f.entry
		kind := map[byte]string{typeDir: "dir", typeReg: "file", typeSymlink: "link"}[e.Type]
		line := fmt.Sprintf("%s %s %04o %d:%d", e.Name, kind, e.Mode, e.UID, e.GID)
		if f.from != nil && e.Type == typeReg {
			line += " = " + f.at
		}
		if e.Type == typeSymlink {
			line += " -> " + e.Linkname
		}
		made = append(made, line)
	}
	return made, l.facts, nil
}

func mustSettle(t *testing.T, l *landing) []*landed {
	t.Helper()
	list, err := l.settled()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestTransferLands(t *testing.T) {
	tree := fakeTree{"a": "A", "b": "B", "dir/x": "X", "dir/sub/y": "Y", "dir/l": "-> x", "link": "-> dir"}
	tests := []struct {
		name, instr, workdir string
		below                fakeTree
		want                 []string
	}{
		{"file to a new name", "COPY a /b", "", nil, []string{"b file 0640 3:4 = a"}},
		{"file into an existing directory", "COPY a /d", "", fakeTree{"d": "private dir"}, []string{"d dir 0700 7:8", "d/a file 0640 3:4 = a"}},
		{"a slash makes the directory", "COPY a /d/", "", nil, []string{"d dir 0755 0:0", "d/a file 0640 3:4 = a"}},
		{"missing parents", "COPY a /p/q/b", "", nil, []string{"p dir 0755 0:0", "p/q dir 0755 0:0", "p/q/b file 0640 3:4 = a"}},
		{"parents belong to --chown", "COPY --chown=bob:staff a /p/b", "", nil, []string{"p dir 0755 5:50", "p/b file 0640 5:50 = a"}},
		{"--chmod goes for parents too", "COPY --chmod=700 a /p/b", "", nil, []string{"p dir 0700 0:0", "p/b file 0700 3:4 = a"}},
		{"symbolic --chmod", "COPY --chmod=u+x,go= a /b", "", nil, []string{"b file 0700 3:4 = a"}},
		{"numeric chown without a group", "COPY --chown=9 a /b", "", nil, []string{"b file 0640 9:9 = a"}},
		{"contents of a directory", "COPY dir /d", "", nil, []string{"d dir 0755 0:0", "d/l link 0777 0:0 -> x", "d/sub dir 0755 0:0", "d/sub/y file 0640 3:4 = dir/sub/y", "d/x file 0640 3:4 = dir/x"}},
		{"an existing root keeps its mode, directories below take the source's", "COPY dir /d", "", fakeTree{"d": "private dir", "d/sub": "private dir"}, []string{"d dir 0700 7:8", "d/l link 0777 0:0 -> x", "d/sub dir 0755 0:0", "d/sub/y file 0640 3:4 = dir/sub/y", "d/x file 0640 3:4 = dir/x"}},
		{"relative to the working directory", "COPY a b/", "/w", nil, []string{"w dir 0755 0:0", "w/b dir 0755 0:0", "w/b/a file 0640 3:4 = a"}},
		{"a dot is the working directory", "COPY a .", "/w", nil, []string{"w dir 0755 0:0", "w/a file 0640 3:4 = a"}},
		{"slash and dot make a directory", "COPY a /d/.", "", nil, []string{"d dir 0755 0:0", "d/a file 0640 3:4 = a"}},
		{"several sources", "COPY a b /d/", "", nil, []string{"d dir 0755 0:0", "d/a file 0640 3:4 = a", "d/b file 0640 3:4 = b"}},
		{"wildcard", "COPY [ab] /d/", "", nil, []string{"d dir 0755 0:0", "d/a file 0640 3:4 = a", "d/b file 0640 3:4 = b"}},
		{"wildcard with one match and no slash is a name", "COPY a* /d", "", nil, []string{"d file 0640 3:4 = a"}},
		{"wildcard without a match", "COPY z* /d/", "", nil, nil},
		{"wildcard across components", "COPY d*/s*/y /d/", "", nil, []string{"d dir 0755 0:0", "d/y file 0640 3:4 = dir/sub/y"}},
		{"a linked source is followed", "COPY link /d", "", nil, []string{"d dir 0755 0:0", "d/l link 0777 0:0 -> x", "d/sub dir 0755 0:0", "d/sub/y file 0640 3:4 = dir/sub/y", "d/x file 0640 3:4 = dir/x"}},
		{"a link to a file keeps the link's name", "COPY dir/l /d/", "", nil, []string{"d dir 0755 0:0", "d/l file 0640 3:4 = dir/x"}},
		{"a source that expands to nothing is all there is", "COPY --exclude=link --exclude=dir $nothing /d", "", nil, []string{"d dir 0755 0:0", "d/a file 0640 3:4 = a", "d/b file 0640 3:4 = b"}},
		{"no variables in --exclude", "COPY --exclude=$nothing a /b", "", nil, []string{"b file 0640 3:4 = a"}},
		{"the source cannot leave the context", "COPY ../../a /b", "", nil, []string{"b file 0640 3:4 = a"}},
		{"links in the destination are followed", "COPY a /l/b", "", fakeTree{"l": "-> /real", "real": "private dir"}, []string{"real dir 0700 7:8", "real/b file 0640 3:4 = a"}},
		{"and never lead out of the root", "COPY a /l/b", "", fakeTree{"l": "-> ../../x"}, []string{"x dir 0755 0:0", "x/b file 0640 3:4 = a"}},
		{"a file replaces a file", "COPY a /f", "", fakeTree{"f": "old"}, []string{"f file 0640 3:4 = a"}},
		{"the root itself", "COPY dir /", "", nil, []string{"l link 0777 0:0 -> x", "sub dir 0755 0:0", "sub/y file 0640 3:4 = dir/sub/y", "x file 0640 3:4 = dir/x"}},
		{"heredoc", "COPY <<one <<two /d/\n1\none\n2\ntwo", "", nil, []string{"d dir 0755 0:0", "d/one file 0644 0:0 = one", "d/two file 0644 0:0 = two"}},
		{"exclude inside a directory", "COPY --exclude=sub --exclude=*x dir /d", "", nil, []string{"d dir 0755 0:0", "d/l link 0777 0:0 -> x"}},
		{"exclude with an exception", "COPY --exclude=sub --exclude=!sub/y --exclude=x dir /d", "", nil, []string{"d dir 0755 0:0", "d/l link 0777 0:0 -> x", "d/sub dir 0755 0:0", "d/sub/y file 0640 3:4 = dir/sub/y"}},
		{"exclude does not apply to the match itself", "COPY --exclude=a a /d/", "", nil, []string{"d dir 0755 0:0", "d/a file 0640 3:4 = a"}},
		{"exclude everything", "COPY --exclude=* dir /d", "", nil, []string{"d dir 0755 0:0"}},
		{"parents", "COPY --parents dir/sub/y /d/", "", nil, []string{"d dir 0755 0:0", "d/dir dir 0755 0:0", "d/dir/sub dir 0755 0:0", "d/dir/sub/y file 0640 3:4 = dir/sub/y"}},
		{"parents with a pivot", "COPY --parents dir/./sub/y /d/", "", nil, []string{"d dir 0755 0:0", "d/sub dir 0755 0:0", "d/sub/y file 0640 3:4 = dir/sub/y"}},
		{"parents with wildcards", "COPY --parents **/y a* /d/", "", nil, []string{"d dir 0755 0:0", "d/a file 0640 3:4 = a", "d/dir dir 0755 0:0", "d/dir/sub dir 0755 0:0", "d/dir/sub/y file 0640 3:4 = dir/sub/y"}},
		{"parents of a directory takes what is in it", "COPY --parents dir/sub /d/", "", nil, []string{"d dir 0755 0:0", "d/dir dir 0755 0:0", "d/dir/sub dir 0755 0:0", "d/dir/sub/y file 0640 3:4 = dir/sub/y"}},
		{"a parent that exists keeps its owner", "COPY --parents dir/x /", "", fakeTree{"dir": "private dir"}, []string{"dir dir 0755 7:8", "dir/x file 0640 3:4 = dir/x"}},
		{"parents without a match", "COPY --parents z*/y /d/", "", nil, []string{"d dir 0755 0:0"}},
		{"files beside their directory's name", "COPY a /d-x", "", fakeTree{"d": "dir"}, []string{"d-x file 0640 3:4 = a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := land(t, tt.instr, tt.workdir, tree, tt.below)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTransferRefuses(t *testing.T) {
	tree := fakeTree{"a": "A", "dir/x": "X", "loop": "-> loop"}
	for name, tt := range map[string]struct {
		instr string
		below fakeTree
		want  string
	}{
		"missing source":              {"COPY nope /", nil, "not found"},
		"missing source with parents": {"COPY --parents dir/nope /", nil, "not found"},
		"parent that is a file":       {"COPY --parents dir/x /", fakeTree{"dir": "file"}, "cannot copy to non-directory"},
		"file over a directory":       {"COPY dir /d", fakeTree{"d/x": "dir"}, "cannot replace directory"},
		"directory over a file":       {"COPY dir /f", fakeTree{"f": "file"}, "cannot copy to non-directory"},
		"parent is a file":            {"COPY a /f/x", fakeTree{"f": "file"}, "not a directory"},
		"link loop in the source":     {"COPY loop /x", nil, "too many levels"},
		"link loop in the target":     {"COPY a /l/x", fakeTree{"l": "-> l"}, "too many levels"},
		"mode out of range":           {"COPY --chmod=17777 a /", nil, "between 0 and 07777"},
		"mode that is nothing":        {"COPY --chmod=u?x a /", nil, "invalid chmod"},
		"a URL":                       {"COPY https://example.org/a /", nil, "can't be a URL"},
		"chown by name with link":     {"COPY --link --chown=bob a /", nil, "can't be resolved when used with --link"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := land(t, tt.instr, "", tree, tt.below); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// A file of the image that an archive links to is part of what the step depends on.
func TestHardLinkFacts(t *testing.T) {
	link := tar.Header{Name: "l", Linkname: "have", Typeflag: tar.TypeLink, Mode: 0o777}
	for _, below := range []fakeTree{{"have": "one"}, {"have": "two"}} {
		_, facts, err := land(t, "ADD x.tgz /", "", fakeTree{"x.tgz": archiveOf(t, link)}, below)
		if err != nil {
			t.Fatal(err)
		}
		if want := digest.FromString(below["have"]).String(); !strings.Contains(facts["have"], want) {
			t.Errorf("the fact is %q, which does not tell %s", facts["have"], want)
		}
	}
}

// A step is keyed on what it asked of the tree below, and on nothing else.
func TestLandingFacts(t *testing.T) {
	tree := fakeTree{"a": "A", "dir/x": "X"}
	for name, tt := range map[string]struct {
		instr string
		below fakeTree
		want  map[string]string
	}{
		"absent parents":               {"COPY a /p/b", fakeTree{"other": "1"}, map[string]string{"p": "absent", "p/b": "absent"}},
		"a directory's mode and owner": {"COPY a /d/", fakeTree{"d": "private dir", "d/z": "z"}, map[string]string{"d": "dir 0700 7:8", "d/a": ""}},
		"a link":                       {"COPY a /l/", fakeTree{"l": "-> r", "r": "dir"}, map[string]string{"l": "link r", "r": "dir 0755 0:0"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, facts, err := land(t, tt.instr, "", tree, tt.below)
			if err != nil {
				t.Fatal(err)
			}
			for p, want := range tt.want {
				if facts[p] != want {
					t.Errorf("fact of %s is %q, want %q", p, facts[p], want)
				}
			}
			if _, ok := facts["other"]; ok {
				t.Error("looked at a path that does not matter")
			}
		})
	}
}

func TestSelectionDigest(t *testing.T) {
	digestOf := func(tree fakeTree, sources ...string) string {
		s, err := selectSources(context.Background(), tree, plainSources(sources...))
		if err != nil {
			t.Fatal(err)
		}
		d, err := s.identify(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return string(d)
	}
	base := fakeTree{"d/a": "A", "d/b": "B", "other": "1"}
	same := digestOf(base, "d")
	for name, tt := range map[string]struct {
		tree    fakeTree
		sources []string
		equal   bool
	}{
		"a file that is not selected":  {fakeTree{"d/a": "A", "d/b": "B", "other": "2"}, []string{"d"}, true},
		"other bytes":                  {fakeTree{"d/a": "A", "d/b": "C"}, []string{"d"}, false},
		"another name":                 {fakeTree{"d/a": "A", "d/c": "B"}, []string{"d"}, false},
		"one file more":                {fakeTree{"d/a": "A", "d/b": "B", "d/c": ""}, []string{"d"}, false},
		"a link instead of a file":     {fakeTree{"d/a": "A", "d/b": "-> a"}, []string{"d"}, false},
		"the files by their own names": {base, []string{"d/a", "d/b"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := digestOf(tt.tree, tt.sources...) == same; got != tt.equal {
				t.Errorf("equal is %v, want %v", got, tt.equal)
			}
		})
	}
	linked := digestOf(fakeTree{"d/hard1": "A", "d/hard2": "A"}, "d")
	apart := digestOf(fakeTree{"d/hard1": "A", "d/hard2": "B"}, "d")
	alone := digestOf(fakeTree{"hard1": "A", "d/hard2": "A"}, "hard1")
	if linked == apart {
		t.Error("hard links do not matter")
	}
	if alone != digestOf(fakeTree{"hard1": "A"}, "hard1") {
		t.Error("a link whose other name is not selected matters")
	}
}

func TestHardLinksStayLinked(t *testing.T) {
	tree := fakeTree{"d/hard1": "same", "d/hard2": "same", "d/z": "same"}
	var buf bytes.Buffer
	w := layer.NewWriter(&buf)
	ctx := context.Background()
	sel, err := selectSources(ctx, tree, plainSources("d"))
	if err != nil {
		t.Fatal(err)
	}
	l := newLanding(emptyTree{}, time.Unix(0, 0))
	tr := &transfer{keyword: "COPY", dest: "/"}
	if err := tr.land(ctx, l, sel, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.write(ctx, w); err != nil {
		t.Fatal(err)
	}
	_, toc, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range toc.Entries {
		got = append(got, fmt.Sprintf("%s %c %s", e.Name, e.Type, e.Linkname))
	}
	want := []string{"hard1 0 ", "hard2 1 hard1", "z 0 "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestChmod(t *testing.T) {
	for _, tt := range []struct {
		text string
		mode int64
		dir  bool
		want int64
	}{
		{"755", 0o600, false, 0o755},
		{"4755", 0, false, 0o4755},
		{"0", 0o777, false, 0},
		{"+x", 0o644, false, 0o755},
		{"u=rw,go=r", 0o777, false, 0o644},
		{"a-w", 0o666, false, 0o444},
		{"go=u", 0o640, false, 0o666},
		{"X", 0, false, -1},
		{"+X", 0o644, false, 0o644},
		{"+X", 0o644, true, 0o755},
		{"u+s", 0o755, false, 0o4755},
		{"g+s", 0o755, true, 0o2755},
		{"+t", 0o755, true, 0o1755},
		{"u=rwx,g=,o=", 0o777, false, 0o700},
	} {
		c, err := parseChmod(tt.text)
		if tt.want < 0 {
			if err == nil {
				t.Errorf("%s is accepted", tt.text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if got := c.apply(tt.mode, tt.dir); got != tt.want {
			t.Errorf("%s on %04o is %04o, want %04o", tt.text, tt.mode, got, tt.want)
		}
	}
}

func TestDestination(t *testing.T) {
	for _, tt := range []struct{ workdir, dest, want string }{
		{"/w", "/a", "/a"}, {"/w", "a", "/w/a"}, {"/w", ".", "/w/"}, {"/w", "./", "/w/"}, {"/w", "a/.", "/w/a/."}, {"/", "/", "/"}, {"/", ".", "/"}, {"/w", "../x/", "/x/"}, {"", "a/", "/a/"},
	} {
		if got := destination(tt.workdir, tt.dest); got != tt.want {
			t.Errorf("destination(%q, %q) = %q, want %q", tt.workdir, tt.dest, got, tt.want)
		}
	}
}

func TestParseOwnership(t *testing.T) {
	for value, want := range map[string]struct {
		user, group string
		byName      bool
	}{
		"bob":        {"bob", "", true},
		"bob:staff":  {"bob", "staff", true},
		"7":          {"7", "", false},
		"7:8":        {"7", "8", false},
		"root":       {"0", "", false},
		"bob:":       {"bob", "", true},
		"7:staff":    {"7", "staff", true},
		":staff":     {"0", "staff", true},
		":root":      {"0", "0", false},
		"-2":         {"4294967294", "", false},
		"-1":         {"0", "", false},
		"2147483648": {"2147483648", "", true}, // a name, too large for a number
	} {
		o := parseOwnership(value)
		text := func(a account) string {
			if a.name != "" {
				return a.name
			}
			return strconv.Itoa(a.id)
		}
		group := ""
		if o.group != nil {
			group = text(*o.group)
		}
		if text(o.user) != want.user || group != want.group || o.byName() != want.byName {
			t.Errorf("%s is %s:%s, by name %v", value, text(o.user), group, o.byName())
		}
	}
}

func TestFindLine(t *testing.T) {
	file := []byte("root:x:0:0\n#bob:x:1:1\n\nshort:x:5\n  bob:x:5:6:::\nbob:x:7:8\nodd:x:y:9\n")
	for name, want := range map[string]string{"bob": "5:6", "short": "5:0", "root": "0:0", "odd": "0:9", "nobody": "0:0"} {
		f := findLine(file, name)
		if got := fmt.Sprintf("%d:%d", idAt(f, 2), idAt(f, 3)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestComparePaths(t *testing.T) {
	sorted := []string{"a", "a/b", "a/b/c", "a-b", "a.b", "ab"}
	for i := 1; i < len(sorted); i++ {
		if comparePaths(sorted[i-1], sorted[i]) >= 0 {
			t.Errorf("%q does not sort before %q", sorted[i-1], sorted[i])
		}
	}
}
