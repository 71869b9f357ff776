package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// UseResolution is how exactly the time of the last use of a file is known: a use that follows the last one sooner than
// this writes nothing.
const UseResolution = time.Minute

// The directories of a Store.
const (
	stepsDir = "steps"
	namesDir = "steps-by-name"
	factsDir = "facts"
	tocDir   = "toc"
	filesDir = "files"
)

// Store is a directory of remembered answers. Any number of processes and goroutines may use one at once.
type Store struct {
	dir string
	now func() time.Time
	// forgets is what is never found.
	forgets []Memory
}

// Memory is a kind of answers that a store remembers.
type Memory string

// The kinds of answers beside facts.
const (
	FileDigests Memory = filesDir
	TOCs        Memory = tocDir
)

// Facts are the facts of a kind.
func Facts(kind string) Memory { return Memory(filepath.Join(factsDir, kind)) }

// Open returns the store in dir, which it makes when it is missing. There is nothing to close.
func Open(dir string) (*Store, error) {
	for _, sub := range []string{stepsDir, namesDir, factsDir, tocDir, filesDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("open cache: %w", err)
		}
	}
	return &Store{dir: dir, now: time.Now}, nil
}

// Without returns the same store for somebody who does not find any of some kinds, and finds everything out anew: what is lost is
// a miss, so that must change no result. What is remembered through it is kept for others.
func (s *Store) Without(kinds ...Memory) *Store {
	other := *s
	other.forgets = slices.Concat(s.forgets, kinds)
	return &other
}

// recall reads and marks as used what is remembered of a kind under a name.
func (s *Store) recall(of Memory, name, kind string) ([]byte, error) {
	if slices.Contains(s.forgets, of) {
		return nil, fs.ErrNotExist
	}
	return readSealed(s.path(string(of), name), kind, s.now())
}

// path joins names below the store's directory. The names are constants, keys or digests in hex, never outside text.
func (s *Store) path(names ...string) string {
	return filepath.Join(append([]string{s.dir}, names...)...)
}

// nameHash turns any text into a file name.
func nameHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
