package remote

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// PruneReport says what Prune removed.
type PruneReport struct {
	// Files, Repositories and Trees count what was kept of URLs, repositories and checkouts.
	Files, Repositories, Trees int
	// Bytes is the sum of their sizes.
	Bytes int64
}

// Prune removes from a directory of a Client what was last used before a time, and
// what processes that were killed have left. What somebody works with stays.
func Prune(ctx context.Context, dir string, locks Locker, before time.Time) (PruneReport, error) {
	p := pruner{c: New(Options{Dir: dir, Locks: locks}), before: before}
	for _, k := range []struct {
		kind  string
		count *int
	}{{httpDir, &p.report.Files}, {reposDir, &p.report.Repositories}, {treesDir, &p.report.Trees}} {
		if err := p.each(ctx, k.kind, func(base string) error { return p.place(placeOf(dir, k.kind, base), k.count) }); err != nil {
			return p.report, fmt.Errorf("prune what was fetched: %w", err)
		}
	}
	if err := p.each(ctx, workDir, p.work); err != nil {
		return p.report, fmt.Errorf("prune what was fetched: %w", err)
	}
	return p.report, nil
}

type pruner struct {
	c      *Client
	before time.Time
	report PruneReport
}

// each calls prune for each name in a directory.
func (p *pruner) each(ctx context.Context, kind string, prune func(base string) error) error {
	entries, err := os.ReadDir(filepath.Join(p.c.o.Dir, kind))
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := prune(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// place removes one thing that is kept, if it is old and nobody has its lock.
func (p *pruner) place(at place, count *int) error {
	if !p.old(at) {
		return nil
	}
	unlock, err := p.c.o.Locks.TryLock(at.lock, false)
	if unlock == nil || err != nil {
		return err
	}
	defer unlock()
	if !p.old(at) { // used between the two
		return nil
	}
	size := sizeOf(at.path)
	if err := p.c.discard(at.path); err != nil {
		return err
	}
	*count++
	p.report.Bytes += size
	return nil
}

func (p *pruner) old(at place) bool {
	info, err := os.Lstat(at.path)
	return err == nil && info.ModTime().Before(p.before)
}

// work removes what a process has not finished that is no more.
func (p *pruner) work(base string) error {
	w, err := claim(filepath.Join(p.c.o.Dir, workDir, base))
	if w == nil || err != nil {
		return err
	}
	p.report.Bytes += sizeOf(w.dir)
	return w.remove()
}

// sizeOf is the sum of the sizes of all files in a directory.
func sizeOf(dir string) int64 {
	var n int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { // what is gone counts for nothing
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}
