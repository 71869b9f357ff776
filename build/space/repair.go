package space

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ocibuild/ocibuild/build/remote"
	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
)

// Repair does something about what Fsck has found: image.Store.Repair, and what the
// cache, the unpacked layers and what was fetched have is dropped, for it comes again
// when a build needs it. An unpacked layer that is mounted, or that a running build may use, is
// left.
func (s Space) Repair(ctx context.Context, faults []image.Fault) ([]image.Repaired, error) {
	var mine []image.Fault
	var rebuildable []digest.Digest
	for _, f := range faults {
		switch f.Kind {
		case FaultRecord:
			if f.Digest != "" {
				rebuildable = append(rebuildable, f.Digest)
			}
			mine = append(mine, f)
		case FaultCache, FaultSnapshot, FaultFetched:
			mine = append(mine, f)
		}
	}
	dropped, err := s.dropDamaged(ctx, mine) // records go before the blobs that they name
	if err != nil {
		return dropped, s.Images.Diagnose("repair", err)
	}
	done, err := s.Images.Repair(ctx, faults, image.RepairOptions{Rebuildable: rebuildable})
	return append(done, dropped...), err
}

func (s Space) dropDamaged(ctx context.Context, faults []image.Fault) ([]image.Repaired, error) {
	wanted := func(path string, kinds ...image.FaultKind) bool {
		return slices.ContainsFunc(faults, func(f image.Fault) bool { return f.Path == path && slices.Contains(kinds, f.Kind) })
	}
	_, err := s.Cache.Prune(ctx, func(i cache.Item) bool {
		return wanted(filepath.Join("cache", i.Path), FaultRecord, FaultCache)
	})
	if err != nil {
		return nil, err
	}
	gone, err := s.dropTrees(ctx, wanted)
	if err != nil {
		return nil, err
	}
	var done []image.Repaired
	for _, f := range faults {
		r := image.Repaired{Fault: f, Action: image.Dropped}
		left := f.Kind == FaultSnapshot && !slices.Contains(gone, f.Path) || f.Kind == FaultFetched && s.there(f.Path)
		if left {
			r.Action, r.Note = image.Left, "it is mounted, or a running build may use it: repair again later"
		}
		done = append(done, r)
	}
	return done, nil
}

// there reports whether the store has something at a path.
func (s Space) there(path string) bool {
	_, err := os.Lstat(s.path(path))
	return err == nil
}

// dropTrees drops unpacked layers and what was fetched, if nothing that runs may use
// them, and gives the paths of the layers.
func (s Space) dropTrees(ctx context.Context, wanted func(path string, kinds ...image.FaultKind) bool) ([]string, error) {
	inUse, err := s.Images.InUseSince()
	if err != nil {
		return nil, err
	}
	_, err = remote.Prune(ctx, s.path(RemoteDir), s.Images, func(k remote.Kept) bool {
		return wanted(filepath.Join(RemoteDir, k.Path), FaultFetched) && k.Used.Before(inUse)
	})
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, sn := range s.Snapshots {
		path := func(name string) string { return s.rel(filepath.Join(sn.Dir(), committedDir, name)) }
		names, err := sn.Prune(ctx, func(name string, used time.Time) bool {
			return !wanted(path(name), FaultSnapshot) || !used.Before(inUse)
		})
		for _, name := range names {
			gone = append(gone, path(name))
		}
		if err != nil {
			return nil, err
		}
	}
	return gone, nil
}
