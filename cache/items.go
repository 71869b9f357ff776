package cache

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image/usage"
)

// Kind is what an Item is.
type Kind string

// The kinds of items.
const (
	KindRecord     Kind = "record"
	KindFact       Kind = "fact"
	KindTOC        Kind = "toc"
	KindFiles      Kind = "files"      // a file memo
	KindUnfinished Kind = "unfinished" // a file that is being written, or whose writer has died
)

// Item is one file of the store.
type Item struct {
	Kind Kind
	// Path is the file's, below the store's directory.
	Path  string
	Bytes int64 // on the disk
	Used  time.Time
}

// Key is the key of a record or a fact, and the digits of a layer's digest for a table of contents.
func (i Item) Key() Key { return Key(filepath.Base(i.Path)) }

// Items lists what the store keeps, but not the index of names, which goes with the records. Items that come or go meanwhile
// may be left out. None is marked used.
func (s *Store) Items(ctx context.Context) ([]Item, error) {
	var list []Item
	err := s.eachItem(ctx, func(i Item) error {
		list = append(list, i)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list cache: %w", err)
	}
	return list, nil
}

// eachItem calls fn for every file.
func (s *Store) eachItem(ctx context.Context, fn func(Item) error) error {
	for _, k := range []struct {
		dir  string
		kind Kind
	}{{stepsDir, KindRecord}, {tocDir, KindTOC}, {filesDir, KindFiles}} {
		if err := s.eachFile(ctx, k.dir, k.kind, fn); err != nil {
			return err
		}
	}
	kinds, err := os.ReadDir(s.path(factsDir))
	if err != nil {
		return ignoreGone(err)
	}
	for _, k := range kinds {
		if err := s.eachFile(ctx, filepath.Join(factsDir, k.Name()), KindFact, fn); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) eachFile(ctx context.Context, dir string, kind Kind, fn func(Item) error) error {
	entries, err := os.ReadDir(s.path(dir))
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil || info.Mode()&fs.ModeType != 0 {
			continue
		}
		i := Item{kind, filepath.Join(dir, e.Name()), usage.Of(info), info.ModTime()}
		if strings.HasPrefix(e.Name(), tempPrefix) {
			i.Kind = KindUnfinished
		}
		if err := fn(i); err != nil {
			return err
		}
	}
	return nil
}

// Peek returns the record of a key as Get does, and does not mark it used.
func (s *Store) Peek(key Key) (*Record, error) { return s.get(key, time.Time{}) }

// Context is the name of the context that a file memo is of.
func (s *Store) Context(memo Item) (string, error) {
	body, err := readSealed(s.path(memo.Path), "files", time.Time{})
	if err != nil {
		return "", err
	}
	name, _, ok := cutText(body)
	if !ok {
		return "", fmt.Errorf("%w: memo without a context", ErrDamaged)
	}
	return string(name), nil
}
