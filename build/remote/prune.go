package remote

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ocibuild/ocibuild/image/usage"
)

// PruneReport says what Prune removed.
type PruneReport struct {
	// Files, Repositories and Trees count what was kept of URLs, repositories and checkouts.
	Files, Repositories, Trees int
	// Bytes is what they took on the disk.
	Bytes int64
}

// Kept is something that a Client has fetched and keeps.
type Kept struct {
	// Path is its directory, below that of the Client.
	Path string
	Used time.Time
}

// List gives what is kept in a directory of a Client. None is marked as used.
func List(dir string) ([]Kept, error) {
	var list []Kept
	for _, kind := range []string{httpDir, reposDir, treesDir} {
		more, err := listKind(dir, kind)
		if err != nil {
			return nil, fmt.Errorf("list what was fetched: %w", err)
		}
		list = append(list, more...)
	}
	return list, nil
}

func listKind(dir, kind string) ([]Kept, error) {
	entries, err := os.ReadDir(filepath.Join(dir, kind))
	if err != nil {
		return nil, ignoreGone(err)
	}
	var list []Kept
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			list = append(list, Kept{filepath.Join(kind, e.Name()), info.ModTime()})
		}
	}
	return list, nil
}

// Working is a checkout in the making, or what is left of one.
type Working struct {
	Kept
	Live bool // its process runs
}

// ListWork gives what is in the making in a directory of a Client.
func ListWork(dir string) ([]Working, error) {
	kept, err := listKind(dir, workDir)
	if err != nil {
		return nil, fmt.Errorf("list what is being fetched: %w", err)
	}
	var list []Working
	for _, k := range kept {
		w, err := claim(filepath.Join(dir, k.Path))
		if w != nil {
			w.lock.Close()
		}
		if err != nil {
			return nil, err
		}
		list = append(list, Working{k, w == nil})
	}
	return list, nil
}

// Prune removes from a directory of a Client what drop chooses, and what processes
// that were killed have left. What somebody works with stays. What drop is asked
// about again under its lock may have been used meanwhile.
func Prune(ctx context.Context, dir string, locks Locker, drop func(Kept) bool) (PruneReport, error) {
	p := pruner{c: New(Options{Dir: dir, Locks: locks}), drop: drop}
	for _, k := range []struct {
		kind  string
		count *int
	}{{httpDir, &p.report.Files}, {reposDir, &p.report.Repositories}, {treesDir, &p.report.Trees}} {
		if err := p.each(ctx, k.kind, func(base string) error { return p.place(ctx, placeOf(dir, k.kind, base), k.count) }); err != nil {
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
	drop   func(Kept) bool
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

// place removes one thing that is kept, if it is wanted gone and nobody has its lock.
func (p *pruner) place(ctx context.Context, at place, count *int) error {
	if !p.wanted(at) {
		return nil
	}
	unlock, err := p.c.o.Locks.TryLock(at.lock, false)
	if unlock == nil || err != nil {
		return err
	}
	defer unlock()
	if !p.wanted(at) { // used between the two
		return nil
	}
	size := sizeOf(ctx, at.path)
	if err := p.c.discard(at.path); err != nil {
		return err
	}
	*count++
	p.report.Bytes += size
	return nil
}

func (p *pruner) wanted(at place) bool {
	info, err := os.Lstat(at.path)
	path, relErr := filepath.Rel(p.c.o.Dir, at.path)
	return err == nil && relErr == nil && p.drop(Kept{path, info.ModTime()})
}

// work removes what a process has not finished that is no more.
func (p *pruner) work(base string) error {
	w, err := claim(filepath.Join(p.c.o.Dir, workDir, base))
	if w == nil || err != nil {
		return err
	}
	p.report.Bytes += sizeOf(context.Background(), w.dir)
	return w.remove()
}

// sizeOf is what a directory takes on the disk; what is gone takes nothing.
func sizeOf(ctx context.Context, dir string) int64 {
	var m usage.Meter
	_ = m.Tree(ctx, dir) // a number in a report
	return m.Bytes
}
