package space

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ocibuild/ocibuild/build/remote"
	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/opencontainers/go-digest"
)

// The kinds of faults beside those of images.
const (
	FaultRecord   image.FaultKind = "record"   // what a step gave
	FaultCache    image.FaultKind = "cache"    // any other file of the cache
	FaultSnapshot image.FaultKind = "snapshot" // an unpacked layer
	FaultFetched  image.FaultKind = "fetched"  // what came from a URL or a repository
)

// Fsck reads the whole store: what image.Store.Fsck does, every file of the cache,
// every unpacked layer that the store has the tars of, and what builds have fetched. It may run beside
// everything else, and marks nothing as used. The error is about the check itself,
// not about what it found.
func (s Space) Fsck(ctx context.Context) ([]image.Fault, error) {
	f := fsck{Space: s, holds: make(map[string][]digest.Digest), trees: make(map[digest.Digest][]tree), tocs: make(map[digest.Digest]*layer.TOC)}
	if err := f.cache(ctx); err != nil {
		return nil, err
	}
	if err := f.fetched(ctx); err != nil {
		return nil, err
	}
	if err := f.findTrees(); err != nil {
		return nil, fmt.Errorf("check unpacked layers: %w", err)
	}
	faults, err := s.Images.Fsck(ctx, image.FsckOptions{
		Layers: slices.Concat(f.recordBlobs()...),
		Layer:  func(_ digest.Digest, d layer.Digests, toc *layer.TOC) { f.layer(ctx, d.DiffID, toc) },
	})
	if err != nil {
		return nil, err
	}
	f.chains(ctx)
	f.records(faults)
	slices.SortFunc(f.faults, func(a, b image.Fault) int { return strings.Compare(a.Path, b.Path) })
	return append(faults, f.faults...), ctx.Err()
}

// fsck carries one Fsck.
type fsck struct {
	Space
	holds map[string][]digest.Digest // by the path of a record, its blobs
	trees map[digest.Digest][]tree   // by diff id
	onto  []chainTree
	tocs  map[digest.Digest]*layer.TOC // of the layers of these; nil until it is known

	mu     sync.Mutex
	faults []image.Fault
	seen   map[digest.Digest]bool
}

// tree is an unpacked layer.
type tree struct {
	path        string // within the store
	skipDevices bool
}

func (f *fsck) fault(x image.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, x)
}

// cache reads the files of the cache.
func (f *fsck) cache(ctx context.Context) error {
	return f.Cache.Check(ctx, func(i cache.Item, err error) {
		path := filepath.Join("cache", i.Path)
		switch {
		case err != nil && i.Kind == cache.KindRecord:
			f.fault(image.Fault{Kind: FaultRecord, Path: path, Err: err})
		case err != nil:
			f.fault(image.Fault{Kind: FaultCache, Path: path, Err: err})
		case i.Kind == cache.KindRecord:
			f.holds[path] = nil
			if r, err := f.Cache.Peek(i.Key()); err == nil {
				for _, b := range r.Blobs {
					f.holds[path] = append(f.holds[path], b.Digest)
				}
			}
		}
	})
}

// fetched checks what came from URLs and repositories.
func (f *fsck) fetched(ctx context.Context) error {
	o := remote.Options{Dir: f.path(RemoteDir), Locks: f.Images, Env: os.LookupEnv}
	return remote.Check(ctx, o, func(k remote.Kept, err error) {
		if err != nil {
			f.fault(image.Fault{Kind: FaultFetched, Path: filepath.Join(RemoteDir, k.Path), Err: err})
		}
	})
}

func (f *fsck) recordBlobs() [][]digest.Digest {
	var list [][]digest.Digest
	for _, blobs := range f.holds {
		list = append(list, blobs)
	}
	return list
}

// findTrees finds out what unpacked layers there are, and of which layers.
func (f *fsck) findTrees() error {
	of, err := f.namedTrees()
	if err != nil {
		return err
	}
	for _, sn := range f.Snapshots {
		layers, err := sn.Layers()
		if err != nil {
			return err
		}
		for _, l := range layers {
			t := tree{f.rel(filepath.Join(sn.Dir(), committedDir, l.Name)), !sn.Level().MakesDevices()}
			if f.hollow(t.path) {
				continue
			}
			if image.IsChain(l.Name) {
				f.chain(sn, l.Name, t)
				continue
			}
			d := digest.NewDigestFromEncoded(digest.SHA256, l.Name)
			if d.Validate() == nil {
				f.trees[d] = append(f.trees[d], t)
			}
			for _, d := range of[l.Name] {
				f.trees[d] = append(f.trees[d], t)
			}
		}
	}
	return nil
}

// hollow reports whether an unpacked layer has no files, or is gone.
func (f *fsck) hollow(path string) bool {
	if info, err := os.Lstat(f.path(path, "fs")); err == nil && info.IsDir() {
		return false
	}
	if _, err := os.Lstat(f.path(path)); err == nil {
		f.fault(image.Fault{Kind: FaultSnapshot, Path: path, Err: errors.New("it has no files")})
	}
	return true
}

// namedTrees finds the layers of the trees that have names of their own: what steps
// have made in place.
func (f *fsck) namedTrees() (map[string][]digest.Digest, error) {
	of := make(map[string][]digest.Digest)
	entries, err := os.ReadDir(f.path("cache/facts/snapshot"))
	if err != nil {
		return of, ignoreGone(err)
	}
	for _, e := range entries {
		name, ok := f.Cache.PeekFact("snapshot", cache.Key(e.Name()))
		if d := digest.NewDigestFromEncoded(digest.SHA256, e.Name()); ok && d.Validate() == nil {
			of[string(name)] = append(of[string(name)], d)
		}
	}
	return of, nil
}

// layer compares what is remembered and unpacked of a layer with what it holds.
func (f *fsck) layer(ctx context.Context, diffID digest.Digest, toc *layer.TOC) {
	f.mu.Lock()
	again := f.seen[diffID]
	if f.seen == nil {
		f.seen = make(map[digest.Digest]bool)
	}
	f.seen[diffID] = true
	if _, wanted := f.tocs[diffID]; wanted {
		f.tocs[diffID] = toc
	}
	f.mu.Unlock()
	if again {
		return // compressed in another way
	}
	if said, ok := f.Cache.PeekTOC(diffID); ok && !bytes.Equal(said, toc.Marshal()) {
		f.fault(image.Fault{Kind: FaultCache, Path: filepath.Join("cache/toc", diffID.Encoded()), Err: errors.New("it is not the layer's table of contents")})
	}
	for _, t := range f.trees[diffID] {
		f.unpacked(ctx, t, layer.Check(ctx, f.path(t.path, "fs"), toc, layer.CheckOptions{SkipDevices: t.skipDevices}))
	}
}

// unpacked notes what is wrong with an unpacked layer, unless it went meanwhile.
func (f *fsck) unpacked(ctx context.Context, t tree, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	if _, gone := os.Lstat(f.path(t.path)); errors.Is(gone, fs.ErrNotExist) {
		return
	}
	f.fault(image.Fault{Kind: FaultSnapshot, Path: t.path, Err: err})
}

// records finds those whose blobs are damaged or gone. A record that went meanwhile
// is none.
func (f *fsck) records(faults []image.Fault) {
	bad := make(map[digest.Digest]bool)
	for _, x := range faults {
		if x.Kind == image.FaultBlob && x.Digest != "" {
			bad[x.Digest] = true
		}
	}
	for path, blobs := range f.holds {
		at := slices.IndexFunc(blobs, func(d digest.Digest) bool { return bad[d] || !f.Images.HasAnywhere(d) })
		if at < 0 {
			continue
		}
		if _, err := os.Lstat(f.path(path)); err != nil {
			continue
		}
		what := "is gone"
		if bad[blobs[at]] {
			what = "is damaged"
		}
		f.fault(image.Fault{Kind: FaultRecord, Path: path, Digest: blobs[at], Err: fmt.Errorf("its blob %s %s", blobs[at], what)})
	}
}
