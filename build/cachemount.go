package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// A cache mount shows a directory of the store, or the part of it that its source
// names. With from, the directory begins as what source is there.

// cacheRoot is the owner and mode of a cache mount's new directory.
type cacheRoot struct{ mode, uid, gid uint32 }

// ownedSeed is what a cache with from begins with when it has an owner or a mode, and
// no source: BuildKit makes this directory in a copy of from, and shows that.
const ownedSeed = "/cache"

// settleCache fills in what a cache mount does not say.
func (m *stepMount) settleCache() {
	if m.ID == "" {
		m.ID = path.Clean(m.Target)
	}
	m.root = cacheRoot{mode: 0o755}
	if clean(m.Source) != "" || m.Mode == nil && m.UID == nil && m.GID == nil {
		return
	}
	m.owned = true
	m.root = cacheRoot{numberOr(m.Mode, 0o755) & 0o777, numberOr(m.UID, 0), numberOr(m.GID, 0)}
}

// settleSeed settles what a cache begins with, when its from is known.
func (m *stepMount) settleSeed() {
	switch {
	case !m.reads():
	case m.files == nil && len(m.from.Layers) == 0:
		m.from = nil // from=scratch is the same as none
	case m.owned:
		m.Source = ownedSeed
	}
}

// cacheName identifies the directory of a cache mount, whose seed is identified: by
// its id, and what it begins with. Mounts of other options have others.
func (m *stepMount) cacheName() string {
	f := framer{h: sha256.New()}
	f.text(m.r.req.Plan.Args[cacheNamespaceArg])
	f.text(m.ID)
	if m.owned {
		f.number(int64(m.root.mode), int64(m.root.uid), int64(m.root.gid))
	}
	if m.reads() {
		f.text(clean(m.Source))
		f.text(string(m.content))
	}
	return hex.EncodeToString(f.h.Sum(nil))
}

// seed is what a cache with from begins with; nil if that is an empty directory.
func (m *stepMount) seed(ctx context.Context) (*selection, error) {
	t, err := m.tree(ctx)
	if err != nil {
		return nil, err
	}
	if m.owned {
		if at, err := resolve(t.lookup, clean(m.Source)); err != nil {
			return nil, err
		} else if _, err := t.lookup(at); isNotExist(err) {
			return nil, nil
		}
	}
	return m.selection(ctx)
}

// lockCaches takes the locks of all cache mounts of a step, and gives the directory
// of each by its name. They are taken in one order, because two steps that wait for
// each other's would wait for ever.
func (s *scene) lockCaches(ctx context.Context, mounts []*stepMount) error {
	sharing := map[string]string{}
	for _, m := range mounts {
		if m.Type != "cache" {
			continue
		}
		if err := m.identify(ctx); err != nil {
			return fmt.Errorf("--mount=%s: %w", m.Raw, err)
		}
		name := m.cacheName()
		if sharing[name] != "locked" && m.Sharing != "" {
			sharing[name] = m.Sharing
		} else if _, ok := sharing[name]; !ok {
			sharing[name] = "shared"
		}
	}
	s.caches = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(sharing)) {
		var err error
		if s.caches[name], err = s.lockCache(ctx, name, sharing[name]); err != nil {
			return err
		}
	}
	return nil
}

// lockCache gives a directory that the step may use: the first one, if it must be
// that one, or else the first that nobody uses in another way.
func (s *scene) lockCache(ctx context.Context, name, sharing string) (dir string, err error) {
	if sharing == "locked" {
		unlock, err := s.r.b.Store.Lock(ctx, cache.MountLock(name))
		if err != nil {
			return "", err
		}
		s.closers = append(s.closers, unlock)
		return name, nil
	}
	for i := 0; ; i++ {
		dir = name
		if i > 0 {
			dir += "-" + strconv.Itoa(i)
		}
		unlock, err := s.r.b.Store.TryLock(cache.MountLock(dir), sharing == "shared")
		if err != nil {
			return "", err
		}
		if unlock != nil {
			s.closers = append(s.closers, unlock)
			return dir, nil
		}
	}
}

// cache gives a step a directory that outlives it. Its lock is held.
func (s *scene) cache(ctx context.Context, m *stepMount) error {
	var sel *selection
	var err error
	part := clean(m.Source)
	if m.reads() {
		if sel, err = m.seed(ctx); err != nil {
			return err
		}
		part = seedPart(sel)
	}
	name := s.caches[m.cacheName()]
	dir, err := s.r.b.Cache.Mount(name, func(dir string) error { return m.begin(ctx, dir, sel) })
	if err != nil {
		return err
	}
	if err := s.r.b.Cache.LabelMount(name, m.ID); err != nil {
		return err
	}
	if err := hasPart(dir, part); err != nil {
		return err
	}
	tree, err := executor.OpenTree(dir)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() { tree.Close() })
	s.proc.Binds = append(s.proc.Binds, executor.Bind{Target: m.target, Tree: tree, Path: part, ReadOnly: m.ReadOnly})
	return nil
}

// hasPart looks for the source of a cache mount, which nothing makes but an earlier
// step. Links in a cache lead nowhere but to what is in it.
func hasPart(dir, part string) error {
	root, err := rootfs.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = root.Stat(part)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return &Hinted{fmt.Errorf("source /%s: not found in the cache", part), "without from, source is a directory that an earlier step has made in the cache of that id"}
	}
	return err
}

// seedPart is where in its directory a cache keeps what it begins with: a file
// stands in it, a directory is it.
func seedPart(sel *selection) string {
	if sel == nil || sel.matches[0].dir() {
		return ""
	}
	return path.Base(sel.matches[0].name)
}

// begin makes the content of a new cache.
func (m *stepMount) begin(ctx context.Context, dir string, sel *selection) error {
	root := m.root
	if sel != nil {
		if err := m.r.land(ctx, dir, sel); err != nil {
			return err
		}
		if top := sel.matches[0]; top.dir() {
			e := top.items[0].entry
			root = cacheRoot{uint32(e.Mode), uint32(e.UID), uint32(e.GID)}
		}
	}
	uid, gid := int(root.uid), int(root.gid)
	if owner := m.r.b.applyOptions(layer.Merge).Owner; owner != nil {
		uid, gid = owner(uid, gid)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return err
	}
	return unix.Chmod(dir, root.mode)
}

// land unpacks a selection in a directory of the machine: a file in it, the
// content of a directory as its content.
func (r *run) land(ctx context.Context, dir string, sel *selection) error {
	l := newLanding(emptyTree{}, r.now())
	t := &transfer{dest: "/"}
	if err := t.land(ctx, l, sel, nil, nil); err != nil {
		return err
	}
	pr, pw := io.Pipe()
	written := make(chan error, 1)
	go func() {
		w := layer.NewWriter(pw)
		err := l.write(ctx, w)
		if err == nil {
			_, _, err = w.Close()
		}
		pw.CloseWithError(err)
		written <- err
	}()
	_, _, err := layer.Apply(ctx, pr, dir, r.b.applyOptions(layer.Merge))
	pr.CloseWithError(err)
	if werr := <-written; err == nil {
		err = werr
	}
	return err
}
