package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// Mount gives the merged tree of a snapshot as a detached mount: changes go to
// the snapshot's upper directory, and the mount ends when the file is closed.
func (s *Snapshots) Mount(ctx context.Context, sn *Snapshot) (*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.copies() {
		tree, err := sn.workOn(false)
		if err == nil && tree.before == nil {
			err = tree.note()
		}
		if err != nil {
			return nil, err
		}
		return s.detach(tree.root)
	}
	return s.mountOver(sn, s.path(emptyDir))
}

// detach gives a directory as a mount of its own, where the level can do that.
func (s *Snapshots) detach(dir *os.File) (*os.File, error) {
	if s.level.Mounts() {
		return OpenTree(fdPath(dir))
	}
	return os.Open(fdPath(dir))
}

// View gives the merged, read-only tree of committed layers, bottom first, as a
// detached mount that ends when the file is closed.
func (s *Snapshots) View(ctx context.Context, parents []string) (*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.checkAll(parents); err != nil {
		return nil, fmt.Errorf("view layers: %w", err)
	}
	if s.copies() {
		return s.copiedView(parents)
	}
	if len(parents) == 0 {
		return mountDirectory(s.path(emptyDir))
	}
	l := layers{lower: s.lowers(parents, s.path(emptyDir)), userxattr: s.level.UserXattr()}
	f, err := mountOverlay(l, s.path(emptyDir))
	if err != nil {
		return nil, fmt.Errorf("view layers: %w", err)
	}
	return f, nil
}

// copiedView is View where there are no overlays.
func (s *Snapshots) copiedView(parents []string) (*os.File, error) {
	dir := s.path(emptyDir)
	if len(parents) > 0 {
		f, err := s.viewCopy(parents)
		if err != nil {
			return nil, fmt.Errorf("view layers: %w", err)
		}
		defer f.Close()
		dir = fdPath(f)
	}
	if s.level.Mounts() {
		return mountDirectory(dir)
	}
	return os.Open(dir)
}

// mountOver mounts a snapshot with one more directory below all of its parents.
func (s *Snapshots) mountOver(sn *Snapshot, bottom string) (*os.File, error) {
	if sn.lock == nil {
		return nil, fmt.Errorf("mount snapshot: it has ended: %w", fs.ErrClosed)
	}
	work := sn.work(sn.mounts.Add(1)) // a volatile overlay never takes a work directory twice
	if err := os.Mkdir(work, 0o700); err != nil {
		return nil, fmt.Errorf("mount snapshot: %w", err)
	}
	l := layers{lower: s.lowers(sn.parents, bottom), upper: sn.Upper(), work: work, userxattr: s.level.UserXattr()}
	f, err := mountOverlay(l, s.path(emptyDir))
	if err != nil {
		return nil, fmt.Errorf("mount snapshot: %w", err)
	}
	return f, nil
}

// lowers lists directories topmost first. Of a layer that is there twice, only
// the upper one is kept: it hides all that the lower one could show, and
// overlayfs refuses to have one directory twice.
func (s *Snapshots) lowers(parents []string, bottom string) []string {
	dirs := make([]string, 0, len(parents)+1)
	seen := make(map[string]bool, len(parents))
	for _, name := range slices.Backward(parents) {
		if !seen[name] {
			seen[name] = true
			dirs = append(dirs, s.tree(name))
		}
	}
	return append(dirs, bottom)
}

// mountPoints returns a tree with nothing but the mount points of a step that
// must leave no trace. Made once.
func (s *Snapshots) mountPoints() (string, error) {
	dir := s.path(pointsDir)
	if _, err := os.Lstat(dir); err == nil {
		return dir, nil
	}
	sn, err := s.activate(rootOwner{mode: 0o755})
	if err != nil {
		return "", fmt.Errorf("make mount points: %w", err)
	}
	tree := sn.Upper()
	err = errors.Join(makePoints(tree), renameNew(tree, dir))
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return dir, errors.Join(err, sn.Discard())
}

func makePoints(tree string) error {
	if err := makeTree(tree+"/etc", rootOwner{mode: 0o755}); err != nil {
		return err
	}
	for _, name := range []string{"hosts", "resolv.conf"} {
		path := tree + "/etc/" + name
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o644); err != nil {
			return err
		}
	}
	return nil
}
