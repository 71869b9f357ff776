package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestPrune(t *testing.T) {
	s := newStore(t)
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"old", "used", "kept"} {
		makeLayer(t, s, name, func(string) {})
		if err := os.Chtimes(s.path(committedDir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	s.Use("used")
	live := prepare(t, s, "base")
	dead := prepare(t, s, "base")
	dead.lock.Close() // as the end of its process does
	asked := map[string]time.Time{}
	keep := func(name string, used time.Time) bool {
		asked[name] = used
		return name == "kept" || used.After(old.Add(time.Minute))
	}
	gone, err := s.Prune(context.Background(), keep)
	if err != nil || !slices.Equal(gone, []string{"old"}) {
		t.Errorf("pruned %q, %v", gone, err)
	}
	if len(asked) != 4 || asked["kept"].Sub(old).Abs() > time.Second {
		t.Errorf("asked about %v", asked)
	}
	if s.Use("old") || !s.Use("used") || !s.Use("kept") || !s.Use("base") {
		t.Error("the wrong layers are left")
	}
	if _, err := os.Stat(live.Upper()); err != nil {
		t.Errorf("a live snapshot is gone: %v", err)
	}
	if _, err := os.Stat(dead.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a dead snapshot is there: %v", err)
	}
	if names, err := readNames(s.path(trashDir)); err != nil || len(names) > 0 {
		t.Errorf("trash has %q, %v", names, err)
	}
	dead.lock = nil
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Prune(canceled, func(string, time.Time) bool { return false }); !errors.Is(err, context.Canceled) || !s.Use("base") {
		t.Errorf("canceled: %v", err)
	}
}

func TestPruneDatesCommit(t *testing.T) {
	s := newStore(t)
	sn := prepare(t, s, "base")
	old := time.Now().Add(-time.Hour) // a step that ran for long
	if err := os.Chtimes(sn.dir, old, old); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := s.Commit(sn, "layer"); err != nil {
		t.Fatal(err)
	}
	keep := func(_ string, used time.Time) bool { return !used.Before(start) }
	if _, err := s.Prune(context.Background(), keep); err != nil || !s.Use("layer") {
		t.Errorf("the layer is gone, though it was committed after %v: %v", start, err)
	}
}

func TestPruneWhileBuilding(t *testing.T) {
	s := newStore(t)
	start := time.Now()
	if !s.Use("base") { // as a build does first
		t.Fatal("the base layer is gone")
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			_, err := s.Prune(ctx, func(_ string, used time.Time) bool { return !used.Before(start) })
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
	defer wg.Wait()
	defer cancel()
	for i := range 20 {
		name := fmt.Sprintf("l%d", i)
		sn := prepare(t, s, "base")
		tree{"f": name}.make(t, sn.Upper())
		if err := s.Commit(sn, name); err != nil {
			t.Error(err)
		}
		if !s.Use(name) {
			t.Errorf("%s is gone", name)
		}
	}
}

func TestDropDoubtful(t *testing.T) {
	s := newStore(t)
	makeLayer(t, s, "late", func(string) {})
	// Nothing was seen of the machine after base and late were committed, as far as
	// the store knows. The next boot drops both.
	reopen := func(boot string) *Snapshots {
		t.Helper()
		if err := os.WriteFile(s.path("boot"), []byte(boot), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := OpenSnapshots(s.dir, s.level)
		if err != nil {
			t.Fatal(err)
		}
		return again
	}
	boot := readString(t, "/proc/sys/kernel/random/boot_id")
	if again := reopen(boot); !again.Use("base") || !again.Use("late") {
		t.Error("a layer is gone without a boot")
	}
	if again := reopen("another boot"); again.Use("base") || again.Use("late") {
		t.Error("a layer that may not be on disk is there after a boot")
	}
	if got := readString(t, s.path("boot")); got != boot {
		t.Errorf("boot is %q, want %q", got, boot)
	}
}

func TestLifeSigns(t *testing.T) {
	s := newStore(t)
	before := time.Now().Add(-time.Second)
	last, committed := s.lifeSigns([]string{"base", "none"})
	if len(committed) != 1 || committed["base"].Before(before) || last.Before(committed["base"].Add(-time.Second)) {
		t.Errorf("got %v, %v", last, committed)
	}
}

func TestInventory(t *testing.T) {
	s := newStore(t)
	makeLayer(t, s, "app", func(dir string) {
		if err := os.WriteFile(dir+"/file", make([]byte, 100_000), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	prepare(t, s, "base")
	dead := prepare(t, s, "base")
	dead.lock.Close() // as the end of its process does
	dead.lock = nil
	layers, err := s.Layers()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, l := range layers {
		names[l.Name] = time.Since(l.Used) < time.Minute && !l.Attached
	}
	if len(names) != 2 || !names["app"] || !names["base"] {
		t.Errorf("layers are %+v", layers)
	}
	if n, err := s.Measure(t.Context(), "app"); err != nil || n < 100_000 || n > 200_000 {
		t.Errorf("app takes %d, %v", n, err)
	}
	if _, err := s.Measure(t.Context(), "../x"); err == nil {
		t.Error("a name that leads out is measured")
	}
	unfinished, err := s.Unfinished(t.Context())
	live := 0
	for _, u := range unfinished {
		if u.Live {
			live++
		}
	}
	if err != nil || len(unfinished) != 2 || live != 1 {
		t.Errorf("%+v, %v", unfinished, err)
	}
}
