package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// tempAge is how old an unfinished file must be before it is taken for one that a dead process left.
const tempAge = time.Hour

// Records yields every record, sorted by key, and a *MissError for each that cannot be read. It ends after an error of any
// other type. Records that come or go meanwhile may be left out.
func (s *Store) Records(ctx context.Context) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		entries, err := os.ReadDir(s.path(stepsDir))
		if err != nil {
			yield(nil, fmt.Errorf("list records: %w", err))
			return
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), tempPrefix) {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(nil, fmt.Errorf("list records: %w", err))
				return
			}
			r, err := s.get(Key(e.Name()), time.Time{})
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// PruneOptions says what Prune removes beside unfinished files of dead processes. The zero value removes nothing else.
type PruneOptions struct {
	// Before removes what was last used before that time.
	Before time.Time
	// All removes everything.
	All bool
	// Drop, when set, removes also the records for which it is true. It is called by one goroutine.
	Drop func(*Record) bool
}

// PruneReport says what Prune removed.
type PruneReport struct {
	// Records, Facts, TOCs and Memos count the files of each kind.
	Records, Facts, TOCs, Memos int
	// Bytes is the sum of their sizes.
	Bytes int64
}

// Prune removes what o says. A build beside it loses nothing but time: what it asks for and is gone is found out again.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	var report PruneReport
	p := pruner{store: s, options: o, now: s.now(), report: &report}
	kinds := []struct {
		dir   string
		count *int
		also  func(path string) bool
	}{
		{stepsDir, &report.Records, p.drop},
		{tocDir, &report.TOCs, nil},
		{filesDir, &report.Memos, nil},
	}
	for _, k := range kinds {
		if err := p.prune(ctx, s.path(k.dir), k.count, k.also); err != nil {
			return report, fmt.Errorf("prune cache: %w", err)
		}
	}
	if err := p.each(factsDir, func(dir string) error { return p.prune(ctx, dir, &report.Facts, nil) }); err != nil {
		return report, fmt.Errorf("prune cache: %w", err)
	}
	if err := p.each(namesDir, func(dir string) error { return p.pruneName(ctx, dir) }); err != nil {
		return report, fmt.Errorf("prune cache: %w", err)
	}
	return report, nil
}

// pruner carries one Prune.
type pruner struct {
	store   *Store
	options PruneOptions
	now     time.Time
	report  *PruneReport
}

// prune removes the files of one directory that are old, unfinished for long, or wanted gone by also.
func (p *pruner) prune(ctx context.Context, dir string, count *int, also func(path string) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if p.now.Sub(info.ModTime()) > tempAge {
				_ = os.Remove(path)
			}
			continue
		}
		if !p.options.All && !info.ModTime().Before(p.options.Before) && (also == nil || !also(path)) {
			continue
		}
		if err := os.Remove(path); err != nil {
			if err := ignoreGone(err); err != nil {
				return err
			}
			continue
		}
		*count++
		p.report.Bytes += info.Size()
	}
	return nil
}

// drop asks the caller about the record at path. One that cannot be read is dropped: it will never be read.
func (p *pruner) drop(path string) bool {
	r, err := p.store.get(Key(filepath.Base(path)), time.Time{})
	if err != nil {
		return errors.Is(err, ErrDamaged)
	}
	return p.options.Drop != nil && p.options.Drop(r)
}

// each calls prune for each directory below dir.
func (p *pruner) each(dir string, prune func(dir string) error) error {
	entries, err := os.ReadDir(p.store.path(dir))
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		if err := prune(p.store.path(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// pruneName removes from the index of a name what has no record, and the directory when nothing is left in it.
func (p *pruner) pruneName(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		record, path := p.store.path(stepsDir, e.Name()), filepath.Join(dir, e.Name())
		if exists(record) {
			continue
		}
		if err := ignoreGone(os.Remove(path)); err != nil {
			return err
		}
		if exists(record) { // put again between the two calls, and indexed perhaps before ours
			if err := note(path, p.now); err != nil {
				return err
			}
		}
	}
	_ = os.Remove(dir) // fails while something is in it
	return nil
}

// exists reports whether a file is there; one that cannot be looked at is.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// ignoreGone drops the error of a file that something else removed first.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
