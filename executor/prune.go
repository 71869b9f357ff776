package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Prune deletes the committed layers that keep does not want, and everything
// that ended processes left behind. lastUsed is when the layer was committed or last
// met by Use; a layer met by Use while Prune runs is asked about with that time. Layers
// that are attached stay. It returns the names of the layers that are gone, also with
// an error.
func (s *Snapshots) Prune(ctx context.Context, keep func(name string, lastUsed time.Time) bool) ([]string, error) {
	names, err := readNames(s.path(committedDir))
	if err != nil {
		return nil, fmt.Errorf("prune snapshots: %w", err)
	}
	attached, err := s.attached()
	if err != nil {
		return nil, fmt.Errorf("prune snapshots: %w", err)
	}
	wanted := keep
	keep = func(name string, used time.Time) bool { return attached[name] || wanted(name, used) }
	var gone []string
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return gone, err
		}
		removed, err := s.pruneLayer(name, keep)
		if err != nil {
			return gone, fmt.Errorf("prune layer %s: %w", name, err)
		}
		if removed {
			gone = append(gone, name)
		}
	}
	if err := s.pruneLeftovers(ctx); err != nil {
		return gone, fmt.Errorf("prune leftovers: %w", err)
	}
	return gone, nil
}

func (s *Snapshots) pruneLayer(name string, keep func(string, time.Time) bool) (removed bool, err error) {
	dir := s.path(committedDir, name)
	err = s.locked(unix.LOCK_EX, func() error {
		fi, err := os.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || keep(name, fi.ModTime()) {
			return err
		}
		removed = true
		_, err = s.moveToTrash(dir)
		return err
	})
	return removed && err == nil, err
}

// pruneLeftovers removes active directories whose owner has ended, unused
// generated files, and whatever is in the trash.
func (s *Snapshots) pruneLeftovers(ctx context.Context) error {
	if err := s.moveAbandoned(); err != nil {
		return err
	}
	if err := s.pruneFiles(time.Now().Add(-24 * time.Hour)); err != nil {
		return err
	}
	idle := time.Now().Add(-idleTime)
	if err := errors.Join(s.dropTrees(treesDir, 0, idle), s.dropTrees(viewsDir, 1<<20, idle)); err != nil {
		return err
	}
	return s.emptyTrash(ctx)
}

// sweepLeftovers is for the first snapshot that is begun: steps that were killed may
// have left much. It takes the time of renaming it; nobody waits for its end, and what
// this process does not get to, the next one removes.
func (s *Snapshots) sweepLeftovers() {
	if s.moveAbandoned() != nil {
		return // Prune tells
	}
	s.swept.Go(func() { _ = s.emptyTrash(context.Background()) })
}

func (s *Snapshots) emptyTrash(ctx context.Context) error {
	trash, err := readNames(s.path(trashDir))
	if err != nil {
		return err
	}
	for _, id := range trash {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := os.RemoveAll(s.path(trashDir, id)); err != nil {
			return err
		}
	}
	return nil
}

// moveAbandoned trashes the active directories whose owners have ended.
func (s *Snapshots) moveAbandoned() error {
	active, err := readNames(s.path(activeDir))
	if err != nil {
		return err
	}
	for _, id := range active {
		err := s.locked(unix.LOCK_EX, func() error { return s.moveIfAbandoned(s.path(activeDir, id)) })
		if err != nil {
			return err
		}
	}
	return nil
}

// moveIfAbandoned trashes an active directory that nobody holds the lock of.
func (s *Snapshots) moveIfAbandoned(dir string) error {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil
		}
		return err
	}
	_, err = s.moveToTrash(dir)
	return err
}

func (s *Snapshots) pruneFiles(unusedSince time.Time) error {
	names, err := readNames(s.path(filesDir))
	if err != nil {
		return err
	}
	for _, name := range names {
		path := s.path(filesDir, name)
		fi, err := os.Lstat(path)
		if err == nil && fi.ModTime().Before(unusedSince) {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// writebackTime is how long, at the most, committed data may have stayed in
// memory before it was on disk.
const writebackTime = 5 * time.Minute

// dropDoubtful handles the first opening after a boot. Layers are not synced, so
// those committed shortly before the machine went down may lack data; they are
// dropped, to be unpacked or made again. The last sign of life in the store is the
// best known lower bound for when that was.
func (s *Snapshots) dropDoubtful() error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	path := s.path("boot")
	if last, err := os.ReadFile(path); err == nil && string(last) == string(boot) {
		return nil
	}
	return s.locked(unix.LOCK_EX, func() error {
		names, err := readNames(s.path(committedDir))
		if err != nil {
			return err
		}
		lastSeen, committed := s.lifeSigns(names)
		for name, at := range committed {
			if at.After(lastSeen.Add(-writebackTime)) {
				if _, err := s.moveToTrash(s.path(committedDir, name)); err != nil {
					return err
				}
			}
		}
		return s.writeFile(path, boot, os.Rename)
	})
}

// lifeSigns returns the latest time that any layer was changed or used, and when
// each was committed.
func (s *Snapshots) lifeSigns(names []string) (last time.Time, committed map[string]time.Time) {
	committed = make(map[string]time.Time, len(names))
	for _, name := range names {
		var wrapper, tree unix.Stat_t
		if unix.Lstat(s.path(committedDir, name), &wrapper) != nil || unix.Lstat(s.tree(name), &tree) != nil {
			continue
		}
		committed[name] = time.Unix(tree.Ctim.Unix())
		if used := time.Unix(wrapper.Ctim.Unix()); used.After(last) {
			last = used
		}
	}
	return last, committed
}

// writeFile makes a small file as a whole; rename puts it in its place.
func (s *Snapshots) writeFile(path string, data []byte, rename func(from, to string) error) error {
	f, err := os.CreateTemp(s.path(filesDir), ".tmp-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
