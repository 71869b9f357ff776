package space

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Collected says what Collect did.
type Collected struct {
	Limit int64
	// Before and After are what the store took.
	Before, After int64
	Report        Report
	// Held says what After is made of where it is more than Limit.
	Held Held
}

// Held says why what is in a store stays there.
type Held struct {
	Named int64 // names lead to it
	Made  int64 // it was to be protected
	InUse int64 // a running build may need it, or it is mounted
	Rest  int64 // all else
}

// Fits reports whether the store takes no more than its limit.
func (c Collected) Fits() bool { return c.After <= c.Limit }

// collectLock keeps collections apart: two of them would free twice what is needed.
const collectLock = "collect"

// maxRounds bounds how often Collect looks again because what it wanted to drop was
// used meanwhile.
const maxRounds = 3

// Collect drops the least recently used until the store takes no more than limit.
// Images with names, what a running build may need, and the images that hold the
// protected blobs stay; what cannot be freed because of these is told.
func (s Space) Collect(ctx context.Context, limit int64, protect ...digest.Digest) (Collected, error) {
	done, err := s.collect(ctx, limit, protect)
	if err != nil {
		return done, s.Images.Diagnose("keep the store below its limit", err)
	}
	return done, nil
}

func (s Space) collect(ctx context.Context, limit int64, protect []digest.Digest) (Collected, error) {
	done := Collected{Limit: limit, Report: Report{Counts: make(map[Kind]int)}}
	unlock, err := s.Images.Lock(ctx, collectLock)
	if err != nil {
		return done, err
	}
	defer unlock()
	if done.Before, err = s.Measure(ctx); err != nil {
		return done, err
	}
	done.After = done.Before
	for range maxRounds {
		if done.Fits() {
			return done, nil
		}
		c, err := s.Census(ctx)
		if err != nil {
			return done, err
		}
		report, err := c.Plan(Options{Limit: &limit, Protect: protect}).Prune(ctx)
		done.Report.add(report)
		if err != nil {
			return done, err
		}
		if done.After, err = s.Measure(ctx); err != nil {
			return done, err
		}
		if report.Bytes == 0 {
			break
		}
	}
	if done.Fits() {
		return done, nil
	}
	return done, s.explain(ctx, &done, protect)
}

// add adds what another round removed.
func (r *Report) add(more Report) {
	r.Untagged = append(r.Untagged, more.Untagged...)
	r.Images = append(r.Images, more.Images...)
	r.Blobs = append(r.Blobs, more.Blobs...)
	for kind, n := range more.Counts {
		r.Counts[kind] += n
	}
	r.Bytes += more.Bytes
}

// explain says why no more can be freed.
func (s Space) explain(ctx context.Context, done *Collected, protect []digest.Digest) error {
	c, err := s.Census(ctx)
	if err != nil {
		return err
	}
	done.After, done.Held = c.Held(Options{Protect: protect})
	return nil
}

// Held says what the chosen areas (without Areas: the whole store) take, and why.
func (c *Census) Held(o Options) (total int64, h Held) {
	all := len(o.Areas) == 0
	protected := c.protected(o)
	for _, b := range c.Blobs {
		switch {
		case !all && !o.chooses(b.Area):
		case c.held(b, func(at int) bool { return c.Items[at].Pin == PinName }):
			h.Named += b.Bytes
		case c.held(b, func(at int) bool { return protected[at] }):
			h.Made += b.Bytes
		case c.InUse(b):
			h.InUse += b.Bytes
		default:
			h.Rest += b.Bytes
		}
	}
	for _, i := range c.Items {
		switch {
		case !all && !o.chooses(i.Area):
		case i.Pin == PinInUse && i.Area != Other, i.Pin == PinMounted:
			h.InUse += i.Bytes
		default:
			h.Rest += i.Bytes
		}
	}
	return h.Named + h.Made + h.InUse + h.Rest, h
}

// held reports whether one of the items that hold a blob is such a one.
func (c *Census) held(b *Blob, such func(at int) bool) bool {
	return slices.ContainsFunc(b.holders, such)
}

// The times of a Keeper: how often it looks at the free space, and how often at the
// store itself, which is as many times what that took.
const (
	keepTick  = 500 * time.Millisecond
	keepPause = 10 * time.Second
	keepShare = 50
)

// Keeper watches a store while something fills it, and collects when it is about to
// outgrow its limit.
type Keeper struct {
	space Space
	limit int64
	full  func(Collected)
	stop  context.CancelFunc
	ended chan struct{}

	mu          sync.Mutex
	total, free int64 // of the store and of its file system, when they were last looked at
	stays       int64 // what cannot be freed, with what Room has given away; 0 if nobody has asked
	wake        time.Time
}

// Keep makes room in a store that takes more than limit, and watches it from then
// on. full is called when no more can be freed than leaves it too large: whatever
// fills the store has to end then. The caller ends the watch with Close.
func (s Space) Keep(ctx context.Context, limit int64, full func(Collected)) *Keeper {
	return s.keep(ctx, limit, full, keepTick)
}

func (s Space) keep(ctx context.Context, limit int64, full func(Collected), tick time.Duration) *Keeper {
	ctx, stop := context.WithCancel(ctx)
	k := &Keeper{space: s, limit: limit, full: full, stop: stop, ended: make(chan struct{})}
	k.Look(ctx)
	go k.watch(ctx, tick)
	return k
}

// Close ends the watch.
func (k *Keeper) Close() {
	k.stop()
	<-k.ended
}

// watch does what it can: the collection at the end tells of errors.
func (k *Keeper) watch(ctx context.Context, tick time.Duration) {
	defer close(k.ended)
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if k.due() {
			k.Look(ctx)
		}
	}
}

// due reports whether the store may have grown beyond its limit. The free space of
// the file system is quick to ask for and sees whatever is written, by whomever; what
// others delete there hides it, so the store itself is looked at from time to time.
func (k *Keeper) due() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	free, err := k.space.Free()
	if err == nil && k.total <= k.limit && k.total+k.free-free > k.limit {
		return true
	}
	return !time.Now().Before(k.wake)
}

// Look measures the store, and collects if that is more than the limit. It is called
// before a name is given to what would go without one.
func (k *Keeper) Look(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	began := time.Now()
	if free, err := k.space.Free(); err == nil {
		k.free = free
	}
	if total, err := k.space.Measure(ctx); err == nil {
		k.total = total
	}
	if k.total > k.limit {
		k.collect(ctx)
	}
	k.wake = time.Now().Add(max(keepPause, keepShare*time.Since(began)))
}

// Room reports whether the store could keep so many bytes more if all else went that
// may go, and takes them for used then.
func (k *Keeper) Room(ctx context.Context, bytes int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stays == 0 {
		c, err := k.space.Census(ctx)
		if err != nil {
			return false
		}
		all := int64(0)
		k.stays = -c.Plan(Options{Limit: &all}).Bytes
		for _, n := range c.Sizes() {
			k.stays += n
		}
	}
	if k.stays+bytes > k.limit {
		return false
	}
	k.stays += bytes
	return true
}

func (k *Keeper) collect(ctx context.Context) {
	done, err := k.space.Collect(ctx, k.limit)
	if err != nil {
		return
	}
	k.total = done.After
	if free, err := k.space.Free(); err == nil {
		k.free = free
	}
	if !done.Fits() {
		k.full(done)
	}
}
