package conformance

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Entry is one path of a tree.
type Entry struct {
	// Path is absolute and clean in trees that were read from images, and as
	// it was written elsewhere.
	Path string
	// Type is one of the types of doc.go.
	Type     string
	Mode     int64
	UID, GID int
	// Data are the bytes of a regular file.
	Data []byte
	// Target is what a symbolic link says; Same the path that a hard link
	// shares its file with.
	Target, Same string
	Major, Minor int64
	Xattrs       map[string]string
	// Time is zero where nobody cares.
	Time time.Time
	// User and Group are the names of the owner, in archives.
	User, Group string
}

// Tree is a file tree.
type Tree []Entry

// ours is the year from which on times are those of the test itself.
const ours = 2001

const maxText = 64

// String gives the entry's line.
func (e Entry) String() string {
	words := []string{quote(e.Path), e.Type, fmt.Sprintf("%04o", e.Mode), fmt.Sprintf("%d:%d", e.UID, e.GID)}
	switch {
	case e.Same != "":
		words = append(words, "=", quote(e.Same))
	case e.Type == "file":
		words = append(words, content(e.Data)...)
	case e.Type == "link":
		words = append(words, "->", quote(e.Target))
	case e.Type == "char" || e.Type == "block":
		words = append(words, fmt.Sprintf("%d,%d", e.Major, e.Minor))
	}
	for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
		words = append(words, k+"="+strconv.Quote(e.Xattrs[k]))
	}
	if e.Type != "dir" && !e.Time.IsZero() && e.Time.Year() < ours {
		at := fmt.Sprintf("@%d", e.Time.Unix())
		if ns := e.Time.Nanosecond(); ns != 0 {
			at += fmt.Sprintf(".%09d", ns)
		}
		words = append(words, at)
	}
	return strings.Join(words, " ")
}

func content(data []byte) []string {
	switch {
	case len(data) <= maxText:
		return []string{strconv.Quote(string(data))}
	case len(bytes.Trim(data, "\x00")) == 0:
		return []string{fmt.Sprintf("zeros:%d", len(data))}
	}
	return []string{fmt.Sprintf("sha256:%x", sha256.Sum256(data)), fmt.Sprintf("size:%d", len(data))}
}

// quote quotes a word that would not be read as it is.
func quote(s string) string {
	if q := strconv.Quote(s); len(q) != len(s)+2 || s == "" || strings.ContainsAny(s, ` "`) {
		return q
	}
	return s
}

// ParseTree reads the lines of a tree that is to be made.
func ParseTree(text string) (Tree, error) {
	var t Tree
	for i, line := range strings.Split(text, "\n") {
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		e, err := parseEntry(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", i+1, line, err)
		}
		t = append(t, e)
	}
	return t, nil
}

func parseEntry(line string) (Entry, error) {
	words, err := split(line)
	if err != nil {
		return Entry{}, err
	}
	if len(words) < 2 {
		return Entry{}, fmt.Errorf("want PATH TYPE")
	}
	e := Entry{Path: words[0].text, Type: words[1].text, Mode: 0o644}
	switch e.Type {
	case "dir":
		e.Mode = 0o755
	case "link":
		e.Mode = 0o777
	}
	rest := words[2:]
	for len(rest) > 0 {
		n, err := e.read(rest)
		if err != nil {
			return e, err
		}
		rest = rest[n:]
	}
	return e, nil
}

// read takes one attribute off the front of words and says how many words it has.
func (e *Entry) read(words []word) (int, error) {
	w := words[0]
	switch {
	case w.quoted:
		e.Data = []byte(w.text)
	case w.text == "->" && len(words) > 1:
		e.Target = words[1].text
		return 2, nil
	case w.text == "=" && len(words) > 1:
		e.Same = words[1].text
		return 2, nil
	case strings.HasPrefix(w.text, "@"):
		return 1, e.readTime(w.text[1:])
	case strings.Contains(w.text, "="):
		e.readPair(w.text)
	default:
		return 1, e.readWord(w.text)
	}
	return 1, nil
}

// readPair reads an owner's name or an extended attribute.
func (e *Entry) readPair(s string) {
	key, value, _ := strings.Cut(s, "=")
	switch key {
	case "user":
		e.User = value
	case "group":
		e.Group = value
	default:
		if e.Xattrs == nil {
			e.Xattrs = map[string]string{}
		}
		e.Xattrs[key] = value
	}
}

// readWord reads what gives a file its bytes, or numbers.
func (e *Entry) readWord(s string) (err error) {
	if name, ok := strings.CutPrefix(s, "host:"); ok {
		if e.Data, err = os.ReadFile(name); err != nil {
			err = fmt.Errorf("%w: %w", errNeeds, err)
		}
		return err
	}
	if size, ok := strings.CutPrefix(s, "zeros:"); ok {
		n, err := strconv.Atoi(size)
		e.Data = make([]byte, n)
		return err
	}
	return e.readNumbers(s)
}

func (e *Entry) readTime(s string) error {
	seconds, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return err
	}
	ns, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	e.Time = time.Unix(sec, ns)
	return err
}

// readNumbers reads a mode, an owner or the numbers of a device.
func (e *Entry) readNumbers(s string) error {
	var err error
	if uid, gid, ok := strings.Cut(s, ":"); ok {
		if e.UID, err = strconv.Atoi(uid); err == nil {
			e.GID, err = strconv.Atoi(gid)
		}
		return err
	}
	if major, minor, ok := strings.Cut(s, ","); ok {
		if e.Major, err = strconv.ParseInt(major, 10, 64); err == nil {
			e.Minor, err = strconv.ParseInt(minor, 10, 64)
		}
		return err
	}
	e.Mode, err = strconv.ParseInt(s, 8, 64)
	return err
}

// word is one word of a line; quoted if it begins with a quote.
type word struct {
	text   string
	quoted bool
}

// split parts a line at its blanks; quoted parts are Go strings.
func split(line string) ([]word, error) {
	var out []word
	for line = strings.TrimLeft(line, " \t"); line != ""; line = strings.TrimLeft(line, " \t") {
		var w word
		for line != "" && line[0] != ' ' && line[0] != '\t' {
			if line[0] != '"' {
				w.text, line = w.text+line[:1], line[1:]
				continue
			}
			q, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, fmt.Errorf("a quote is not closed")
			}
			w.quoted = w.quoted || w.text == ""
			text, err := strconv.Unquote(q)
			if err != nil {
				return nil, err
			}
			w.text, line = w.text+text, line[len(q):]
		}
		out = append(out, w)
	}
	return out, nil
}

// lines gives the lines of a tree that has been read, sorted by path.
func (t Tree) lines() map[string]string {
	out := make(map[string]string, len(t))
	for _, e := range t {
		out[e.Path] = e.String()
	}
	return out
}

// Since lists what t has beyond base, and what of base it has no more.
func (t Tree) Since(base Tree) []string {
	have, had := t.lines(), base.lines()
	var out []string
	for _, p := range paths(have, had) {
		switch {
		case have[p] == "":
			out = append(out, quote(p)+" gone")
		case have[p] != had[p]:
			out = append(out, have[p])
		}
	}
	return out
}

// stubs are files that some builders leave behind after a RUN.
var stubs = []string{"/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run"}

// loose leaves out times and stubs.
func (t Tree) loose() Tree {
	out := slices.Clone(t)
	for i := range out {
		out[i].Time = time.Time{}
	}
	return slices.DeleteFunc(out, func(e Entry) bool { return len(e.Data) == 0 && slices.Contains(stubs, e.Path) })
}

// paths gives the keys of maps, each once, in byte order of their components.
func paths(ms ...map[string]string) []string {
	all := map[string]bool{}
	for _, m := range ms {
		for p := range m {
			all[p] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
	})
}

// Diff tells how two lists of lines differ, a line each.
func Diff(want, got []string) string {
	index := func(list []string) map[string]bool {
		m := map[string]bool{}
		for _, l := range list {
			m[l] = true
		}
		return m
	}
	w, g := index(want), index(got)
	var b strings.Builder
	for _, l := range want {
		if !g[l] {
			fmt.Fprintln(&b, "-", l)
		}
	}
	for _, l := range got {
		if !w[l] {
			fmt.Fprintln(&b, "+", l)
		}
	}
	return b.String()
}
