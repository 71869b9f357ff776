package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// tape counts the changes to a store's directory and stops at one of them. It
// knows what a power failure at that moment may take away.
type tape struct {
	mu      sync.Mutex
	stopAt  int // 0: never
	err     error
	once    bool // fail that one operation alone; else the process is dead
	count   int
	stopped string // the operation it stopped at

	unsynced map[string]bool  // files whose bytes may be lost
	synced   map[string]int64 // how many bytes of a file that is added to are safe
	renames  []renamed        // names that may be lost
}

type renamed struct {
	from, to string
	had      bool
	before   []byte // what to was, for a file that was replaced
}

var errDead = errors.New("the process is dead")

func (p *tape) before(op operation, paths ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped != "" && !p.once {
		return errDead
	}
	p.count++
	if p.count == p.stopAt {
		p.stopped = fmt.Sprint(op, " ", filepath.Base(paths[0]))
		if p.err != nil {
			return p.err
		}
		return errDead
	}
	p.record(op, paths)
	return nil
}

func (p *tape) record(op operation, paths []string) {
	if p.unsynced == nil {
		p.unsynced, p.synced = make(map[string]bool), make(map[string]int64)
	}
	switch op {
	case opWrite:
		p.unsynced[paths[0]] = true
	case opSync:
		delete(p.unsynced, paths[0])
		if info, err := os.Stat(paths[0]); err == nil {
			p.synced[paths[0]] = info.Size()
		}
	case opSyncDir:
		kept := p.renames[:0]
		for _, r := range p.renames {
			if filepath.Dir(r.to) != paths[0] {
				kept = append(kept, r)
			}
		}
		p.renames = kept
	case opRename:
		r := renamed{from: paths[0], to: paths[1]}
		if old, err := os.ReadFile(r.to); err == nil {
			r.had, r.before = true, old
			if p.unsynced[r.from] && strings.Contains(r.to, "/blobs/") {
				return // it will find the name taken
			}
		}
		if p.unsynced[r.from] {
			delete(p.unsynced, r.from)
			p.unsynced[r.to] = true
		}
		p.renames = append(p.renames, r)
	}
}

// The ways in which a process ends: a power failure takes something away.
const (
	killed    = "kill"
	bytesLost = "power failure, bytes lost"
	namesLost = "power failure, names lost"
)

var crashes = []string{killed, bytesLost, namesLost}

// disk is a disk whose changes the tape counts.
func (p *tape) disk() disk {
	return disk{before: p.before, boot: func() string { return "1" }, flush: noFlush}
}

// diskAfter is the disk that the next process finds.
func (p *tape) diskAfter(t *testing.T, kind string) disk {
	boot := "1"
	switch kind {
	case bytesLost:
		p.loseBytes(t)
		boot = "2"
	case namesLost:
		p.loseNames(t)
		boot = "2"
	}
	return disk{boot: func() string { return boot }, flush: noFlush}
}

// loseBytes is a power failure that kept all names.
func (p *tape) loseBytes(t *testing.T) {
	for path := range p.unsynced {
		if info, err := os.Stat(path); err == nil {
			if err := os.Truncate(path, max(info.Size()/2, p.synced[path])); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// loseNames is a power failure that kept all bytes and forgot the names.
func (p *tape) loseNames(t *testing.T) {
	for i := len(p.renames) - 1; i >= 0; i-- {
		r := p.renames[i]
		if _, err := os.Stat(r.to); err != nil {
			continue
		}
		if err := os.Rename(r.to, r.from); err != nil {
			t.Fatal(err)
		}
		if r.had {
			if err := os.WriteFile(r.to, r.before, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// life is everything that changes a store, once each. It begins with a store
// that has the image old:v1 and goes on after errors as a program would not.
func life(ctx context.Context, s *Store, archive string) error {
	big := make([]byte, 2*readSize)
	if _, err := build(ctx, s, "app:v1", big, []byte("layer 1")); err != nil {
		return err
	}
	if _, err := build(ctx, s, "old:v1", []byte("layer 2")); err != nil {
		return err
	}
	lease, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	desc, err := s.Resolve(ctx, "app:v1")
	if err == nil {
		_, err = s.Portable(ctx, desc, testGzip())
	}
	lease.Release()
	if err != nil {
		return err
	}
	if _, err := s.Load(ctx, strings.NewReader(archive), LoadOptions{}); err != nil {
		return err
	}
	if err := s.Untag(ctx, mustParse("app:v1")); err != nil {
		return err
	}
	if err := makeOld(s); err != nil {
		return err
	}
	_, err = s.Prune(ctx, PruneOptions{})
	return err
}

// shortStep leaves most points out of a short test.
func shortStep() int {
	if testing.Short() {
		return 5
	}
	return 1
}

// scratch is a directory that is gone after the test: in memory where the
// machine has such a place, for these tests make and remove a thousand stores.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ocibuild-image-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// savedImage is an archive with the image loaded:v1.
func savedImage(t *testing.T) string {
	t.Helper()
	s := newStore(t)
	mustBuild(t, s, "loaded:v1", file{"l", "1"})
	var out strings.Builder
	if err := s.Save(t.Context(), &out, []string{"loaded:v1"}, SaveOptions{Format: DockerArchive}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestCrashAtEveryPointLeavesACleanStore(t *testing.T) {
	archive := savedImage(t)
	atEveryPoint(t, crashes, 1, func(t *testing.T, root, kind string, n int) bool { return crash(t, root, archive, kind, n) })
}

// atEveryPoint has crash stop lives at their changes, one after the other and in
// each way, until one of them ends before.
func atEveryPoint(t *testing.T, kinds []string, step int, crash func(t *testing.T, root, kind string, n int) (done bool)) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := scratch(t)
			for n := 1; ; n += step * shortStep() {
				if crash(t, filepath.Join(dir, fmt.Sprint(n)), kind, n) {
					t.Logf("up to point %d", n-1)
					return
				}
			}
		})
	}
}

// crash stops one life at its nth change, that of making the store included, and
// looks at what is left. It reports whether the life ended before.
func crash(t *testing.T, root, archive, kind string, n int) (done bool) {
	p := &tape{stopAt: n}
	s, err := open(root, p.disk())
	if err == nil {
		_, err = build(t.Context(), s, "old:v1", []byte("layer 0"))
	}
	settled := err == nil
	if settled {
		err = life(t.Context(), s, archive)
	}
	if p.stopped == "" {
		if err != nil {
			t.Fatalf("without a crash: %v", err)
		}
		return true
	}
	after, err := open(root, p.diskAfter(t, kind))
	if err != nil {
		t.Fatalf("open after a crash at %d (%s): %v", n, p.stopped, err)
	}
	mustBeClean(t, after)
	if settled {
		mustHave(t, after, "old:v1")
	}
	if err := life(t.Context(), after, archive); err != nil {
		t.Errorf("the same again: %v", err)
	}
	mustBeClean(t, after)
	mustHave(t, after, "loaded:v1")
	if t.Failed() {
		t.Fatalf("after a crash at %d (%s)", n, p.stopped)
	}
	os.RemoveAll(root)
	return false
}

// settledLife is a life in a store that is there already.
type settledLife struct {
	settle func(*testing.T, *Store) // is done before changes are counted; nil: nothing
	live   func(context.Context, *Store) error
	name   string // what the store has after it
	// left looks at what a crash has left, and lived at what the life then makes of it; nil: does not.
	left, lived func(*testing.T, *Store)
}

// crash stops the life at its nth change, and wants what is left to be whole
// and good enough to live it again. It reports whether the life ended before.
func (l settledLife) crash(t *testing.T, root, kind string, n int) (done bool) {
	p := &tape{}
	s := openTest(t, root, p.disk())
	if l.settle != nil {
		l.settle(t, s)
	}
	p.mu.Lock()
	p.count, p.stopAt = 0, n
	p.mu.Unlock()
	err := l.live(t.Context(), s)
	if p.stopped == "" {
		if err != nil {
			t.Fatalf("without a crash: %v", err)
		}
		mustBeClean(t, s)
		mustHave(t, s, l.name)
		return true
	}
	after := openTest(t, root, p.diskAfter(t, kind))
	mustBeClean(t, after)
	if l.left != nil {
		l.left(t, after)
	}
	if err := l.live(t.Context(), after); err != nil {
		t.Errorf("the same again: %v", err)
	}
	mustBeClean(t, after)
	mustHave(t, after, l.name)
	if l.lived != nil {
		l.lived(t, after)
	}
	if t.Failed() {
		t.Fatalf("after a crash at %d (%s)", n, p.stopped)
	}
	os.RemoveAll(root)
	return false
}

func TestFailingDiskAtEveryPointIsExplained(t *testing.T) {
	// Every point for the full disk; the others differ in their text alone.
	for fault, step := range map[error]int{unix.ENOSPC: 1, unix.EACCES: 7, unix.EROFS: 7, unix.EIO: 7} {
		t.Run(fault.Error(), func(t *testing.T) {
			t.Parallel()
			dir, archive := scratch(t), savedImage(t)
			for n := 1; ; n += step * shortStep() {
				if failOnce(t, filepath.Join(dir, fmt.Sprint(n)), archive, fault, n) {
					return
				}
			}
		})
	}
}

func failOnce(t *testing.T, root, archive string, fault error, n int) (done bool) {
	p := &tape{stopAt: n, err: fault, once: true}
	s, err := open(root, disk{before: p.before, flush: noFlush})
	if err == nil {
		_, err = build(t.Context(), s, "old:v1", []byte("layer 0"))
	}
	if err == nil {
		err = life(t.Context(), s, archive)
	}
	if p.stopped == "" {
		if err != nil {
			t.Fatalf("without a fault: %v", err)
		}
		return true
	}
	var explained *StoreError
	if err != nil && !errors.Is(fault, unix.EIO) {
		if !errors.As(err, &explained) || !errors.Is(err, fault) || !strings.Contains(err.Error(), root) || !strings.Contains(err.Error(), "--root") {
			t.Fatalf("fault at %d (%s) is not explained: %v", n, p.stopped, err)
		}
	}
	after := openTest(t, root, disk{flush: noFlush})
	mustBeClean(t, after)
	if err := life(t.Context(), after, archive); err != nil {
		t.Fatalf("after a fault at %d (%s): %v", n, p.stopped, err)
	}
	os.RemoveAll(root)
	return false
}

func TestFullDisk(t *testing.T) {
	needPrivilege(t, true)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	s := openTest(t, dir, disk{})
	mustBuild(t, s, "app:v1", file{"a", "1"})
	if _, err := addLayer(s, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	var full *StoreError
	_, err := addLayer(s, []byte(strings.Repeat("x", 2<<20)))
	if !errors.As(err, &full) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "ocibuild prune") {
		t.Fatalf("%v", err)
	}
	mustBeClean(t, s)
	if left := tree(t, s.path("ingest")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	age(t, s)
	report, err := s.Prune(t.Context(), PruneOptions{})
	if err != nil || report.Bytes < 1<<20 {
		t.Errorf("%+v, %v", report, err)
	}
	mustHave(t, s, "app:v1")
}
