package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	return &Lease{store: s, file: f}, nil
}

// Release ends the lease. It may be called again.
func (l *Lease) Release() {
	_ = l.store.disk.remove(l.file.Name())
	_ = l.file.Close()
}

// cutoff is the moment from which on used blobs are kept: start or the start
// of the oldest live lease. Leases of dead processes are removed.
func (s *Store) cutoff(start time.Time) (time.Time, error) {
	dir := s.path("locks", "leases")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return start, fmt.Errorf("list leases: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if f, ok := takeIdle(path); ok {
			err := s.disk.remove(path)
			f.Close()
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return start, fmt.Errorf("remove dead lease: %w", err)
			}
			continue
		}
		if begun, ok := leaseStart(path); ok && begun.Before(start) {
			start = begun
		}
	}
	return start, nil
}

func leaseStart(path string) (time.Time, bool) {
	line, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}, false
	}
	first, _, _ := strings.Cut(string(line), " ")
	n, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(0, n), true
}
