package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The store's own locks. Those that callers name have another prefix.
const (
	lockStore  = "store" // the layout's creation and repair
	lockIndex  = "index" // changes to index.json
	lockPrune  = "prune" // one prune at a time
	lockSweep  = "sweep" // the moment a blob moves between blobs/ and trash/
	lockPrefix = "lock-"
)

// How often a lock that another process holds is tried again.
const (
	lockPollFirst = time.Millisecond
	lockPollLast  = 16 * time.Millisecond
)

// Lock takes the exclusive lock of that name, shared by every process that
// uses the store, and waits for it until ctx ends. Calling unlock again does
// nothing. A process that dies lets its locks go.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	return s.lock(ctx, lockFile(name))
}

// TryLock takes the lock of that name if it need not wait for it: exclusively, or
// together with all who share it. It gives nil and no error if it would have to wait.
func (s *Store) TryLock(name string, shared bool) (unlock func(), err error) {
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	file := lockFile(name)
	f, err := tryFlock(filepath.Join(s.root, "locks", file), how)
	if err != nil {
		return nil, s.explain("take lock "+file, err)
	}
	if f == nil {
		return nil, nil
	}
	return sync.OnceFunc(func() { f.Close() }), nil
}

// lockFile is the name of the file behind a lock of callers.
func lockFile(name string) string {
	file := lockPrefix + url.PathEscape(name)
	if len(file) > 200 {
		sum := sha256.Sum256([]byte(name))
		file = lockPrefix + hex.EncodeToString(sum[:])
	}
	return file
}

func (s *Store) lock(ctx context.Context, file string) (func(), error) {
	leave, err := s.queue.enter(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("wait for lock %s: %w", file, err)
	}
	f, err := waitFlock(ctx, filepath.Join(s.root, "locks", file))
	if err != nil {
		leave()
		return nil, s.explain("take lock "+file, err)
	}
	return sync.OnceFunc(func() {
		f.Close()
		leave()
	}), nil
}

// waitFlock polls, because a goroutine blocked in flock(2) cannot be called
// off. Waiters within this process have queued before.
func waitFlock(ctx context.Context, path string) (*os.File, error) {
	for pause := lockPollFirst; ; pause = min(2*pause, lockPollLast) {
		f, err := tryFlock(path, unix.LOCK_EX)
		if f != nil || err != nil {
			return f, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
	}
}

// tryFlock gives nil and no error when another holds the lock.
func tryFlock(path string, how int) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, nil
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if stillNamed(f, path) {
			return f, nil
		}
		f.Close() // a prune removed the file before we had its lock
	}
}

func stillNamed(f *os.File, path string) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(ours, named)
}

// takeIdle opens and locks an existing file that nobody has locked.
func takeIdle(path string) (f *os.File, ok bool) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, false
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return nil, false
	}
	return f, true
}

// lockQueue lets the goroutines of one process wait for a lock in turn, so
// that only the first of them polls the file.
type lockQueue struct {
	mu    sync.Mutex
	slots map[string]*lockSlot
}

type lockSlot struct {
	turn  chan struct{}
	users int
}

func (q *lockQueue) enter(ctx context.Context, name string) (leave func(), err error) {
	q.mu.Lock()
	slot := q.slots[name]
	if slot == nil {
		if q.slots == nil {
			q.slots = make(map[string]*lockSlot)
		}
		slot = &lockSlot{turn: make(chan struct{}, 1)}
		q.slots[name] = slot
	}
	slot.users++
	q.mu.Unlock()

	select {
	case slot.turn <- struct{}{}:
		return func() {
			<-slot.turn
			q.forget(name, slot)
		}, nil
	case <-ctx.Done():
		q.forget(name, slot)
		return nil, ctx.Err()
	}
}

func (q *lockQueue) forget(name string, slot *lockSlot) {
	q.mu.Lock()
	defer q.mu.Unlock()
	slot.users--
	if slot.users == 0 {
		delete(q.slots, name)
	}
}
