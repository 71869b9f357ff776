package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Lease keeps everything that is made or used from its start on from being
// pruned. It is a locked file, so it ends with the process that holds it.
type Lease struct {
	store *Store
	file  *os.File
}

// Lease starts a lease. Whoever makes blobs that nothing names yet, or relies
// on blobs found by Use, holds one.
func (s *Store) Lease(ctx context.Context) (*Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := s.disk.temp(s.path("locks", "leases"))
	if err != nil {
		return nil, s.explain("start lease", err)
	}
	// The start is taken after the file is there and locked: a prune that
	// finds it empty began before this moment.
	line := fmt.Sprintf("%d %d\n", s.now().UnixNano(), os.Getpid())
	if err := s.disk.write(f, []byte(line)); err != nil {
		_ = s.disk.remove(f.Name())
		f.Close()
		return nil, s.explain("start lease", err)
	}
	_, _ = s.cutoff(s.now()) // those of the dead go; where they cannot, a prune tells
	return &Lease{store: s, file: f}, nil
}

// Release ends the lease. It may be called again.
func (l *Lease) Release() {
	_ = l.store.disk.remove(l.file.Name())
	_ = l.file.Close()
}

// LiveLease is a lease that some process holds.
type LiveLease struct {
	Began   time.Time
	Process int // in the process namespace that it was taken in
}

// Leases lists the leases that are held, the oldest first.
func (s *Store) Leases() ([]LiveLease, error) {
	var list []LiveLease
	err := s.eachLease(func(path string, dead bool) error {
		if l, ok := readLease(path); ok && !dead {
			list = append(list, l)
		}
		return nil
	})
	slices.SortFunc(list, func(a, b LiveLease) int { return a.Began.Compare(b.Began) })
	return list, err
}

// InUseSince is the moment from which on everything used is in use: the start of
// the oldest live lease, or now.
func (s *Store) InUseSince() (time.Time, error) {
	start := s.now()
	live, err := s.Leases()
	if len(live) > 0 && live[0].Began.Before(start) {
		start = live[0].Began
	}
	return s.coarse(start), err
}

// cutoff is the moment from which on used blobs are kept: start or the start
// of the oldest live lease. Leases of dead processes are removed.
func (s *Store) cutoff(start time.Time) (time.Time, error) {
	err := s.eachLease(func(path string, dead bool) error {
		if dead {
			return ignoreGone(s.disk.remove(path))
		}
		if l, ok := readLease(path); ok && l.Began.Before(start) {
			start = l.Began
		}
		return nil
	})
	return start, err
}

// eachLease calls fn for the file of every lease; a dead one is locked meanwhile.
func (s *Store) eachLease(fn func(path string, dead bool) error) error {
	dir := s.path("locks", "leases")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		f, dead := takeIdle(path)
		err := fn(path, dead)
		if dead {
			f.Close()
		}
		if err != nil {
			return fmt.Errorf("look at lease %s: %w", e.Name(), err)
		}
	}
	return nil
}

func readLease(path string) (l LiveLease, ok bool) {
	line, err := os.ReadFile(path)
	if err != nil {
		return l, false
	}
	first, rest, _ := strings.Cut(string(line), " ")
	n, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return l, false
	}
	l.Began = time.Unix(0, n)
	l.Process, _ = strconv.Atoi(strings.TrimSpace(rest))
	return l, true
}

// ignoreGone drops the error of a file that something else removed first.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
