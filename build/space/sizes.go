package space

import (
	"context"
	"encoding/json"
	"os"
	"sync"
	"time"

	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/image/usage"
)

// sizes remembers what directory trees take: walking them is most of the work of
// measuring a store. An unpacked layer never changes. A cache mount and
// what was fetched do not between two uses: what is remembered of them holds the time
// of the last use, and is only written while nobody can be using them.
type sizes struct {
	s     Space
	inUse time.Time // what was used since then may still be

	mu      sync.Mutex
	known   map[string]treeSize
	found   map[string]treeSize // what is still there
	changed bool
}

type treeSize struct {
	Bytes int64 `json:"b"`
	Used  int64 `json:"u,omitempty"` // nanoseconds since 1970; zero for what never changes
}

// sizesFact is the kind of the fact that holds all of them.
const sizesFact = "sizes"

func sizesKey() cache.Key {
	key, _ := cache.NewHasher(sizesFact).Sum()
	return key
}

func (s Space) openSizes(inUse time.Time) *sizes {
	z := &sizes{s: s, inUse: inUse, known: make(map[string]treeSize), found: make(map[string]treeSize)}
	if data, ok := s.Cache.GetFact(sizesFact, sizesKey()); ok {
		_ = json.Unmarshal(data, &z.known) // what cannot be read is measured again
	}
	return z
}

// save keeps what was found. Nothing depends on it.
func (z *sizes) save() {
	if !z.changed && len(z.found) == len(z.known) {
		return
	}
	if data, err := json.Marshal(z.found); err == nil {
		_ = z.s.Cache.PutFact(sizesFact, sizesKey(), data)
	}
}

func (z *sizes) of(ctx context.Context, i *Item) (int64, error) {
	name := string(i.Kind) + " " + i.ID
	used := int64(0)
	if i.Kind != KindSnapshot {
		used = i.Used.UnixNano()
	}
	z.mu.Lock()
	size, ok := z.known[name]
	z.mu.Unlock()
	if ok && size.Used == used {
		z.keep(name, size, false)
		return size.Bytes, nil
	}
	var m usage.Meter
	if err := m.Tree(ctx, i.Path); err != nil {
		return 0, err
	}
	if z.idle(i) {
		z.keep(name, treeSize{m.Bytes, used}, true)
	}
	return m.Bytes, nil
}

// idle reports whether nobody can have changed the tree while it was measured:
// whatever used it last has ended, and nothing has used it since.
func (z *sizes) idle(i *Item) bool {
	if i.Kind == KindSnapshot {
		return true
	}
	info, err := os.Lstat(i.Path)
	return err == nil && info.ModTime().Equal(i.Used) && i.Used.Before(z.inUse)
}

func (z *sizes) keep(name string, size treeSize, changed bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.found[name] = size
	z.changed = z.changed || changed
}
