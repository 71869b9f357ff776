package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// at calls f before the first operation of that kind on a path that contains
// part.
func at(kind operation, part string, f func()) disk {
	called := false
	return disk{flush: noFlush, before: func(op operation, paths ...string) error {
		if op == kind && !called && strings.Contains(strings.Join(paths, " "), part) {
			called = true
			f()
		}
		return nil
	}}
}

// twoStores opens one store twice; the first has a disk that acts.
func twoStores(t *testing.T, d func(other *Store) disk) (acting, other *Store) {
	t.Helper()
	other = newStore(t)
	return openTest(t, other.Root(), d(other)), other
}

func TestPruneSeesUseBesideIt(t *testing.T) {
	var d digest.Digest
	pruner, other := twoStores(t, func(other *Store) disk {
		return at(opRename, "/trash/", func() {
			if !other.Use(d) {
				t.Error("cannot be used")
			}
		})
	})
	l, err := addLayer(other, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	d = l.DiffID
	age(t, other)
	report, err := pruner.Prune(t.Context(), PruneOptions{})
	if err != nil || len(report.Deleted) != 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	if !other.there(d) {
		t.Error("used and gone")
	}
}

func TestBlobInTheTrashCanBeRead(t *testing.T) {
	var d digest.Digest
	pruner, other := twoStores(t, func(other *Store) disk {
		return at(opRemove, "/trash/", func() {
			if !other.there(d) {
				t.Error("not readable in the trash")
			}
		})
	})
	l, err := addLayer(other, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	d = l.DiffID
	age(t, other)
	report, err := pruner.Prune(t.Context(), PruneOptions{})
	if err != nil || len(report.Deleted) != 1 || other.Use(d) {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestUseTakesBackWhatADeadPruneLeft(t *testing.T) {
	for _, how := range []string{"use", "prune"} {
		t.Run(how, func(t *testing.T) {
			s := newStore(t)
			l, err := addLayer(s, []byte("x"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(s.blobPath(l.DiffID), s.trashPath(l.DiffID)); err != nil {
				t.Fatal(err)
			}
			if how == "prune" {
				if _, err := s.Prune(t.Context(), PruneOptions{Keep: []digest.Digest{l.DiffID}}); err != nil {
					t.Fatal(err)
				}
			} else if !s.Use(l.DiffID) {
				t.Fatal("cannot be used")
			}
			if _, err := os.Stat(s.blobPath(l.DiffID)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTagDuringASweepKeepsTheImage(t *testing.T) {
	var other *Store
	var tag func()
	pruner, other := twoStores(t, func(*Store) disk { return at(opRename, "/trash/", func() { tag() }) })
	desc := mustBuild(t, other, "", file{"a", "1"}, file{"b", "2"})
	tag = func() {
		if err := other.Tag(t.Context(), mustRef(t, "app:v1"), desc); err != nil {
			t.Error(err)
		}
	}
	age(t, other)
	report, err := pruner.Prune(t.Context(), PruneOptions{})
	if err != nil || len(report.Deleted) != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	mustHave(t, other, "app:v1")
	mustBeClean(t, other)
}

func TestPruneDuringATagLeavesNoDanglingName(t *testing.T) {
	other := newStore(t)
	desc := mustBuild(t, other, "", file{"a", "1"})
	img, err := other.Image(t.Context(), desc, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The layer is not durable, so that the tagger stops to sync it.
	if err := os.Chmod(other.blobPath(img.Layers[0].DiffID), 0o644); err != nil {
		t.Fatal(err)
	}
	tagger := openTest(t, other.Root(), at(opSyncDir, "blobs", func() {
		age(t, other)
		if report, err := other.Prune(t.Context(), PruneOptions{}); err != nil || len(report.Deleted) != 3 {
			t.Errorf("%+v, %v", report, err)
		}
	}))
	if err := tagger.Tag(t.Context(), mustRef(t, "app:v1"), desc); !errors.Is(err, ErrNotFound) {
		t.Errorf("tag: %v", err)
	}
	mustBeClean(t, other)
}

func TestLeaseKeepsWhatWasUsedUnderIt(t *testing.T) {
	s := newStore(t)
	old, err := addLayer(s, []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	unused, err := addLayer(s, []byte("unused"))
	if err != nil {
		t.Fatal(err)
	}
	mustBuild(t, s, "app:v1", file{"a", "1"})
	age(t, s)
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made, err := addLayer(s, []byte("made"))
	if err != nil {
		t.Fatal(err)
	}
	if !s.Use(old.DiffID) {
		t.Fatal("gone")
	}
	mustHave(t, s, "app:v1") // marks the image as used
	if _, err := s.Prune(t.Context(), PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	mustHave(t, s, "app:v1")
	if !s.there(old.DiffID) || !s.there(made.DiffID) || s.there(unused.DiffID) {
		t.Error("the wrong blobs were kept")
	}
	lease.Release()
	lease.Release()
	if _, err := s.Prune(t.Context(), PruneOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	if left := blobs(t, s); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestClockThatGoesBackLosesNothing(t *testing.T) {
	s := newStore(t)
	// A process whose clock is an hour ahead of ours took its lease.
	s.opened = s.opened.Add(time.Hour)
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	l, err := addLayer(s, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	other := openTest(t, s.Root(), disk{flush: noFlush})
	if _, err := other.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if !s.there(l.DiffID) {
		t.Error("pruned under a lease")
	}
}

func TestRecoveryLeavesLiveBuildsAlone(t *testing.T) {
	s := newStore(t)
	// Another machine, of another boot, is at work in the same directory.
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := addLayer(s, []byte("written"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.blobPath(l.DiffID), []byte("writ"), 0o644); err != nil {
		t.Fatal(err)
	}
	boot := func(id string) disk {
		return disk{flush: noFlush, boot: func() string { return id }}
	}
	openTest(t, s.Root(), boot("second"))
	if !s.there(l.DiffID) {
		t.Error("taken from a live build")
	}
	lease.Release()
	openTest(t, s.Root(), boot("third"))
	if s.there(l.DiffID) {
		t.Error("damaged and still there")
	}
}

func TestPruneStopsAtAnUnreadableImage(t *testing.T) {
	s := newStore(t)
	desc := mustBuild(t, s, "app:v1", file{"a", "1"})
	age(t, s)
	path := s.blobPath(desc.Digest)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat(" ", int(desc.Size))), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := s.Prune(t.Context(), PruneOptions{})
	if err == nil || !strings.Contains(err.Error(), "app:v1") {
		t.Errorf("%v", err)
	}
	if n := len(blobs(t, s)); n != 3 {
		t.Errorf("%d blobs left", n)
	}
}

func TestPruneTidies(t *testing.T) {
	s := newStore(t)
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"ingest/tmp-dead", "cache/blobs/tmp-dead", "ingest/of-others", "locks/lock-idle", "locks/leases/tmp-dead"} {
		if err := os.WriteFile(s.path(name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(s.path(name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := os.Chtimes(w.file.Name(), old, old); err != nil {
		t.Fatal(err)
	}
	unlock, err := s.Lock(t.Context(), "held")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(append(append(tree(t, s.path("ingest")), tree(t, s.path("cache"))...), tree(t, s.path("locks"))...), " ")
	want := fmt.Sprintf("of-others %s boot index lock-held prune", filepath.Base(w.file.Name()))
	if got != want && got != want+" store" && got != want+" store sweep" {
		t.Errorf("left %q, want %q", got, want)
	}
}

func TestNoTagIsLost(t *testing.T) {
	s := newStore(t)
	desc := mustBuild(t, s, "app:v0", file{"a", "1"})
	second := openTest(t, s.Root(), disk{flush: noFlush})
	var g errgroup.Group
	for i := range 16 {
		g.Go(func() error {
			for j := range 8 {
				store := []*Store{s, second}[j%2]
				ref := mustParse(fmt.Sprintf("app%d:v%d", i, j))
				if err := store.Tag(context.Background(), ref, desc); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	refs, err := s.References(t.Context())
	if err != nil || len(refs) != 16*8+1 {
		t.Errorf("%d names, %v", len(refs), err)
	}
}

func TestLock(t *testing.T) {
	s := newStore(t)
	second := openTest(t, s.Root(), disk{flush: noFlush})
	for _, name := range []string{"plain", "../../etc/passwd", "", ".", "..", "a/b", strings.Repeat("long", 100), "naïve\x00"} {
		unlock, err := s.Lock(t.Context(), name)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		for _, other := range []*Store{s, second} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			if again, err := other.Lock(ctx, name); !errors.Is(err, context.Canceled) {
				again()
				t.Errorf("%q was locked twice: %v", name, err)
			}
			cancel()
		}
		unlock()
		unlock()
	}
	// Many at once, each alone. The race detector does not know flock(2).
	var g errgroup.Group
	var holders, total atomic.Int32
	for i := range 16 {
		g.Go(func() error {
			unlock, err := []*Store{s, second}[i%2].Lock(context.Background(), "counted")
			if err != nil {
				return err
			}
			defer unlock()
			if n := holders.Add(1); n != 1 {
				return fmt.Errorf("%d hold the lock", n)
			}
			total.Add(1)
			holders.Add(-1)
			return nil
		})
	}
	if err := g.Wait(); err != nil || total.Load() != 16 {
		t.Errorf("%d, %v", total.Load(), err)
	}
}
