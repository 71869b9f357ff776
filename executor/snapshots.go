package executor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Snapshots is a directory of unpacked layers, shared by any number of
// processes, and of the snapshots being made on top of them. Its methods may be
// called from several goroutines.
type Snapshots struct {
	dir     string
	level   Level
	detours Detours

	probe     sync.Once
	noOverlay error // why there are no overlays here, see copies

	sweep sync.Once
	swept sync.WaitGroup
}

// Detours are longer ways to the same snapshots, one for each shortcut that is taken
// otherwise: tests compare what the two give. The zero value takes none.
type Detours struct {
	// FreshCopies lets no step go on with the copy that another step has left.
	FreshCopies bool
	// Bytes reads and writes what is copied, where blocks could be shared or the kernel
	// could copy.
	Bytes bool
}

// SetDetours says what is done in the longer way. It is called before the store is used.
func (s *Snapshots) SetDetours(d Detours) { s.detours = d }

// Snapshot is a layer being made: an empty upper directory over committed
// layers. It belongs to the process that prepared it and ends with Commit or
// Discard. At most one mount of it may be written through at a time.
type Snapshot struct {
	store   *Snapshots
	dir     string   // active/<id>
	lock    *os.File // dir, flocked
	parents []string // bottom first
	mounts  atomic.Int64
	tree    *workingTree // where there are no overlays
}

const (
	committedDir = "committed"
	activeDir    = "active"
	trashDir     = "trash"
	filesDir     = "etc"
	attachedDir  = "attached"
	emptyDir     = "empty"
	pointsDir    = "points"
	lockFile     = "lock"

	// implicitMode marks, while a layer is unpacked, a root directory that the
	// layer has said nothing about; inheritFile says so afterwards.
	implicitMode = 0o1755
	inheritFile  = "inherit"
	noteFile     = "note"
)

// OpenSnapshots opens the store of snapshots in dir, making it if need be.
// The level must be that of this process, and of all who use dir.
func OpenSnapshots(dir string, level Level) (*Snapshots, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	s := &Snapshots{dir: dir, level: level}
	for _, sub := range []string{committedDir, activeDir, trashDir, filesDir, emptyDir, attachedDir, treesDir, viewsDir} {
		if err := os.MkdirAll(s.path(sub), 0o700); err != nil {
			return nil, fmt.Errorf("open snapshots: %w", err)
		}
	}
	if err := s.dropDoubtful(); err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	return s, nil
}

// Dir is the directory that the snapshots are in.
func (s *Snapshots) Dir() string { return s.dir }

// Level is the level that the trees were made at.
func (s *Snapshots) Level() Level { return s.level }

func (s *Snapshots) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// locked runs fn under the store's lock: shared (unix.LOCK_SH) to keep Prune
// out for a moment, exclusive (unix.LOCK_EX) to be Prune.
func (s *Snapshots) locked(how int, fn func() error) error {
	f, err := os.OpenFile(s.path(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock snapshots: %w", err)
	}
	defer f.Close()
	if err := flock(f, how); err != nil {
		return fmt.Errorf("lock snapshots: %w", err)
	}
	return fn()
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			return err
		}
	}
}

// Use reports whether a committed layer of that name is there, and marks it as
// used now.
func (s *Snapshots) Use(name string) bool {
	if checkName(name) != nil {
		return false
	}
	err := s.locked(unix.LOCK_SH, func() error {
		now := time.Now()
		return os.Chtimes(s.path(committedDir, name), now, now)
	})
	return err == nil
}

// Prepare begins a snapshot on top of committed layers, given bottom first.
// A layer that is not there is an error matching fs.ErrNotExist.
func (s *Snapshots) Prepare(ctx context.Context, parents []string) (*Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	owner := rootOwner{mode: 0o755}
	for _, name := range slices.Backward(parents) {
		o, err := s.rootOwner(name)
		if err != nil {
			return nil, fmt.Errorf("prepare snapshot: %w", err)
		}
		if !o.inherited {
			owner = o
			break
		}
	}
	if err := s.checkAll(parents); err != nil {
		return nil, fmt.Errorf("prepare snapshot: %w", err)
	}
	sn, err := s.activate(owner)
	if err != nil {
		return nil, fmt.Errorf("prepare snapshot: %w", err)
	}
	sn.parents = slices.Clone(parents)
	return sn, nil
}

// rootOwner is what a new upper directory takes over from below.
type rootOwner struct {
	mode      uint32
	uid, gid  int
	inherited bool // the layer says nothing of its root
}

func (s *Snapshots) rootOwner(name string) (rootOwner, error) {
	if err := checkName(name); err != nil {
		return rootOwner{}, err
	}
	if _, err := os.Lstat(s.path(committedDir, name, inheritFile)); err == nil {
		return rootOwner{inherited: true}, nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(s.tree(name), &st); err != nil {
		return rootOwner{}, fmt.Errorf("stat layer %s: %w", name, err)
	}
	return rootOwner{mode: st.Mode & 0o7777, uid: int(st.Uid), gid: int(st.Gid)}, nil
}

func (s *Snapshots) checkAll(names []string) error {
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
		if _, err := os.Lstat(s.tree(name)); err != nil {
			return fmt.Errorf("find layer %s: %w", name, err)
		}
	}
	return nil
}

// Dirs gives the directories that committed layers' files are in. They stay while
// somebody uses the layers.
func (s *Snapshots) Dirs(names []string) []string {
	dirs := make([]string, len(names))
	for i, name := range names {
		dirs[i] = s.tree(name)
	}
	return dirs
}

// tree is the directory that a committed layer's files are in.
func (s *Snapshots) tree(name string) string {
	return s.path(committedDir, name, "fs")
}

// activate makes and locks a new active directory with an empty tree.
func (s *Snapshots) activate(owner rootOwner) (*Snapshot, error) {
	if s.level == LevelNone { // no step runs here, and an ordinary user can give nothing away
		owner.uid, owner.gid = os.Geteuid(), os.Getegid()
	}
	s.sweep.Do(s.sweepLeftovers)
	sn := &Snapshot{store: s}
	err := s.locked(unix.LOCK_SH, func() (err error) {
		sn.dir, err = os.MkdirTemp(s.path(activeDir), "")
		if err != nil {
			return err
		}
		sn.lock, err = os.Open(sn.dir)
		if err != nil {
			return err
		}
		return flock(sn.lock, unix.LOCK_EX|unix.LOCK_NB)
	})
	if err == nil {
		err = makeTree(sn.Upper(), owner)
	}
	if err != nil {
		return nil, errors.Join(err, sn.Discard())
	}
	return sn, nil
}

func makeTree(dir string, owner rootOwner) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := os.Lchown(dir, owner.uid, owner.gid); err != nil {
		return err
	}
	return unix.Chmod(dir, owner.mode)
}

// Upper is the directory that holds what the snapshot changes, in overlay form.
func (sn *Snapshot) Upper() string { return filepath.Join(sn.dir, "fs") }

// Note keeps a text with the snapshot, for whoever asks [Snapshots.Note] for it once
// that is a committed layer.
func (sn *Snapshot) Note(text string) error {
	if err := os.WriteFile(filepath.Join(sn.dir, noteFile), []byte(text), 0o600); err != nil {
		return fmt.Errorf("note on snapshot: %w", err)
	}
	return nil
}

// Note gives what was noted of a committed layer, "" if nothing was.
func (s *Snapshots) Note(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", fmt.Errorf("read note: %w", err)
	}
	text, err := os.ReadFile(s.path(committedDir, name, noteFile))
	if err := ignoreGone(err); err != nil {
		return "", fmt.Errorf("read note on layer %s: %w", name, err)
	}
	return string(text), nil
}

// Commit makes the snapshot a committed layer of that name. When the name is
// taken, the layer that has it stays and the snapshot is discarded. No mount of the
// snapshot may be in use.
func (s *Snapshots) Commit(sn *Snapshot, name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	if sn.lock == nil {
		return fmt.Errorf("commit snapshot %s: it has ended: %w", name, fs.ErrClosed)
	}
	err := sn.collect()
	if err == nil {
		err = sn.keepTree(name)
	}
	if err == nil {
		err = sn.settle()
	}
	if err != nil {
		return fmt.Errorf("commit snapshot %s: %w", name, err)
	}
	err = s.locked(unix.LOCK_SH, func() error {
		return renameNew(sn.dir, s.path(committedDir, name))
	})
	if errors.Is(err, fs.ErrExist) && s.Use(name) {
		return sn.Discard()
	}
	if err != nil {
		return fmt.Errorf("commit snapshot %s: %w", name, err)
	}
	sn.release()
	return nil
}

// settle removes what only the making needed and dates the tree.
func (sn *Snapshot) settle() error {
	for i := range sn.mounts.Swap(0) {
		if err := os.RemoveAll(sn.work(i + 1)); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(sn.Upper(), &st); err != nil {
		return err
	}
	mode := st.Mode & 0o7777
	if mode == implicitMode {
		mode = 0o755
		if err := os.WriteFile(filepath.Join(sn.dir, inheritFile), nil, 0o600); err != nil {
			return err
		}
	}
	if err := unix.Chmod(sn.Upper(), mode); err != nil { // its change time is the commit's, see dropDoubtful
		return err
	}
	now := time.Now() // the kernel's own stamp is of the last tick, and of before the step
	return os.Chtimes(sn.dir, now, now)
}

func (sn *Snapshot) work(i int64) string {
	return filepath.Join(sn.dir, "work"+strconv.FormatInt(i, 10))
}

func (sn *Snapshot) release() {
	if sn.lock != nil {
		sn.lock.Close()
		sn.lock = nil
	}
}

// Discard gives the snapshot up and deletes it. After Commit or Discard it does
// nothing.
func (sn *Snapshot) Discard() error {
	if sn.lock == nil {
		return nil
	}
	defer sn.release()
	if sn.tree != nil {
		sn.tree.root.Close()
		sn.tree = nil
	}
	if err := sn.store.trash(sn.dir); err != nil {
		return fmt.Errorf("discard snapshot: %w", err)
	}
	return nil
}

// Create begins a layer that is unpacked from elsewhere into dir, in overlay
// form. commit names it, as Commit does; abort gives it up and may follow commit.
// A layer that does not touch dir's own mode has its root directory's metadata
// from the layer below.
func (s *Snapshots) Create(name string) (dir string, commit func() error, abort func(), err error) {
	if err := checkName(name); err != nil {
		return "", nil, nil, fmt.Errorf("create layer: %w", err)
	}
	sn, err := s.activate(rootOwner{mode: implicitMode})
	if err != nil {
		return "", nil, nil, fmt.Errorf("create layer %s: %w", name, err)
	}
	commit = func() error { return s.Commit(sn, name) }
	abort = func() { _ = sn.Discard() } // what stays is removed by the next Prune
	return sn.Upper(), commit, abort, nil
}

// Rename gives a committed layer another name. When that is taken, the old one is
// removed.
func (s *Snapshots) Rename(old, name string) error {
	if err := errors.Join(checkName(old), checkName(name)); err != nil {
		return fmt.Errorf("rename layer: %w", err)
	}
	err := s.locked(unix.LOCK_SH, func() error {
		return renameNew(s.path(committedDir, old), s.path(committedDir, name))
	})
	if errors.Is(err, fs.ErrExist) {
		return s.Remove(old)
	}
	if err != nil {
		return fmt.Errorf("rename layer %s: %w", old, err)
	}
	return nil
}

// Remove deletes a committed layer. One that is not there is no error.
func (s *Snapshots) Remove(name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("remove layer: %w", err)
	}
	if err := s.trash(s.path(committedDir, name)); err != nil {
		return fmt.Errorf("remove layer %s: %w", name, err)
	}
	return nil
}

// trash moves a directory out of sight at once, then deletes it.
func (s *Snapshots) trash(dir string) error {
	to, err := s.moveToTrash(dir)
	if err != nil {
		return err
	}
	return os.RemoveAll(to)
}

// moveToTrash only renames, so that it is quick enough to do under the lock. A
// directory that is not there is no error.
func (s *Snapshots) moveToTrash(dir string) (to string, err error) {
	to = s.path(trashDir, filepath.Base(dir)+"-"+rand.Text())
	if err := renameNew(dir, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return to, nil
}

func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// checkName refuses what could not be one file name or is reserved.
func checkName(name string) error {
	ok := name != "" && len(name) <= 200 && name[0] != '.' && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r == '/' || r > '~'
	})
	if !ok {
		return fmt.Errorf("invalid layer name %q", name)
	}
	return nil
}
