package executor

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// Where overlays cannot be mounted, a snapshot is worked on in a copy of the layers below
// it, and what has changed there is found by a look before and one after. A copy whose
// snapshot has been committed is kept for the next step, which most often goes on
// from there.

const (
	treesDir = "trees"
	viewsDir = "views"

	// idleTrees is how many copies are kept for a next step.
	idleTrees = 4
	// idleTime is for how long.
	idleTime = 24 * time.Hour
)

// workingTree is a copy of the layers below a snapshot.
type workingTree struct {
	root   *os.File
	before inventory
	// skip are the paths that are not the layer's, being a step's mount points; of
	// these, lasting are directories that the layer is to have all the same.
	skip    map[string]bool
	lasting []string
}

// treeKey names the copy of layers, bottom first.
func treeKey(layers []string) string {
	sum := sha256.Sum256([]byte(strings.Join(layers, "\n")))
	return hex.EncodeToString(sum[:16])
}

// copies reports whether snapshots are copies here. Where the level could mount, it is
// tried once.
func (s *Snapshots) copies() bool {
	if !s.level.Mounts() {
		return true
	}
	s.probe.Do(func() { s.noOverlay = s.tryOverlay() })
	return s.noOverlay != nil
}

// tryOverlay mounts an overlay in the store's file system, unless that is known to be
// possible.
func (s *Snapshots) tryOverlay() error {
	here, file := s.place(), s.path("overlays")
	if known, err := os.ReadFile(file); err == nil && here != "" && string(known) == here {
		return nil
	}
	if err := tryOverlayIn(s.path(trashDir), s.level.UserXattr()); err != nil {
		return err
	}
	if here != "" {
		_ = s.writeFile(file, []byte(here), os.Rename) // or it is tried again
	}
	return nil
}

// place tells apart what decides whether overlays can be mounted: the run of the kernel, who
// asks from where, and the file system. It is empty when that cannot be told.
func (s *Snapshots) place() string {
	boot, err1 := os.ReadFile("/proc/sys/kernel/random/boot_id")
	from, err2 := os.Readlink("/proc/self/ns/mnt")
	var st unix.Stat_t
	if err := errors.Join(err1, err2, unix.Stat(s.dir, &st)); err != nil {
		return ""
	}
	return fmt.Sprintf("%s%s %s %d\n", boot, from, s.level, st.Dev)
}

// tryOverlayIn mounts an overlay of directories that it makes in dir, and removes. That
// it cannot make them says nothing of overlays: who goes on will see what is wrong.
func tryOverlayIn(dir string, userxattr bool) error {
	dir, err := os.MkdirTemp(dir, ".probe")
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	defer os.RemoveAll(dir)
	l := layers{lower: []string{dir + "/lower"}, upper: dir + "/upper", work: dir + "/work", userxattr: userxattr}
	for _, sub := range []string{l.lower[0], l.upper, l.work, dir + "/scratch"} {
		if err := os.Mkdir(sub, 0o700); err != nil {
			return nil //nolint:nilerr // see above
		}
	}
	f, err := mountOverlay(l, dir+"/scratch")
	if err != nil {
		return err
	}
	return f.Close()
}

// workOn gives the snapshot's copy, making it if need be. For a step, one that another step
// has left will do.
func (sn *Snapshot) workOn(step bool) (*workingTree, error) {
	if sn.lock == nil {
		return nil, fmt.Errorf("work on snapshot: it has ended: %w", fs.ErrClosed)
	}
	if sn.tree != nil {
		return sn.tree, nil
	}
	dir := filepath.Join(sn.dir, "tree")
	done := 0
	if step && !sn.store.detours.FreshCopies {
		done = sn.store.takeTree(sn.parents, dir)
	}
	if done == 0 {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, fmt.Errorf("copy layers: %w", err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("copy layers: %w", err)
	}
	if err := sn.store.mergeInto(root, sn.parents[done:]); err != nil {
		root.Close()
		return nil, fmt.Errorf("copy layers: %w", err)
	}
	sn.tree = &workingTree{root: root, skip: map[string]bool{}}
	return sn.tree, nil
}

// note remembers how the tree is.
func (w *workingTree) note() (err error) {
	if w.before, err = takeInventory(w.root, w.skip); err != nil {
		return fmt.Errorf("look at copied layers: %w", err)
	}
	w.before.settleClock()
	return nil
}

// takeTree moves a copy that is kept to dir. It tells of how many of the layers that
// was, the longest beginning that there is.
func (s *Snapshots) takeTree(layers []string, dir string) int {
	for n := len(layers); n > 0; n-- {
		if renameNew(s.path(treesDir, treeKey(layers[:n])), dir) == nil {
			return n
		}
	}
	return 0
}

// mergeInto puts layers on top of what a directory has.
func (s *Snapshots) mergeInto(root *os.File, names []string) error {
	for _, name := range names {
		if err := s.mergeLayer(root, name); err != nil {
			return fmt.Errorf("layer %s: %w", name, err)
		}
	}
	return nil
}

// copier copies files into a tree as this store does it.
func (s *Snapshots) copier(to *os.File) *copier {
	c := newCopier(to)
	c.bytes = s.detours.Bytes
	return c
}

func (s *Snapshots) mergeLayer(root *os.File, name string) error {
	from, err := os.Open(s.tree(name))
	if err != nil {
		return err
	}
	defer from.Close()
	c := s.copier(root)
	c.overlay = true
	if err := c.directory(int(from.Fd()), int(root.Fd()), ""); err != nil {
		return err
	}
	owner, err := s.rootOwner(name)
	if err != nil || owner.inherited {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	return describeOpen(int(from.Fd()), int(root.Fd()), &st)
}

// collect writes what has changed in the snapshot's copy into its upper directory.
func (sn *Snapshot) collect() error {
	if sn.tree == nil {
		return nil
	}
	now, err := takeInventory(sn.tree.root, sn.tree.skip)
	if err != nil {
		return fmt.Errorf("collect changes: %w", err)
	}
	upper, err := os.Open(sn.Upper())
	if err != nil {
		return fmt.Errorf("collect changes: %w", err)
	}
	defer upper.Close()
	entries, err := rootfs.List(int(upper.Fd()))
	if err != nil {
		return fmt.Errorf("collect changes: %w", err)
	}
	for _, e := range entries {
		if err := removeAt(int(upper.Fd()), e.Name); err != nil {
			return fmt.Errorf("collect changes: %w", err)
		}
	}
	changes := now.since(sn.tree.before)
	changes.made = append(changes.made, sn.tree.lasting...)
	if err := changes.writeUpper(sn.tree.root, sn.store.copier(upper)); err != nil {
		return fmt.Errorf("collect changes: %w", err)
	}
	return nil
}

// keepTree keeps the copy of a snapshot that has become a layer for who goes on from
// there, and drops what nobody went on from.
func (sn *Snapshot) keepTree(name string) error {
	if sn.tree == nil {
		return nil
	}
	sn.tree.root.Close()
	sn.tree = nil
	from := filepath.Join(sn.dir, "tree")
	to := sn.store.path(treesDir, treeKey(append(slices.Clone(sn.parents), name)))
	if err := renameNew(from, to); err != nil {
		return os.RemoveAll(from)
	}
	now := time.Now()
	_ = os.Chtimes(filepath.Dir(to), now, now)
	return sn.store.dropTrees(treesDir, idleTrees, time.Now().Add(-idleTime))
}

// dropTrees removes copies, all but the newest so many, and those that are older.
func (s *Snapshots) dropTrees(sub string, newest int, before time.Time) error {
	names, err := readNames(s.path(sub))
	if err != nil {
		return err
	}
	type tree struct {
		path string
		made int64
	}
	var list []tree
	for _, name := range names {
		var st unix.Stat_t
		if path := s.path(sub, name); unix.Lstat(path, &st) == nil {
			list = append(list, tree{path, st.Ctim.Nano()})
		}
	}
	slices.SortFunc(list, func(a, b tree) int { return int(b.made/1e6 - a.made/1e6) })
	for i, t := range list {
		if i >= newest || t.made < before.UnixNano() {
			if err := s.trash(t.path); err != nil {
				return err
			}
		}
	}
	return nil
}

// viewCopy gives the merged tree of layers as a directory that nobody may write to.
func (s *Snapshots) viewCopy(names []string) (*os.File, error) {
	if len(names) == 1 {
		return os.Open(s.tree(names[0]))
	}
	dir := s.path(viewsDir, treeKey(names))
	if f, err := os.Open(dir); err == nil {
		return f, nil
	}
	sn, err := s.activate(rootOwner{mode: 0o755})
	if err != nil {
		return nil, err
	}
	sn.parents = names
	tree, err := sn.workOn(false)
	if err == nil {
		tree.root.Close()
		sn.tree = nil
		err = renameNew(filepath.Join(sn.dir, "tree"), dir)
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if err = errors.Join(err, sn.Discard()); err != nil {
		return nil, err
	}
	return os.Open(dir)
}
