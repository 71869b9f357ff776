package space

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ocibuild/ocibuild/build/remote"
	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
)

// Report says what a prune removed, or would.
type Report struct {
	Untagged []string        // names
	Images   []string        // ids of images that are gone
	Blobs    []digest.Digest // with what they held
	// Counts says how many items of each kind went, images left out.
	Counts map[Kind]int
	// Bytes is what came back.
	Bytes int64
}

// Report says what carrying the plan out would do, if nothing else happened to the
// store.
func (p *Plan) Report() Report {
	r := Report{Counts: make(map[Kind]int), Bytes: p.Bytes}
	for _, i := range p.Items {
		r.count(&i)
		if i.image != nil {
			for _, ref := range i.image.Refs {
				r.Untagged = append(r.Untagged, ref.Familiar())
			}
		}
	}
	for _, b := range p.Blobs {
		r.Blobs = append(r.Blobs, b.Digest)
	}
	return r
}

func (r *Report) count(i *Item) {
	if i.image != nil {
		r.Images = append(r.Images, i.ID)
		return
	}
	r.Counts[i.Kind]++
}

// Prune carries the plan out. What has been used since the census stays. After an
// error the report tells what was removed until then.
func (p *Plan) Prune(ctx context.Context) (Report, error) {
	e := &execution{Plan: p, space: p.census.space, report: Report{Counts: make(map[Kind]int)}}
	var err error
	for _, step := range []func(context.Context) error{e.cache, e.blobs, e.snapshots, e.mounts, e.fetched, e.quarantine} {
		if err = step(ctx); err != nil {
			err = e.space.Images.Diagnose("prune", err)
			break
		}
	}
	e.account()
	return e.report, err
}

// execution carries one Prune.
type execution struct {
	*Plan
	space  Space
	report Report
	pruned image.PruneReport
}

// chosen lists the items of a kind that are to go, by what they are called.
func (e *execution) chosen(kind Kind) map[string]*Item {
	m := make(map[string]*Item)
	for i := range e.Items {
		if item := &e.Items[i]; item.Kind == kind {
			m[item.Path] = item
		}
	}
	return m
}

// cache drops records before the blobs that they name. An item that was used since
// is another one by now.
func (e *execution) cache(ctx context.Context) error {
	drop := make(map[string]time.Time)
	for _, i := range e.Items {
		if i.cache.Path != "" {
			drop[i.cache.Path] = i.cache.Used
		}
	}
	if len(drop) == 0 {
		return nil
	}
	_, err := e.space.Cache.Prune(ctx, func(i cache.Item) bool {
		used, ok := drop[i.Path]
		return ok && i.Used.Equal(used)
	})
	return err
}

// blobs takes names away and removes the blobs that nothing holds any more.
func (e *execution) blobs(ctx context.Context) error {
	if !e.options.sweeps() || len(e.Blobs) == 0 && len(e.Items) == 0 {
		return nil
	}
	untag := make(map[digest.Digest]bool)
	keep := slices.Clone(e.options.Protect)
	for at, i := range e.census.Items {
		switch {
		case i.image == nil:
		case e.drop[at] && i.image.Listed:
			untag[i.image.Descriptor.Digest] = true
		case !e.drop[at] && !i.image.Listed:
			keep = append(keep, i.Blobs...)
		}
	}
	if len(e.options.Labels) > 0 {
		keep = append(keep, e.loose()...)
	}
	forget := e.chosen(KindCompressed)
	limit := e.census.InUseSince
	if u := e.options.Until; !u.IsZero() && u.Before(limit) {
		limit = u
	}
	var err error
	e.pruned, err = e.space.Images.Prune(ctx, image.PruneOptions{
		Untag:    func(r image.Reference) bool { return untag[r.Descriptor.Digest] },
		Keep:     keep,
		KeepMore: func(ctx context.Context) ([]digest.Digest, error) { return e.space.recordBlobs(ctx, e.census) },
		Forget:   func(l image.CompressedLayer) bool { return forget[e.space.path(l.Path)] != nil },
		Until:    limit,
	})
	return err
}

// loose lists the blobs that nothing holds.
func (e *execution) loose() []digest.Digest {
	var list []digest.Digest
	for d, b := range e.census.Blobs {
		if len(b.holders) == 0 {
			list = append(list, d)
		}
	}
	return list
}

// RecordBlobs lists the blobs that the records of the cache hold.
func (s Space) RecordBlobs(ctx context.Context) ([]digest.Digest, error) {
	return s.recordBlobs(ctx, &Census{})
}

// recordBlobs is RecordBlobs that does not read again what a census has read.
func (s Space) recordBlobs(ctx context.Context, c *Census) ([]digest.Digest, error) {
	known := make(map[string]*Item)
	for at := range c.Items {
		if i := &c.Items[at]; i.Kind == KindRecord {
			known[i.ID] = i
		}
	}
	items, err := s.Cache.Items(ctx)
	if err != nil {
		return nil, err
	}
	var blobs []digest.Digest
	for _, i := range items {
		if i.Kind != cache.KindRecord {
			continue
		}
		item := known[string(i.Key())]
		if item == nil || !item.cache.Used.Equal(i.Used) {
			item = &Item{ID: string(i.Key())}
			s.readRecord(item)
		}
		blobs = append(blobs, item.Blobs...)
	}
	return blobs, nil
}

func (e *execution) snapshots(ctx context.Context) error {
	chosen := e.chosen(KindSnapshot)
	if len(chosen) == 0 && !slices.ContainsFunc(e.Items, func(i Item) bool { return below(i.ID, snapshotsDir) }) {
		return nil
	}
	for at, sn := range e.space.Snapshots {
		_, err := sn.Prune(ctx, func(name string, used time.Time) bool {
			i := chosen[filepath.Join(sn.Dir(), committedDir, name)]
			return i == nil || !used.Equal(i.Used)
		})
		if err != nil && (at == 0 || !errors.Is(err, fs.ErrPermission)) { // at another level there may be files of other owners
			return err
		}
	}
	return nil
}

// mounts drops the directories of cache mounts that nobody has locked.
func (e *execution) mounts(ctx context.Context) error {
	chosen := e.chosen(KindMount)
	for _, i := range chosen {
		unlock, err := e.space.Images.TryLock(cache.MountLock(i.ID), false)
		if err != nil {
			return err
		}
		if unlock == nil {
			continue
		}
		if info, statErr := os.Lstat(i.Path); statErr == nil && info.ModTime().Equal(i.Used) {
			err = e.space.Cache.DropMount(i.ID)
		}
		unlock()
		if err != nil {
			return err
		}
	}
	if len(chosen) == 0 && !slices.ContainsFunc(e.Items, func(i Item) bool { return below(i.ID, mountsDir) }) {
		return nil
	}
	_, err := e.space.Cache.CleanMounts(ctx, e.census.InUseSince)
	return err
}

// fetched drops what was fetched from URLs.
func (e *execution) fetched(ctx context.Context) error {
	chosen := e.chosen(KindSource)
	if len(chosen) == 0 && !slices.ContainsFunc(e.Items, func(i Item) bool { return below(i.ID, RemoteDir) }) {
		return nil
	}
	_, err := remote.Prune(ctx, e.space.path(RemoteDir), e.space.Images, func(k remote.Kept) bool {
		i := chosen[e.space.path(RemoteDir, k.Path)]
		return i != nil && i.Used.Equal(k.Used)
	})
	return err
}

func (e *execution) quarantine(context.Context) error {
	chosen := e.chosen(KindQuarantine)
	for _, i := range chosen {
		if err := os.RemoveAll(i.Path); err != nil {
			return err
		}
	}
	if len(chosen) > 0 {
		_ = os.Remove(e.space.path(image.QuarantineDir)) // fails while something is in it
	}
	return nil
}

// account finds out what has really gone.
func (e *execution) account() {
	for at := range e.Items {
		i := &e.Items[at]
		switch {
		case i.image != nil && e.space.Images.Has(i.image.Descriptor.Digest):
			continue
		case i.image == nil:
			if _, err := os.Lstat(i.Path); err == nil {
				continue
			}
		}
		e.report.count(i)
		e.report.Bytes += i.Bytes
	}
	for _, d := range e.pruned.Deleted {
		e.report.Blobs = append(e.report.Blobs, d)
		if b := e.census.Blobs[d]; b != nil {
			e.report.Bytes += b.Bytes
		}
	}
	for _, ref := range e.pruned.Untagged {
		e.report.Untagged = append(e.report.Untagged, ref.Familiar())
	}
}
