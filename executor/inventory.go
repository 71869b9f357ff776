package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocibuild/ocibuild/image/usage"
)

// LayerInfo is a committed layer.
type LayerInfo struct {
	Name     string
	Used     time.Time
	Attached bool // a mount needs it
}

// Layers lists the committed layers. None is marked as used.
func (s *Snapshots) Layers() ([]LayerInfo, error) {
	entries, err := os.ReadDir(s.path(committedDir))
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	attached, err := s.attached()
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	var list []LayerInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			list = append(list, LayerInfo{e.Name(), info.ModTime(), attached[e.Name()]})
		}
	}
	return list, nil
}

// Measure gives what a committed layer takes on the disk. A layer never changes,
// so that is true for as long as it is there.
func (s *Snapshots) Measure(ctx context.Context, name string) (int64, error) {
	if err := checkName(name); err != nil {
		return 0, fmt.Errorf("measure layer: %w", err)
	}
	var m usage.Meter
	if err := m.Tree(ctx, s.path(committedDir, name)); err != nil {
		return 0, fmt.Errorf("measure layer %s: %w", name, err)
	}
	return m.Bytes, nil
}

// Unfinished is a directory that is being made or deleted, or was when its process
// ended.
type Unfinished struct {
	Path  string // below the directory of the snapshots
	Bytes int64
	Used  time.Time
	Live  bool // its process runs
}

// Unfinished lists what is neither committed nor needed by anything committed.
func (s *Snapshots) Unfinished(ctx context.Context) ([]Unfinished, error) {
	var list []Unfinished
	for _, dir := range []string{activeDir, trashDir} {
		names, err := readNames(s.path(dir))
		if err != nil {
			return nil, fmt.Errorf("list unfinished layers: %w", err)
		}
		for _, name := range names {
			u, err := s.unfinished(ctx, filepath.Join(dir, name))
			if err != nil {
				return nil, fmt.Errorf("list unfinished layers: %w", err)
			}
			list = append(list, u)
		}
	}
	return list, nil
}

func (s *Snapshots) unfinished(ctx context.Context, path string) (Unfinished, error) {
	u := Unfinished{Path: path}
	f, err := os.Open(s.path(path))
	if err != nil {
		return u, ignoreGone(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		u.Used = info.ModTime()
	}
	// The lock is tried for a moment only: whoever takes it in earnest has made
	// the directory just now and holds the store's lock.
	u.Live = filepath.Dir(path) == activeDir && s.held(f)
	var m usage.Meter
	err = m.Tree(ctx, s.path(path))
	u.Bytes = m.Bytes
	return u, err
}

// held reports whether a process holds the lock of an active directory.
func (s *Snapshots) held(f *os.File) (held bool) {
	err := s.locked(unix.LOCK_EX, func() error {
		err := flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			err = flock(f, unix.LOCK_UN)
		}
		held = errors.Is(err, unix.EWOULDBLOCK)
		return nil
	})
	return held || err != nil
}

// ignoreGone drops the error of a file that something else removed first.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
