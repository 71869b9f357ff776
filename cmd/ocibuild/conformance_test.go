package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ocibuild/ocibuild/build/conformance"
)

var (
	corpus    = flag.String("corpus", "testdata/conformance", "TestConformance: the directory of the cases")
	withPeers = flag.String("peers", "", "TestConformance: other builders that build every case too, of buildkit,buildah")
	rewrite   = flag.Bool("rewrite", false, "TestConformance: write what BuildKit makes into the cases")
	reportTo  = flag.String("report", "", "TestConformance: write a line for each case and builder to this file")
)

// TestConformance builds every Dockerfile of the corpus and compares the image
// with what the case says, and with -peers with what other builders make of it.
// The race detector, under which it takes many times as long, sees a part of it.
func TestConformance(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(*corpus, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s (%v)", *corpus, err)
	}
	if raceEnabled {
		files = everyNth(files, 8)
	}
	p := newPeers(t)
	t.Cleanup(func() { p.write(t) })
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			conform(t, file, p)
		})
	}
}

func everyNth(list []string, n int) []string {
	var out []string
	for i := 0; i < len(list); i += n {
		out = append(out, list[i])
	}
	return out
}

func conform(t *testing.T, file string, p *peers) {
	c, err := conformance.ReadCase(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, need := range c.Needs {
		if ok, err := scriptCondition(need); err == nil && !ok {
			t.Skipf("needs %s", need)
		}
	}
	dir, store := t.TempDir(), t.TempDir()
	t.Cleanup(func() { openUp(t, dir, store) })
	f, err := c.Make(dir)
	if errors.Is(err, conformance.Missing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ours, err := conformance.Ocibuild(t.Context(), f, store)
	refused, isRefused := errors.AsType[*conformance.Refused](err)
	switch {
	case c.Open() && len(p.builders) > 0 && (isRefused || err == nil):
		err = nil
	case c.Open():
		err = errors.Join(err, errors.New("the case has neither a section want nor a section error"))
	case isRefused:
		err = checkRefusal(c, refused)
	case err == nil && !*rewrite:
		err = checkImage(f, ours)
	}
	p.note("ocibuild", c.Name, err)
	if err != nil {
		t.Error(err)
	}
	p.compare(t, f, ours)
}

// openUp lets an ordinary user remove what a case leaves: directories that
// nobody may enter, and files of the user's other ids.
func openUp(t *testing.T, dir, store string) {
	if os.Geteuid() == 0 {
		return
	}
	if out, err := exec.Command("ocibuild", "--root", store+"/store", "prune", "--all", "--force").CombinedOutput(); err != nil {
		t.Errorf("prune: %v\n%s", err, out)
	}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(p, 0o700)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func checkRefusal(c *conformance.Case, refused *conformance.Refused) error {
	messages, want := c.Fails()
	if !want {
		return refused
	}
	for _, m := range messages {
		if !strings.Contains(refused.Output, m) {
			return fmt.Errorf("want %q in:\n%s", m, refused.Output)
		}
	}
	return nil
}

func checkImage(f *conformance.Fixture, img *conformance.Image) error {
	if _, fails := f.Fails(); fails {
		return errors.New("the build does not fail")
	}
	return f.Check(img)
}

// peers are the other builders, what is known of them, and what has been seen.
type peers struct {
	known    conformance.Known
	builders []peer

	mu   sync.Mutex
	seen []string
}

// peer is another builder, and what of its images is compared.
type peer struct {
	name     string
	build    func(context.Context, *conformance.Fixture, string) (*conformance.Image, error)
	sections []string
}

func newPeers(t *testing.T) *peers {
	known, err := conformance.ReadKnown(filepath.Join(*corpus, "differs"))
	if err != nil {
		t.Fatal(err)
	}
	p := &peers{known: known}
	if *rewrite {
		*withPeers = "buildkit"
	}
	for _, b := range []struct {
		peer
		missing func(context.Context) error
	}{
		{peer{"buildkit", conformance.BuildKit, []string{"want", "config", "history"}}, conformance.BuildKitMissing},
		{peer{"buildah", conformance.Buildah, []string{"loose want", "loose config"}}, conformance.BuildahMissing},
	} {
		if !slices.Contains(strings.Split(*withPeers, ","), b.name) {
			continue
		}
		if err := b.missing(t.Context()); err != nil {
			p.seen = append(p.seen, fmt.Sprintf("%s: skipped: %v", b.name, err))
			continue
		}
		p.builders = append(p.builders, b.peer)
	}
	return p
}

// compare builds a case with each peer. A build that all refuse is equal.
func (p *peers) compare(t *testing.T, f *conformance.Fixture, ours *conformance.Image) {
	for _, b := range p.builders {
		theirs, err := b.build(t.Context(), f, t.TempDir())
		refused, ok := errors.AsType[*conformance.Refused](err)
		if err != nil && !ok {
			t.Errorf("%s: %v", b.name, err)
			continue
		}
		if *rewrite && !p.known.Has(b.name, f.Name) {
			rewriteCase(t, f, theirs, refused)
		}
		verdict, err := p.known.Judge(b.name, f.Name, difference(f, b, ours, theirs, refused))
		if err != nil {
			t.Errorf("%s: %v", b.name, err)
		}
		p.noteText(b.name, f.Name, verdict, err)
	}
}

func difference(f *conformance.Fixture, b peer, ours, theirs *conformance.Image, refused *conformance.Refused) string {
	switch {
	case ours == nil && refused != nil:
		return ""
	case ours == nil:
		return "- refused\n+ built\n"
	case refused != nil:
		return "- built\n+ " + refused.Error() + "\n"
	}
	return f.Compare(ours, theirs, b.sections...)
}

func rewriteCase(t *testing.T, f *conformance.Fixture, img *conformance.Image, refused *conformance.Refused) {
	_, fails := f.Fails()
	switch {
	case refused != nil && fails:
	case refused != nil:
		t.Errorf("BuildKit refuses the case, which wants an image: %v", refused)
	case fails:
		t.Error("BuildKit builds the case, which wants an error")
	default:
		if err := f.Rewrite(img); err != nil {
			t.Error(err)
		}
	}
}

func (p *peers) note(builder, name string, err error) { p.noteText(builder, name, "as wanted", err) }

func (p *peers) noteText(builder, name, text string, err error) {
	if err != nil {
		text = "FAIL: " + err.Error()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, fmt.Sprintf("%s %s: %s", name, builder, strings.TrimSpace(text)))
}

// write writes the report.
func (p *peers) write(t *testing.T) {
	if *reportTo == "" {
		return
	}
	slices.Sort(p.seen)
	if err := os.WriteFile(*reportTo, []byte(strings.Join(p.seen, "\n")+"\n"), 0o644); err != nil {
		t.Error(err)
	}
}
