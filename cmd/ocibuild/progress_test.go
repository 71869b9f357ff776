package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/ocibuild/ocibuild/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// testGraph plans a Dockerfile and gives its working steps.
func testGraph(t *testing.T, dockerfile string) []*build.Step {
	t.Helper()
	df, err := parser.Parse("Dockerfile", []byte(dockerfile))
	if err != nil {
		t.Fatal(err)
	}
	p := image.HostPlatform()
	g, err := build.Plan(df, build.PlanOptions{Platform: p, BuildPlatform: p})
	if err != nil {
		t.Fatal(err)
	}
	var out []*build.Step
	for _, s := range g.Steps {
		if s.Working() {
			out = append(out, s)
		}
	}
	return out
}

const threeSteps = "FROM busybox:1 AS build\nRUN make\nCOPY a /\n"

func TestPlainDisplay(t *testing.T) {
	steps := testGraph(t, threeSteps)
	var out bytes.Buffer
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	clock := at(0)
	d := newPlainDisplay(&out, func() time.Time { return clock })
	blob := digest.FromString("blob")
	r := d.begin("pull docker.io/library/busybox:1", "docker.io/library/busybox")
	d.transfer(registry.Progress{Host: "docker.io", Repo: "library/busybox", Descriptor: ocispec.Descriptor{Digest: blob}, Offset: 5e5, Total: 1e6, Note: "pulling"})
	clock = at(6000)
	d.transfer(registry.Progress{Host: "docker.io", Repo: "library/busybox", Descriptor: ocispec.Descriptor{Digest: blob}, Offset: 6e5, Total: 1e6})
	d.transfer(registry.Progress{Host: "docker.io", Repo: "library/busybox", Descriptor: ocispec.Descriptor{Digest: blob}, Offset: 1e6, Total: 1e6, Done: true})
	d.end(r, nil)
	events := []build.Event{
		{Kind: build.Planned, Total: 3, Time: at(0)},
		{Kind: build.Warned, Text: "old \x1b[1mform", Range: parser.Range{Start: 2}},
		{Kind: build.Started, Step: steps[0], Time: at(0)},
		{Kind: build.Finished, Step: steps[0], Time: at(0), Cached: true},
		{Kind: build.Started, Step: steps[1], Time: at(0)},
		{Kind: build.Started, Step: steps[2], Time: at(100)},
		{Kind: build.Log, Step: steps[1], Data: []byte("one\n\x1b[31mer"), Time: at(250)},
		{Kind: build.Log, Step: steps[1], Data: []byte("r\x1b[0m\ntw"), Time: at(300)},
		{Kind: build.Log, Step: steps[1], Data: []byte("o"), Time: at(350)},
		{Kind: build.Finished, Step: steps[2], Time: at(1300), Duration: 1200 * time.Millisecond},
		{Kind: build.Finished, Step: steps[1], Time: at(2000), Err: &build.StepError{Step: steps[1], Err: errors.New("exit code: 2")}},
	}
	for _, e := range events {
		d.event(e)
	}
	d.close()
	want := fmt.Sprintf(`#1 pull docker.io/library/busybox:1
#1 %[1]s pulling 600kB / 1MB 16.7kB/s 24s left
#1 %[1]s pulling 1MB done
#1 DONE 6.0s

#2 %[2]s
#2 CACHED

#3 %[3]s

#4 %[4]s

#3 0.250 one
#3 0.300 err

#4 DONE 1.2s

#3 2.000 two
#3 ERROR: exit code: 2
`, shortDigest(blob), steps[0].Name(), steps[1].Name(), steps[2].Name())
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestJSONDisplay(t *testing.T) {
	steps := testGraph(t, threeSteps)
	var out bytes.Buffer
	d := newJSONDisplay(&out)
	d.event(build.Event{Kind: build.Started, Step: steps[1], Time: time.Unix(5, 0).UTC()})
	d.event(build.Event{Kind: build.Log, Step: steps[1], Data: []byte("a<\xff\n"), Time: time.Unix(5, 0).UTC()})
	d.event(build.Event{Kind: build.Finished, Step: steps[1], Duration: 1500 * time.Millisecond, Err: errors.New("bad")})
	d.fail(usagef("no"))
	var events []jsonEvent
	dec := json.NewDecoder(&out)
	for dec.More() {
		var e jsonEvent
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	if len(events) != 4 {
		t.Fatalf("%d events", len(events))
	}
	if e := events[0]; e.Event != "started" || *e.Step != steps[1].ID || e.Line != 2 || e.Name != steps[1].Name() {
		t.Errorf("started: %+v", e)
	}
	if e := events[1]; e.Data != "a<\ufffd\n" {
		t.Errorf("log: %+v", e)
	}
	if e := events[2]; *e.Seconds != 1.5 || e.Error != "bad" {
		t.Errorf("finished: %+v", e)
	}
	if e := events[3]; e.Event != "error" || e.ExitCode != exitUsage {
		t.Errorf("error: %+v", e)
	}
}

// screen is a terminal that understands what the display sends.
type screen struct {
	width int
	lines []string
	row   int
}

func (s *screen) write(text string) {
	for len(text) > 0 {
		switch {
		case strings.HasPrefix(text, "\x1b["):
			n := csiLen(text)
			s.control(text[2:n-1], text[n-1])
			text = text[n:]
		case text[0] == '\r':
			text = text[1:]
		case text[0] == '\n':
			s.row++
			text = text[1:]
		default:
			end := strings.IndexAny(text, "\r\n\x1b")
			if end < 0 {
				end = len(text)
			}
			s.put(text[:end])
			text = text[end:]
		}
	}
}

func (s *screen) put(line string) {
	if columns(line) > s.width {
		panic(fmt.Sprintf("line of %d columns on a screen of %d: %q", columns(line), s.width, line))
	}
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, "")
	}
	s.lines[s.row] = line
}

func (s *screen) control(args string, final byte) {
	switch final {
	case 'A':
		var n int
		fmt.Sscan(args, &n)
		s.row -= n
	case 'J':
		s.lines = s.lines[:min(s.row, len(s.lines))]
	case 'K', 'h', 'l':
	default:
		panic("unknown control " + string(final))
	}
}

// frames collects what a display draws without its clock.
func newTestTTY(width, height int) (*ttyDisplay, *bytes.Buffer, *time.Time) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	d := &ttyDisplay{
		w: &out, size: func() (int, int) { return width, height }, now: func() time.Time { return now },
		rows: newRows(), start: now, stop: make(chan struct{}),
	}
	return d, &out, &now
}

func TestTTYDisplay(t *testing.T) {
	steps := testGraph(t, threeSteps)
	d, out, now := newTestTTY(60, 10)
	s := &screen{width: 60}
	frame := func(last bool) []string {
		out.Reset()
		d.draw(last)
		s.write(out.String())
		return append([]string(nil), s.lines...)
	}
	start := *now
	d.event(build.Event{Kind: build.Planned, Total: 3})
	d.event(build.Event{Kind: build.Started, Step: steps[0], Time: start})
	d.event(build.Event{Kind: build.Finished, Step: steps[0], Time: start, Cached: true})
	d.event(build.Event{Kind: build.Started, Step: steps[1], Time: start})
	for i := range 9 {
		d.event(build.Event{Kind: build.Log, Step: steps[1], Data: fmt.Appendf(nil, "line %d\n", i)})
	}
	*now = start.Add(1500 * time.Millisecond)
	pad := func(left, right string) string { return aligned(left, right, 60) }
	want := []string{
		pad(" => CACHED "+steps[0].Name(), "0.0s"),
		pad("[+] 1/3", "1.5s"),
		pad(" => "+steps[1].Name(), "1.5s"),
		" => => # line 3", " => => # line 4", " => => # line 5", " => => # line 6", " => => # line 7", " => => # line 8",
	}
	if diff := cmp.Diff(want, frame(false)); diff != "" {
		t.Error("first frame:", diff)
	}
	if diff := cmp.Diff(want, frame(false)); diff != "" {
		t.Error("same frame:", diff)
	}
	d.event(build.Event{Kind: build.Finished, Step: steps[1], Duration: 2 * time.Second, Err: errors.New("exit code: 1")})
	want = append(want[:1], pad(" => ERROR "+steps[1].Name()+": exit code: 1", "2.0s"))
	if diff := cmp.Diff(want, frame(true)); diff != "" {
		t.Error("last frame:", diff)
	}
	if !strings.Contains(out.String(), "\x1b[?25h") {
		t.Error("the cursor stays hidden")
	}
}

func TestTTYDisplayFitsSmallScreens(t *testing.T) {
	steps := testGraph(t, "FROM busybox\nRUN one\nRUN two\nRUN three\nRUN four\nRUN five\nRUN six\n")
	d, out, _ := newTestTTY(30, 5)
	for _, s := range steps {
		d.event(build.Event{Kind: build.Started, Step: s})
		d.event(build.Event{Kind: build.Log, Step: s, Data: []byte("out\n")})
	}
	d.draw(false)
	if n := strings.Count(out.String(), "\n"); n > 4 {
		t.Errorf("%d lines on a screen of 5", n)
	}
}

func TestTTYDisplayCountsWrappedLines(t *testing.T) {
	d, _, _ := newTestTTY(80, 24)
	d.drawn = []int{80, 10, 0}
	for width, want := range map[int]int{80: 3, 40: 4, 20: 6} {
		if got := d.height(width); got != want {
			t.Errorf("height(%d) = %d, want %d", width, got, want)
		}
	}
}

func TestTTYDisplayEnds(t *testing.T) {
	var out bytes.Buffer
	d := newTTYDisplay(&out, func() (int, int) { return 0, 0 })
	r := d.begin("push x", "localhost:5000/x")
	d.transfer(registry.Progress{Host: "localhost:5000", Repo: "x", Descriptor: ocispec.Descriptor{Digest: digest.FromString("a"), Size: 10}, Note: "pushing"})
	d.end(r, context.Canceled)
	d.close()
	if !strings.Contains(out.String(), "CANCELED push x") {
		t.Errorf("%q", out.String())
	}
}

func TestLineBuffer(t *testing.T) {
	var b lineBuffer
	var got []string
	emit := func(s string) { got = append(got, s) }
	for _, part := range []string{"a\nb", "c\n\n", strings.Repeat("x", maxLine), "tail"} {
		b.write([]byte(part), emit)
	}
	b.flush(emit)
	want := []string{"a", "bc", "", strings.Repeat("x", maxLine), "tail"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
