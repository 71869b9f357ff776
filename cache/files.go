package cache

import (
	"encoding/hex"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// The windows in which a file's change may carry the timestamp of an earlier one: kernels stamp files with a clock that ticks
// every 1-10 ms, and a filesystem that keeps whole seconds (or, FAT, every second one) shows it by a fraction of zero.
const (
	racyWindow       = 100 * time.Millisecond
	racyWindowCoarse = 3 * time.Second
)

// maxAge is how many times an entry that no build asks for is written again before it is dropped. Builds of several
// Dockerfiles in one context, each with its own files, then share one memo.
const maxAge = 4

// Stat is what tells that a file has not changed.
type Stat struct {
	Ino, Dev uint64
	Size     int64
	Mode     uint32
	// MTimeNs and CTimeNs are nanoseconds since 1970.
	MTimeNs, CTimeNs int64
}

// Files is the memo of the files of one build context: path and Stat to digest. Its methods may be called by several
// goroutines.
//
// Its file's body is the context's name and then the entries, sorted by path. A text is an unsigned varint for its length and
// its bytes; an entry is its path and 77 bytes: ino, dev, size, mtime, ctime (8 bytes each), mode (4), age (1), all
// little-endian, and the SHA-256 (32).
type Files struct {
	path, context string
	opened        time.Time

	mu      sync.Mutex
	entries map[string]*entry
	changed bool
}

// entry is what is known of one file.
type entry struct {
	stat Stat
	sum  [32]byte
	age  uint8 // how many times it was saved unasked
	seen bool  // asked for since the memo was opened
}

// Files opens the memo of a context, which is known by its absolute path. A memo that is missing or damaged is an empty one.
// Open it before the first file of the context is looked at.
func (s *Store) Files(context string) (*Files, error) {
	if context == "" {
		return nil, fmt.Errorf("open file memo: the context has no name")
	}
	name := nameHash(context)
	f := &Files{path: s.path(filesDir, name), context: context, opened: s.now()}
	body, err := s.recall(FileDigests, name, "files")
	if err == nil {
		f.entries, err = decodeFiles(context, body)
	}
	if err != nil {
		f.entries = make(map[string]*entry)
	}
	return f, nil
}

// Digest returns the digest of the file at path (slash-separated, relative to the context) if it is known for just this stat.
func (f *Files) Digest(path string, st Stat) (digest.Digest, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.entries[path]
	if !ok {
		return "", false
	}
	e.seen = true
	if e.stat != st {
		return "", false
	}
	const algorithm = "sha256:"
	text := append(make([]byte, 0, len(algorithm)+2*len(e.sum)), algorithm...)
	return digest.Digest(hex.AppendEncode(text, e.sum[:])), true
}

// Remember notes the digest of a file. The stat must have been taken of the open file before its first byte was read. A file
// that changed so shortly before the memo was opened that another change could go unnoticed is not remembered.
func (f *Files) Remember(path string, st Stat, d digest.Digest) {
	text, ok := sha256Hex(d)
	if !ok || path == "" || len(path) > maxPath {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.racy(st) {
		if _, ok := f.entries[path]; ok {
			delete(f.entries, path)
			f.changed = true
		}
		return
	}
	e := &entry{stat: st, seen: true}
	if _, err := hex.Decode(e.sum[:], []byte(text)); err != nil {
		panic("internal error: decode a checked digest: " + err.Error())
	}
	f.entries[path] = e
	f.changed = true
}

// racy reports whether a file with that stat could be changed after it was read and still show the same stat.
func (f *Files) racy(st Stat) bool {
	window := racyWindow
	if st.CTimeNs%int64(time.Second) == 0 {
		window = racyWindowCoarse
	}
	return st.CTimeNs > f.opened.Add(-window).UnixNano()
}

// Save writes the memo if something was remembered since it was opened. Entries that nobody has asked for through several
// saves are dropped. Of two builds that save the same memo, the last one wins.
func (f *Files) Save() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.changed {
		return nil
	}
	maps.DeleteFunc(f.entries, func(_ string, e *entry) bool {
		if e.seen {
			e.age = 0
		} else {
			e.age++
		}
		return e.age > maxAge
	})
	if err := writeSealed(f.path, "files", encodeFiles(f.context, f.entries)); err != nil {
		return fmt.Errorf("save file memo: %w", err)
	}
	f.changed = false
	return nil
}
