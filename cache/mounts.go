package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mountsDir holds a directory for each cache mount, by the name its user gives it.
const mountsDir = "mounts"

// Mount gives the directory of a cache mount and marks it used. If it is not there, begin is called with a new directory,
// of which it makes what the mount begins with; nobody sees it half made. Several processes that make it at once get the
// same one, and what the others have made is dropped. The name is one path component of the caller's choice.
func (s *Store) Mount(name string, begin func(dir string) error) (string, error) {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsRune(name, filepath.Separator) {
		return "", fmt.Errorf("open cache mount: %.80q is not a name", name)
	}
	dir, now := s.path(mountsDir, name), s.now()
	if err := os.Chtimes(dir, now, now); err == nil {
		return dir, nil
	}
	if err := s.makeMount(dir, now, begin); err != nil {
		return "", fmt.Errorf("make cache mount: %w", err)
	}
	return dir, nil
}

// makeMount makes the directory aside and renames it into place.
func (s *Store) makeMount(dir string, now time.Time, begin func(dir string) error) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), tempPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh) // it is not there any more when it was renamed
	if err := begin(fresh); err != nil {
		return err
	}
	if err := os.Chtimes(fresh, now, now); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, dir, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return nil // somebody was quicker
	}
	return err
}

// MountLock names the lock that whoever uses a cache mount holds, shared or alone, and whoever drops it holds alone.
func MountLock(name string) string { return "mount-" + name }

// LabelMount notes what people call a cache mount; MountLabel tells it, or "" when nothing is noted.
func (s *Store) LabelMount(name, label string) error {
	if s.MountLabel(name) == label {
		return nil
	}
	return s.PutFact(LabelFact, labelKey(name), []byte(label))
}

// MountLabel gives what LabelMount noted.
func (s *Store) MountLabel(name string) string {
	label, _ := s.GetFact(LabelFact, labelKey(name))
	return string(label)
}

// LabelFact is the kind of the facts that hold the labels of cache mounts. They go with their mounts.
const LabelFact = "mount-label"

func labelKey(name string) Key {
	h := NewHasher(LabelFact)
	h.String("name", name)
	key, _ := h.Sum()
	return key
}

// MountInfo is the directory of a cache mount.
type MountInfo struct {
	Name string
	Dir  string
	Used time.Time
}

// Mounts lists the cache mounts.
func (s *Store) Mounts() ([]MountInfo, error) {
	return s.mounts(func(name string) bool { return !strings.HasPrefix(name, ".") })
}

// UnfinishedMounts lists the directories of cache mounts that are being made or deleted, or were when a process died.
func (s *Store) UnfinishedMounts() ([]MountInfo, error) {
	return s.mounts(func(name string) bool { return strings.HasPrefix(name, tempPrefix) })
}

func (s *Store) mounts(wanted func(name string) bool) ([]MountInfo, error) {
	entries, err := os.ReadDir(s.path(mountsDir))
	if err != nil {
		return nil, ignoreGone(err)
	}
	var list []MountInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && wanted(e.Name()) {
			list = append(list, MountInfo{e.Name(), s.path(mountsDir, e.Name()), info.ModTime()})
		}
	}
	return list, nil
}

// DropMount takes a cache mount out of the way: whoever asks for it from now on gets a new one. CleanMounts deletes what was
// in it. The caller sees to it that nobody uses the mount.
func (s *Store) DropMount(name string) error {
	err := os.Rename(s.path(mountsDir, name), s.path(mountsDir, goneMount+rand.Text()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop cache mount: %w", err)
	}
	_ = os.Remove(s.path(factsDir, LabelFact, string(labelKey(name)))) // a label without a mount does no harm
	return nil
}

// goneMount begins the names of cache mounts that are being deleted.
const goneMount = tempPrefix + "gone-"

// CleanMounts deletes what DropMount has taken away, and what processes that died before that time have left unfinished. It
// returns how many of these there were.
func (s *Store) CleanMounts(ctx context.Context, before time.Time) (int, error) {
	list, err := s.UnfinishedMounts()
	if err != nil {
		return 0, fmt.Errorf("clean cache mounts: %w", err)
	}
	unfinished := 0
	for _, m := range list {
		if err := ctx.Err(); err != nil {
			return unfinished, err
		}
		dropped := strings.HasPrefix(m.Name, goneMount)
		if !dropped && !m.Used.Before(before) {
			continue
		}
		if err := os.RemoveAll(m.Dir); err != nil {
			return unfinished, fmt.Errorf("clean cache mounts: %w", err)
		}
		if !dropped {
			unfinished++
		}
	}
	return unfinished, nil
}
