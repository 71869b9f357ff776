package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// maxNearest bounds how many records of one name Nearest compares: the newest ones.
const maxNearest = 64

// Change is a field in which two trails differ.
type Change struct {
	Name, Old, New string
	// Added is set when only the new trail has the field, Removed when only the old one has it.
	Added, Removed bool
}

// index notes that a record of that name exists.
func (s *Store) index(name string, key Key) error {
	path := s.path(namesDir, nameHash(name), string(key))
	err := note(path, s.now())
	// A prune beside us takes the empty directory away: before the file is made in it, or between the two looks of MkdirAll.
	for try := 0; (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist)) && try < 100; try++ {
		err = note(path, s.now())
	}
	return err
}

// note makes an empty file, and its directory, whose mtime is now.
func note(path string, now time.Time) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Chtimes(path, now, now))
}

// HasName reports whether a step of that name has ever been recorded (and not been pruned since).
func (s *Store) HasName(name string) bool {
	dir, err := os.Open(s.path(namesDir, nameHash(name)))
	if err != nil {
		return false
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(1)
	return len(names) > 0
}

// Nearest returns, of the newest records of that name, the one whose trail differs from t in the fewest fields (the newest of
// several), and those fields in t's order. Its error wraps fs.ErrNotExist when there is no record of that name. It does not
// mark records used.
func (s *Store) Nearest(name string, t Trail) (*Record, []Change, error) {
	keys, err := s.keysByName(name)
	if err != nil {
		return nil, nil, fmt.Errorf("find records of a step: %w", err)
	}
	var best *Record
	var changes []Change
	for _, key := range keys {
		r, err := s.get(key, time.Time{})
		if err != nil {
			continue
		}
		if c := diff(r.Trail, t); best == nil || len(c) < len(changes) {
			best, changes = r, c
		}
	}
	if best == nil {
		return nil, nil, fmt.Errorf("find records of a step: %w", fs.ErrNotExist)
	}
	return best, changes, nil
}

// keysByName lists the keys of the newest records of a name, newest first.
func (s *Store) keysByName(name string) ([]Key, error) {
	entries, err := os.ReadDir(s.path(namesDir, nameHash(name)))
	if err != nil {
		return nil, err
	}
	type dated struct {
		key  Key
		time time.Time
	}
	var all []dated
	for _, e := range entries {
		key := Key(e.Name())
		if info, err := e.Info(); err == nil && key.valid() {
			all = append(all, dated{key, info.ModTime()})
		}
	}
	slices.SortStableFunc(all, func(a, b dated) int { return b.time.Compare(a.time) })
	keys := make([]Key, 0, min(len(all), maxNearest))
	for _, d := range all[:cap(keys)] {
		keys = append(keys, d.key)
	}
	return keys, nil
}

// diff lists the fields in which two trails differ: changed and added ones in the new trail's order, then removed ones in the
// old trail's. Fields that share a name are compared in their order.
func diff(old, now Trail) []Change {
	type slot struct {
		name string
		n    int
	}
	before := make(map[slot]string, len(old))
	count := make(map[string]int)
	for _, f := range old {
		before[slot{f.Name, count[f.Name]}] = f.Value
		count[f.Name]++
	}
	var changes []Change
	seen := make(map[string]int)
	for _, f := range now {
		at := slot{f.Name, seen[f.Name]}
		seen[f.Name]++
		value, ok := before[at]
		if !ok || value != f.Value {
			changes = append(changes, Change{Name: f.Name, Old: value, New: f.Value, Added: !ok})
		}
	}
	passed := make(map[string]int)
	for _, f := range old {
		passed[f.Name]++
		if passed[f.Name] > seen[f.Name] {
			changes = append(changes, Change{Name: f.Name, Old: f.Value, Removed: true})
		}
	}
	return changes
}
