package cache

import (
	"context"
	"errors"
	"fmt"
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

// PruneMounts removes the cache mounts that were last used before that time, and what an earlier prune has left of some. It
// returns how many there were.
func (s *Store) PruneMounts(ctx context.Context, before time.Time) (int, error) {
	entries, err := os.ReadDir(s.path(mountsDir))
	if err != nil {
		return 0, ignoreGone(err)
	}
	count := 0
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return count, err
		}
		info, err := e.Info()
		if err != nil || !info.ModTime().Before(before) {
			continue
		}
		dir := s.path(mountsDir, e.Name())
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			// Out of the way first: whoever asks for it now gets a new one.
			gone := s.path(mountsDir, tempPrefix+"gone-"+e.Name())
			if err := os.Rename(dir, gone); err != nil {
				continue
			}
			dir = gone
			count++
		}
		if err := os.RemoveAll(dir); err != nil {
			return count, fmt.Errorf("remove cache mount: %w", err)
		}
	}
	return count, nil
}
