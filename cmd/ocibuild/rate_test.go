package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestRate(t *testing.T) {
	start := time.Unix(1000, 0)
	var a amount
	a.total = 10e6
	for _, step := range []struct {
		ms     int
		offset int64
		want   string
	}{
		{0, 1e6, "1MB / 10MB"}, // where an earlier pull ended
		{100, 2e6, "2MB / 10MB"},
		{1000, 3e6, "3MB / 10MB 2MB/s 4s left"},
		{2000, 5e6, "5MB / 10MB 2MB/s 3s left"},
		{60_000, 5e6, "5MB / 10MB 0B/s"}, // it has stopped
		{60_100, 0, "0B / 10MB"},         // it begins anew
	} {
		a.offset = step.offset
		a.rate.add(start.Add(time.Duration(step.ms)*time.Millisecond), a.offset)
		if got := a.text(); got != step.want {
			t.Errorf("after %dms: %q, want %q", step.ms, got, step.want)
		}
	}
}

// TestTransfersInAll looks at what is told of two layers that move and of one that waits.
func TestTransfersInAll(t *testing.T) {
	clock := time.Unix(1000, 0)
	var plain, tty, lines bytes.Buffer
	now := func() time.Time { return clock }
	p := newPlainDisplay(&plain, now)
	d := &ttyDisplay{w: &tty, size: func() (int, int) { return 100, 20 }, now: now, rows: newRows(), start: clock}
	j := newJSONDisplay(&lines)
	for _, show := range []display{p, d, j} {
		show.begin("pull x", "localhost:5000/x")
	}
	move := func(name string, offset int64, note string) {
		blob := ocispec.Descriptor{Digest: digest.FromString(name), Size: 100e6}
		for _, show := range []display{p, d, j} {
			show.transfer(registry.Progress{Host: "localhost:5000", Repo: "x", Descriptor: blob, Offset: offset, Total: blob.Size, Note: note})
		}
	}
	move("there", 100e6, registry.NoteExists)
	for _, name := range []string{"a", "b", "c"} {
		move(name, 0, registry.NoteWaiting)
	}
	move("a", 0, registry.NotePulling)
	move("b", 0, registry.NotePulling)
	clock = clock.Add(10 * time.Second)
	move("a", 10e6, registry.NotePulling)
	move("b", 40e6, registry.NotePulling)
	if want := "pulling 10MB / 100MB 1MB/s 1m30s left\n#1 in all 10MB / 300MB 1MB/s 4m50s left\n"; !strings.Contains(plain.String(), want) {
		t.Errorf("plain: %s", plain.String())
	}
	d.draw(false)
	for _, want := range []string{"pulling 10MB / 100MB 1MB/s 1m30s left", "pulling 40MB / 100MB 4MB/s 15s left", " => pull x ", "50MB / 300MB 1MB/s 4m10s left  10.0s"} {
		if !strings.Contains(tty.String(), want) {
			t.Errorf("no %q on the terminal: %s", want, tty.String())
		}
	}
	if strings.Contains(tty.String(), "waiting") {
		t.Error("what waits takes a line")
	}
	all := strings.Split(strings.TrimSpace(lines.String()), "\n")
	var last jsonEvent
	if err := json.Unmarshal([]byte(all[len(all)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if last.All == nil || last.All.Current != 50e6 || last.All.Total != 300e6 || last.Current != 40e6 {
		t.Errorf("%s", all[len(all)-1])
	}
}
