package space

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/build/remote"
	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/usage"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Area is a part of the store.
type Area string

// The areas. What names lead to belongs to Images, whatever else holds it.
const (
	Images     Area = "images"     // images, and blobs that nothing holds
	Cache      Area = "cache"      // records of steps and what they hold, memories of all kinds
	Snapshots  Area = "snapshots"  // unpacked layers
	Mounts     Area = "mounts"     // the directories of cache mounts
	Unfinished Area = "unfinished" // what is being written, or was when a program died
	Quarantine Area = "quarantine" // damaged blobs that fsck --repair has taken out of the way
	Other      Area = "other"      // the table, locks, directories
)

// Areas lists the areas in the order in which they are shown.
func Areas() []Area {
	return []Area{Images, Cache, Snapshots, Mounts, Unfinished, Quarantine, Other}
}

// Space is a store with all that is in it.
type Space struct {
	Images    *image.Store
	Cache     *cache.Store
	Snapshots []*executor.Snapshots // of each level that builds have run at here
}

// The places of what Measure does not walk each time.
const (
	snapshotsDir = "snapshots"
	committedDir = "committed" // in each directory of snapshots
	mountsDir    = "cache/mounts"

	// RemoteDir is where builds keep what they have fetched from URLs.
	RemoteDir = "cache/remote"
)

// treeDirs are the directories each entry of which is a tree of its own.
func (s Space) treeDirs() []string {
	dirs := []string{mountsDir, RemoteDir + "/http", RemoteDir + "/repositories", RemoteDir + "/trees", RemoteDir + "/work"}
	for _, sn := range s.Snapshots {
		for _, name := range []string{committedDir, "active", "trash"} {
			dirs = append(dirs, s.rel(filepath.Join(sn.Dir(), name)))
		}
	}
	return dirs
}

// rel is a path within the store.
func (s Space) rel(path string) string { return strings.TrimPrefix(path, s.path()+"/") }

func (s Space) path(elem ...string) string {
	return filepath.Join(append([]string{s.Images.Root()}, elem...)...)
}

// Measure gives what the store takes on the disk.
func (s Space) Measure(ctx context.Context) (int64, error) {
	total, err := s.flat(ctx)
	if err != nil {
		return 0, err
	}
	inUse, err := s.Images.InUseSince()
	if err != nil {
		return 0, err
	}
	sizes := s.openSizes(inUse)
	defer sizes.save()
	trees, err := s.trees(ctx, sizes)
	for _, i := range trees {
		total += i.Bytes
	}
	return total, err
}

// flat measures all but what trees gives.
func (s Space) flat(ctx context.Context) (int64, error) {
	dirs := s.treeDirs()
	m := usage.Meter{Skip: func(path string) bool { return slices.Contains(dirs, filepath.Dir(s.rel(path))) }}
	if err := m.Tree(ctx, s.path()); err != nil {
		return 0, fmt.Errorf("measure the store: %w", err)
	}
	return m.Bytes, nil
}

// trees lists what is a directory tree of its own: unpacked layers, cache mounts,
// and what of these is unfinished.
func (s Space) trees(ctx context.Context, sizes *sizes) ([]Item, error) {
	var list []Item
	for _, sn := range s.Snapshots {
		layers, err := sn.Layers()
		if err != nil {
			return nil, err
		}
		for _, l := range layers {
			i := Item{Area: Snapshots, Kind: KindSnapshot, ID: l.Name, Used: l.Used, Path: filepath.Join(sn.Dir(), committedDir, l.Name)}
			if l.Attached {
				i.Pin = PinMounted
			}
			list = append(list, i)
		}
	}
	mounts, err := s.Cache.Mounts()
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		list = append(list, Item{Area: Mounts, Kind: KindMount, ID: m.Name, Used: m.Used, Path: m.Dir})
	}
	fetched, err := remote.List(s.path(RemoteDir))
	if err != nil {
		return nil, err
	}
	for _, k := range fetched {
		list = append(list, Item{Area: Cache, Kind: KindSource, ID: k.Path, Used: k.Used, Path: s.path(RemoteDir, k.Path)})
	}
	unfinished, err := s.unfinishedTrees(ctx)
	if err != nil {
		return nil, err
	}
	err = s.measureAll(ctx, list, sizes)
	return append(list, unfinished...), err
}

// measureAll fills in what trees take, several at a time.
func (s Space) measureAll(ctx context.Context, list []Item, sizes *sizes) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(runtime.GOMAXPROCS(0), 4))
	for i := range list {
		g.Go(func() (err error) {
			list[i].Bytes, err = sizes.of(ctx, &list[i])
			return err
		})
	}
	return g.Wait()
}

func (s Space) unfinishedTrees(ctx context.Context) ([]Item, error) {
	var list []Item
	for _, sn := range s.Snapshots {
		trees, err := sn.Unfinished(ctx)
		if err != nil {
			return nil, err
		}
		for _, u := range trees {
			i := Item{Area: Unfinished, Kind: KindUnfinished, Used: u.Used, Bytes: u.Bytes, Path: filepath.Join(sn.Dir(), u.Path)}
			i.ID = s.rel(i.Path)
			if u.Live {
				i.Pin = PinInUse
			}
			list = append(list, i)
		}
	}
	mounts, err := s.Cache.UnfinishedMounts()
	if err != nil {
		return nil, err
	}
	for _, u := range mounts {
		list = append(list, Item{Area: Unfinished, Kind: KindUnfinished, ID: filepath.Join(mountsDir, u.Name), Used: u.Used, Path: u.Dir})
	}
	work, err := remote.ListWork(s.path(RemoteDir))
	if err != nil {
		return nil, err
	}
	for _, w := range work {
		i := Item{Area: Unfinished, Kind: KindUnfinished, ID: filepath.Join(RemoteDir, w.Path), Used: w.Used, Path: s.path(RemoteDir, w.Path)}
		if w.Live {
			i.Pin = PinInUse
		}
		list = append(list, i)
	}
	for at := range list {
		var m usage.Meter
		if i := &list[at]; i.Bytes == 0 {
			err := m.Tree(ctx, i.Path)
			if err != nil {
				return nil, err
			}
			i.Bytes = m.Bytes
		}
	}
	return list, nil
}

// Free gives what ordinary users can still write to the file system of the store.
func (s Space) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.Images.Root(), &st); err != nil {
		return 0, fmt.Errorf("look at the file system: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// below reports whether a path within the store is in a directory of it.
func below(path, dir string) bool { return strings.HasPrefix(path, dir+"/") }

// ignoreGone drops the error of a file that something else removed first.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
