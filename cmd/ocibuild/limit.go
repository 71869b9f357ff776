package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/ocibuild/ocibuild/build/space"
	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
)

// storeLimit is how much the store may take.
type storeLimit struct {
	bytes int64
	from  string // what says so; empty when nothing does
}

func (l storeLimit) set() bool { return l.from != "" }

// The places that say it: the flag goes before the variable, the variable before
// the file.
const (
	limitFlag     = "store-max"
	limitVariable = "OCIBUILD_STORE_MAX"
	limitKey      = "store-max"
)

// limit finds out how much the store may take.
func (s *session) limit() (storeLimit, error) {
	if s.limitFlag != "" {
		return givenLimit(s.limitFlag, "--"+limitFlag)
	}
	if text := s.getenv(limitVariable); text != "" {
		return givenLimit(text, "$"+limitVariable)
	}
	dir, err := s.root()
	if err != nil {
		return storeLimit{}, err
	}
	return readLimit(filepath.Join(dir, image.ConfigFile))
}

// parseStoreLimit reads a size; none and 0 are no limit.
func parseStoreLimit(text, from string) (storeLimit, error) {
	if text == "none" {
		return storeLimit{}, nil
	}
	n, err := parseBytes(text)
	if err != nil || n == 0 {
		return storeLimit{}, err
	}
	return storeLimit{n, from}, nil
}

// givenLimit is parseStoreLimit for what stands on the command line or before it.
func givenLimit(text, from string) (storeLimit, error) {
	limit, err := parseStoreLimit(text, from)
	if err != nil {
		err = usagef("%s: %v", from, err)
	}
	return limit, err
}

// readLimit reads the store's config file: lines of KEY = VALUE, # begins a comment.
func readLimit(path string) (storeLimit, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return storeLimit{}, nil
	}
	if err != nil {
		return storeLimit{}, &storeError{msg: "read the store's config: " + err.Error(), err: err}
	}
	var limit storeLimit
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		switch {
		case strings.TrimSpace(line) == "":
		case !ok || key != limitKey:
			return limit, &storeError{
				msg:  fmt.Sprintf("%s:%d: %q is not known", path, n, sanitizeText(strings.TrimSpace(line))),
				hint: "the file has lines such as " + limitKey + " = 20GB",
			}
		default:
			if limit, err = parseStoreLimit(strings.TrimSpace(value), path); err != nil {
				return limit, &storeError{msg: fmt.Sprintf("%s:%d: %v", path, n, err)}
			}
		}
	}
	return limit, lines.Err()
}

// keeper keeps the store below its limit for a verb that lets it grow.
type keeper struct {
	limit   storeLimit
	watch   *space.Keeper
	protect []digest.Digest
	silent  bool                            // say only what is a warning
	say     func(warning bool, text string) // in place of standard error
	sends   atomic.Bool                     // the verb goes on in a store that is full
}

// keep protects the image that a verb has made, though no name leads to it.
func (s *session) keep(d digest.Digest) { s.keeper.protect = append(s.keeper.protect, d) }

// startKeeper makes room in the store that has been opened, and begins to watch it.
// When what fills it leaves no room, stop ends the verb.
func (s *session) startKeeper(ctx context.Context, stop context.CancelCauseFunc) error {
	if !s.keeper.limit.set() || s.keeper.watch != nil {
		return nil
	}
	sp, err := s.space()
	if err != nil {
		return err
	}
	watch := sp.Keep(ctx, s.keeper.limit.bytes, func(c space.Collected) {
		if !s.keeper.sends.Load() {
			stop(s.keeper.excess(c))
		}
	})
	s.keeper.watch = watch
	if s.keeper.sends.Load() {
		s.opened.SetAside(s.getenv("TMPDIR"), func(bytes int64) bool { return watch.Room(ctx, bytes) })
	}
	s.opened.SetGuard(func(ctx context.Context) error {
		watch.Look(ctx)
		return context.Cause(ctx)
	})
	return context.Cause(ctx)
}

// fetches is called before a layer is fetched into the store, which must have room for
// it whatever the verb is.
func (s *session) fetches(ctx context.Context) error {
	if s.keeper.watch != nil && s.keeper.sends.Swap(false) {
		s.keeper.watch.Look(ctx)
	}
	return context.Cause(ctx)
}

// fullError says that there is no room below the store's limit.
type fullError struct{ storeError }

// Unwrap makes it a storeError.
func (e *fullError) Unwrap() error { return &e.storeError }

// excess words why the store is larger than it may be.
func (k *keeper) excess(c space.Collected) error {
	return &fullError{storeError{
		msg: fmt.Sprintf("the store may take %s (%s) and takes %s, of which no more can be freed: %s",
			humanSize(c.Limit), k.limit.from, humanSize(c.After), wordHeld(c.Held)),
		hint: "remove images with `ocibuild rmi` (`ocibuild df -v` tells what they take), or allow more with --" + limitFlag,
	}}
}

// endKeeper collects what makes the store too large, and tells of it.
func (s *session) endKeeper(ctx context.Context) error {
	if s.keeper.watch == nil {
		return nil
	}
	s.keeper.watch.Close()
	var full *fullError
	stopped := errors.As(context.Cause(ctx), &full)
	if ctx.Err() != nil && !stopped {
		return nil // the next build does it
	}
	sp, err := s.space()
	var done space.Collected
	if err == nil {
		done, err = sp.Collect(context.WithoutCancel(ctx), s.keeper.limit.bytes, s.keeper.protect...)
	}
	switch {
	case stopped:
	case err != nil:
		s.keeper.tell(s, true, fmt.Sprintf("the store was not kept below %s: %s", humanSize(s.keeper.limit.bytes), message(err)))
	case !done.Fits() && s.keeper.sends.Load():
	case !done.Fits():
		return s.keeper.excess(done)
	case done.Report.Bytes > 0:
		s.keeper.tell(s, false, fmt.Sprintf("freed %s of what was not used for longest: the store takes %s of %s",
			humanSize(done.Report.Bytes), humanSize(done.After), humanSize(done.Limit)))
	}
	return nil
}

func (k *keeper) tell(s *session, warning bool, text string) {
	switch {
	case k.say != nil:
		k.say(warning, text)
	case warning:
		fmt.Fprintf(s.err, "warning: %s\n", text)
	case !k.silent:
		fmt.Fprintln(s.err, text)
	}
}
