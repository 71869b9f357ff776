package space

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func (f *fixture) collect(limit int64) Collected {
	f.t.Helper()
	done, err := f.Collect(f.t.Context(), limit)
	f.check(err)
	if n, err := f.Measure(f.t.Context()); err != nil || n != done.After {
		f.t.Errorf("%d bytes are left, the collection says %d (%v)", n, done.After, err)
	}
	return done
}

// measure measures twice: the sizes of trees are noted in between, which takes a block.
func (f *fixture) measure() int64 {
	f.t.Helper()
	for range 2 {
		total, err := f.Measure(f.t.Context())
		f.check(err)
		f.total = total
	}
	return f.total
}

func TestCollectDropsTheLeastRecentlyUsed(t *testing.T) {
	f := newFixture(t)
	named := f.layer("named", 256)
	f.image("app:v1", nil, named)
	f.record("RUN named", named)
	one, two := f.layer("one", 256), f.layer("two", 256)
	f.record("RUN one", one)
	f.snapshot("one", 256)
	f.mount("npm", 256)
	f.image("", nil, two)
	f.snapshot("two", 256)
	total := f.measure()
	for _, step := range []string{
		"image , image app:v1, mount /npm, record RUN named, record RUN one, snapshot one, snapshot two; 7 blobs",
		"image , image app:v1, mount /npm, record RUN named, snapshot one, snapshot two; 6 blobs",
		"image , image app:v1, mount /npm, record RUN named, snapshot two; 6 blobs",
		"image , image app:v1, record RUN named, snapshot two; 6 blobs",
		"image app:v1, record RUN named, snapshot two; 3 blobs",
		"image app:v1, record RUN named; 3 blobs",
	} {
		done := f.collect(total)
		if got := f.left(); got != step || !done.Fits() {
			t.Fatalf("at a limit of %d:\n%s\nwant:\n%s", total, got, step)
		}
		total = f.measure() - 64<<10
	}
	// A name's image stays, and the record that keeps it cached goes last.
	done := f.collect(total)
	if got := f.left(); got != "image app:v1; 3 blobs" || done.Fits() {
		t.Errorf("below what a name needs: %s, %+v", got, done)
	}
	if h := done.Held; h.Named < 256<<10 || h.Named > 300<<10 || h.InUse != 0 || h.Named+h.Made+h.InUse+h.Rest != done.After {
		t.Errorf("%+v", done)
	}
}

func TestCollectUseMakesYoung(t *testing.T) {
	f := newFixture(t)
	one, two := f.layer("one", 64), f.layer("two", 64)
	f.record("RUN one", one)
	f.record("RUN two", two)
	total := f.measure()
	f.age(f.blobPath(one.DiffID), f.tick()) // a hit marks the blob
	f.collect(total - 4<<10)
	if got := f.left(); got != "record RUN one; 1 blobs" {
		t.Error(got)
	}
}

func TestCollectSharedBlobGoesWithItsLastHolder(t *testing.T) {
	f := newFixture(t)
	shared := f.layer("shared", 64)
	f.record("RUN a", shared)
	f.record("RUN b", f.layer("b", 64))
	f.record("RUN c", shared)
	total := f.measure()
	f.collect(total - 4<<10)
	if got := f.left(); got != "record RUN a, record RUN c; 1 blobs" {
		t.Error(got)
	}
}

func TestCollectKeepsWhatItIsAskedTo(t *testing.T) {
	f := newFixture(t)
	desc := f.image("", nil, f.layer("a", 64))
	f.image("", nil, f.layer("b", 64))
	done, err := f.Collect(t.Context(), 0, desc.Digest)
	f.check(err)
	if got := f.left(); got != "image ; 3 blobs" || done.Fits() || !f.Images.Has(desc.Digest) || done.Held.Made < 64<<10 {
		t.Errorf("%s, %+v", got, done)
	}
}

func TestCollectBesideARunningBuild(t *testing.T) {
	f := newFixture(t)
	_, old, _ := standard(f)
	lease, err := f.Images.Lease(t.Context())
	f.check(err)
	defer lease.Release()
	f.Images.Use(old.DiffID)
	f.Snapshots[0].Use("unpacked")
	done := f.collect(0)
	if got := f.left(); got != "image app:v1, record RUN old, snapshot unpacked; 4 blobs" {
		t.Error(got)
	}
	if done.Fits() || done.Held.InUse < 160<<10 || done.Held.InUse > 200<<10 {
		t.Errorf("%+v", done)
	}
}

func TestCollectWithinTheLimitLooksAtNothing(t *testing.T) {
	f := newFixture(t)
	desc := f.image("app:v1", nil, f.layer("a", 4))
	f.check(os.WriteFile(f.blobPath(desc.Digest), nil, 0o644)) // would stop a prune
	done := f.collect(1 << 30)
	if !done.Fits() || done.Before != done.After {
		t.Errorf("%+v", done)
	}
}

func TestKeeperCollectsMeanwhile(t *testing.T) {
	f := newFixture(t)
	f.mount("npm", 1024)
	limit := f.measure() + 64<<10
	lease, err := f.Images.Lease(t.Context())
	f.check(err)
	defer lease.Release()
	k := f.keep(t.Context(), limit, func(c Collected) { t.Errorf("%+v", c) }, time.Millisecond)
	defer k.Close()
	f.check(os.WriteFile(f.path("ingest/tmp-1"), make([]byte, 512<<10), 0o644))
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if list, err := f.Cache.Mounts(); err != nil || len(list) == 0 {
			f.check(err)
			break
		}
		if time.Now().After(until) {
			t.Fatal("the mount is still there")
		}
	}
}

func TestKeeperEnds(t *testing.T) {
	f := newFixture(t)
	ignore := func(Collected) {}
	f.keep(t.Context(), 0, ignore, time.Millisecond).Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.Keep(ctx, 0, ignore).Close()
	if _, err := f.Collect(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestKeeperSaysThatTheStoreIsFull(t *testing.T) {
	f := newFixture(t)
	f.image("app:v1", nil, f.layer("a", 64))
	f.snapshot("old", 256)
	limit := f.measure() - 192<<10 // without the unpacked layer there is room
	lease, err := f.Images.Lease(t.Context())
	f.check(err)
	defer lease.Release()
	full := make(chan Collected, 100)
	k := f.keep(t.Context(), limit, func(c Collected) { full <- c }, time.Millisecond)
	defer k.Close()
	if len(full) > 0 || strings.Contains(f.left(), "snapshot") {
		t.Fatalf("room was not made: %s", f.left())
	}
	f.check(os.WriteFile(f.path("ingest/tmp-1"), make([]byte, 512<<10), 0o644))
	k.Look(t.Context())
	if c := <-full; c.Fits() || c.Held.InUse < 512<<10 || c.Held.Named < 64<<10 {
		t.Errorf("%+v", c)
	}
	if got := f.left(); got != "image app:v1; 3 blobs" {
		t.Error(got)
	}
}
