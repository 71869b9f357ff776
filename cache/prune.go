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

// UnfinishedAge is how old an unfinished file must be before it is taken for one that a dead process left.
const UnfinishedAge = time.Hour

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

// PruneReport says what Prune removed.
type PruneReport struct {
	// Records, Facts, TOCs, Memos and Unfinished count the files of each kind.
	Records, Facts, TOCs, Memos, Unfinished int
	// Bytes is what they took on the disk.
	Bytes int64
}

func (r *PruneReport) count(i Item) {
	r.Bytes += i.Bytes
	switch i.Kind {
	case KindRecord:
		r.Records++
	case KindFact:
		r.Facts++
	case KindTOC:
		r.TOCs++
	case KindFiles:
		r.Memos++
	case KindUnfinished:
		r.Unfinished++
	}
}

// Prune removes the items that drop chooses, and unfinished files of dead processes, about which it is not asked. It is called
// by one goroutine, with each item as it is at that moment. A build beside it loses nothing but time: what it asks for and is
// gone is found out again.
func (s *Store) Prune(ctx context.Context, drop func(Item) bool) (PruneReport, error) {
	var report PruneReport
	p := pruner{store: s, now: s.now()}
	err := s.eachItem(ctx, func(i Item) error {
		if i.Kind == KindUnfinished && !p.dead(i) || i.Kind != KindUnfinished && !drop(i) {
			return nil
		}
		err := os.Remove(s.path(i.Path))
		if err == nil {
			report.count(i)
		}
		return ignoreGone(err)
	})
	if err == nil {
		err = p.names(ctx)
	}
	if err != nil {
		return report, fmt.Errorf("prune cache: %w", err)
	}
	return report, nil
}

// pruner carries one Prune.
type pruner struct {
	store *Store
	now   time.Time
}

// dead reports whether an unfinished file is so old that its writer must be.
func (p *pruner) dead(i Item) bool { return p.now.Sub(i.Used) > UnfinishedAge }

// names prunes the index of names.
func (p *pruner) names(ctx context.Context) error {
	entries, err := os.ReadDir(p.store.path(namesDir))
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		if err := p.pruneName(ctx, p.store.path(namesDir, e.Name())); err != nil {
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
