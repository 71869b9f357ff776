package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
)

// Check reads every file and calls fn with it, and with what is wrong with it, an error that wraps ErrDamaged, or nil. Unfinished
// files are passed over, and what comes or goes meanwhile may be. None is marked used.
func (s *Store) Check(ctx context.Context, fn func(Item, error)) error {
	err := s.eachItem(ctx, func(i Item) error {
		if i.Kind == KindUnfinished {
			return nil
		}
		if err := s.checkItem(i); err == nil || errors.Is(err, ErrDamaged) {
			fn(i, err)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("check cache: %w", err)
	}
	return nil
}

// sealedKinds are the words in the headers of the kinds of files.
var sealedKinds = map[Kind]string{KindRecord: "record", KindFact: "fact", KindTOC: "toc", KindFiles: "files"}

func (s *Store) checkItem(i Item) error {
	body, err := readSealed(s.path(i.Path), sealedKinds[i.Kind], time.Time{})
	if err != nil {
		return err
	}
	switch i.Kind {
	case KindRecord:
		_, err = decodeRecord(i.Key(), body)
	case KindFiles:
		name, _, ok := cutText(body)
		if !ok || nameHash(string(name)) != filepath.Base(i.Path) {
			return fmt.Errorf("%w: memo of another context", ErrDamaged)
		}
		_, err = decodeFiles(string(name), body)
	}
	return err
}

// PeekFact returns a fact as GetFact does, and does not mark it used.
func (s *Store) PeekFact(kind string, key Key) ([]byte, bool) {
	if !validKind(kind) || !key.valid() {
		return nil, false
	}
	body, err := readSealed(s.path(factsDir, kind, string(key)), "fact", time.Time{})
	return body, err == nil
}

// PeekTOC returns a layer's table of contents as GetTOC does, and does not mark it used.
func (s *Store) PeekTOC(diffID digest.Digest) ([]byte, bool) {
	hex, ok := sha256Hex(diffID)
	if !ok {
		return nil, false
	}
	body, err := readSealed(s.path(tocDir, hex), "toc", time.Time{})
	return body, err == nil
}
