package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/build/conformance"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestParseDetours(t *testing.T) {
	for _, test := range []struct{ text, wrong string }{
		{"", ""},
		{"memo", ""},
		{"memo,upper,overlap", ""},
		{"all", ""},
		{"memo,,upper", `$OCIBUILD_DISABLE=: unknown value`},
		{"overlab", `$OCIBUILD_DISABLE=overlab: unknown value (did you mean overlap?)`},
	} {
		_, err := parseDetours(test.text)
		if got := fmt.Sprint(err); got != test.wrong && (err != nil || test.wrong != "") {
			t.Errorf("%q: %s, want %s", test.text, got, test.wrong)
		}
	}
}

// TestEveryShortcutDisables finds a shortcut whose name does nothing, or what another's
// does already.
func TestEveryShortcutDisables(t *testing.T) {
	seen := map[string]string{fmt.Sprintf("%+v", detours{}): "no name"}
	for _, s := range shortcuts() {
		d, err := parseDetours(s.name)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		what := fmt.Sprintf("%+v", d)
		if other, ok := seen[what]; ok {
			t.Errorf("%s does what %s does", s.name, other)
		}
		seen[what] = s.name
	}
}

// shortcutCases are cases of the corpus that between them take every shortcut of a
// build.
var shortcutCases = []string{
	"add_archive_hard_link_to_image", // an archive that lands on what is below
	"copy_from_tree_merge",           // stages, and layers that a RUN changes again
	"run_and_copy",                   // RUN, COPY and WORKDIR on one another
	"run_rename_directory",           // what overlays do with what is below
}

// TestShortcuts builds without each shortcut, and with one worker and with several.
// What comes out must be the same image, down to each file of each layer, and whoever
// takes the shortcut must find all of it in the cache, and the other way round.
func TestShortcuts(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	for _, name := range shortcutCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newShortcutCase(t, name)
			others := []way{{disable: everyShortcut}, {flag: "-j1"}, {flag: "-j16"}, {everyShortcut, "-j1"}}
			for _, s := range shortcuts() {
				others = append(others, way{disable: s.name})
			}
			c.compare(way{}, others...)
			if os.Geteuid() == 0 { // where steps work on copies
				const chroot = "--isolation=chroot"
				c.compare(way{flag: chroot}, way{everyShortcut, chroot}, way{"trees", chroot}, way{"reflink", chroot})
			}
		})
	}
}

// way is how a build is made: without a shortcut, with a flag.
type way struct{ disable, flag string }

func (w way) String() string { return strings.Trim(w.disable+" "+w.flag, " ") }

// compare builds in a usual way and in others.
func (c *shortcutCase) compare(usual way, others ...way) {
	c.t.Helper()
	usually := c.store(usual)
	want := c.build(usually, usual)
	for i, other := range others {
		if raceEnabled && i%6 != 0 {
			continue // the race detector takes many times as long
		}
		c.cached(usually, other, want)
		store := c.store(other)
		made := c.build(store, other)
		if d := conformance.Diff(want.lines, made.lines); d != "" {
			c.t.Errorf("%s: another image (- is usual, + is this one):\n%s", other, d)
		}
		c.cached(store, usual, made)
	}
}

// shortcutCase is a case of the corpus that is built in many ways.
type shortcutCase struct {
	t *testing.T
	*conformance.Fixture
	began time.Time
}

func newShortcutCase(t *testing.T, name string) *shortcutCase {
	t.Helper()
	read, err := conformance.ReadCase(filepath.Join(*corpus, name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Cleanup(func() { openUp(t, dir, dir) })
	f, err := read.Make(dir)
	if errors.Is(err, conformance.Missing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &shortcutCase{t, f, time.Now().Add(-time.Minute)}
}

// store makes a store with the images that the case needs.
func (c *shortcutCase) store(w way) string {
	c.t.Helper()
	dir := c.t.TempDir()
	c.t.Cleanup(func() { openUp(c.t, dir, dir) })
	store := filepath.Join(dir, "store")
	for _, img := range c.Images {
		c.run(w, "--root", store, "load", "-q", "-i", img.Archive)
	}
	return store
}

// run runs the program and gives what it says.
func (c *shortcutCase) run(w way, args ...string) string {
	c.t.Helper()
	cmd := exec.Command("ocibuild", args...)
	cmd.Env = append(os.Environ(), disableVariable+"="+w.disable)
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s: ocibuild %s: %v\n%s", w, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// madeImage is an image: its id, how many steps were run for it, and lines that are the
// same for two that differ in nothing but the times at which steps ran.
type madeImage struct {
	ID    string `json:"id"`
	Ran   int    `json:"run_steps"`
	lines []string
}

// build builds the case.
func (c *shortcutCase) build(store string, w way) madeImage {
	c.t.Helper()
	args := []string{"--root", store, "build", "--progress=json", "--build-arg=SOURCE_DATE_EPOCH=1000000000", "--file", c.Dockerfile}
	if w.flag != "" {
		args = append(args, w.flag)
	}
	return c.made(store, w, c.run(w, append(append(args, c.Args...), c.Context)...))
}

// made is the image that the last line of a build's output names.
func (c *shortcutCase) made(store string, w way, output string) madeImage {
	c.t.Helper()
	out := strings.Split(strings.TrimSpace(output), "\n")
	var made madeImage
	err := json.Unmarshal([]byte(out[len(out)-1]), &made)
	if err == nil {
		made.lines, err = c.describe(store, made.ID)
	}
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", w, err, out)
	}
	return made
}

// cached wants a build to find all that was made.
func (c *shortcutCase) cached(store string, w way, want madeImage) {
	c.t.Helper()
	if made := c.build(store, w); made.ID != want.ID || made.Ran > 0 {
		c.t.Errorf("%s: %s with %d steps run, want %s from the cache alone", w, made.ID, made.Ran, want.ID)
	}
}

// describe gives the lines of an image: its config, in which there is no layer's digest,
// and what is in its layers.
func (c *shortcutCase) describe(store, id string) ([]string, error) {
	blob := func(d digest.Digest) ([]byte, error) {
		return os.ReadFile(filepath.Join(store, "blobs", "sha256", d.Encoded()))
	}
	text, err := blob(digest.Digest(id))
	var config ocispec.Image
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	if err != nil {
		return nil, err
	}
	list := config.RootFS.DiffIDs
	config.RootFS.DiffIDs = nil
	text, err = json.Marshal(config)
	lines := []string{string(text)}
	for i, d := range list {
		lines = append(lines, fmt.Sprintf("layer %d", i))
		text, lerr := blob(d)
		if errors.Is(lerr, fs.ErrNotExist) {
			lines = append(lines, d.String()) // the base's, which is compressed
			continue
		}
		entries, terr := c.entries(text)
		lines, err = append(lines, entries...), errors.Join(err, lerr, terr)
	}
	return lines, err
}

// entries describes those of a tar. Times that a step has made are one to another.
func (c *shortcutCase) entries(text []byte) ([]string, error) {
	var lines []string
	r := tar.NewReader(bytes.NewReader(text))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, r); err != nil {
			return nil, err
		}
		when := h.ModTime.String()
		if h.ModTime.After(c.began) {
			when = "now"
		}
		lines = append(lines, fmt.Sprintf("%s %c %o %d:%d %d %q %d,%d %q %s %x", h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid, h.Size, h.Linkname, h.Devmajor, h.Devminor, xattrsOf(h), when, sum.Sum(nil)))
	}
}

// xattrsOf gives the attributes of a member, sorted.
func xattrsOf(h *tar.Header) []string {
	var list []string
	for k, v := range h.PAXRecords {
		if strings.HasPrefix(k, "SCHILY.xattr.") {
			list = append(list, k+"="+v)
		}
	}
	slices.Sort(list)
	return list
}
