package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/build/remote"
	"github.com/ocibuild/ocibuild/cache"
	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

type pruneCommand struct {
	all, cache, force bool
	json              bool
}

// unpackedAge is how long an unpacked layer stays unused before prune drops it.
const unpackedAge = 7 * 24 * time.Hour

func pruneDescription() *command {
	return &command{
		name: "prune", short: "free space in the store",
		long: "Deletes images without a name, blobs that nothing needs, what interrupted programs left behind, and unpacked " +
			"layers that were not used for a week. The build cache and what it needs stays; --cache drops it and the directories " +
			"of cache mounts too, " +
			"--all drops it and every image. What a build that is running has used stays in any case. " +
			"Asks before it begins when it is used on a terminal; elsewhere --force is needed.",
		examples: []example{
			{"ocibuild prune -f", "what nobody can miss"},
			{"ocibuild prune -f --cache", "and the build cache: the next build runs every step"},
			{"ocibuild prune -f --all", "and all images: the store is empty after it"},
		},
		enters: true,
		make:   func() verb { return &pruneCommand{} },
	}
}

func (c *pruneCommand) Flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.all, "all", "a", false, "delete all images and the build cache")
	fs.BoolVar(&c.cache, "cache", false, "delete the build cache")
	fs.BoolVarP(&c.force, "force", "f", false, "do not ask")
	fs.BoolVar(&c.json, "json", false, "print the result as JSON")
}

func (c *pruneCommand) Check(s *stdio, args []string) error {
	if err := count(args, 0, 0, "no arguments"); err != nil {
		return err
	}
	if !c.force && !s.inTTY {
		return &usageError{msg: "there is no terminal to ask on", hint: "say --force to go on without a question"}
	}
	return nil
}

// pruneResult is what prune --json prints.
type pruneResult struct {
	Untagged []string `json:"untagged"`
	Deleted  []string `json:"deleted"`
	Unpacked int      `json:"unpacked_layers"`
	Records  int      `json:"cache_records"`
	Mounts   int      `json:"cache_mounts"`
	Fetched  int      `json:"fetched"`
	Bytes    int64    `json:"bytes"`
}

func (c *pruneCommand) Run(ctx context.Context, s *session) error {
	if ok, err := c.confirm(s); !ok {
		return err
	}
	result := pruneResult{Untagged: []string{}, Deleted: []string{}}
	begin := time.Now()
	if err := c.pruneCache(ctx, s, &result); err != nil {
		return err
	}
	if err := c.pruneBlobs(ctx, s, &result); err != nil {
		return err
	}
	if err := c.pruneDirectories(ctx, s, begin, &result); err != nil {
		return err
	}
	if c.json {
		return writeJSON(s.out, result)
	}
	return result.print(s)
}

func (c *pruneCommand) confirm(s *session) (bool, error) {
	if c.force {
		return true, nil
	}
	what := "images without a name and blobs that nothing needs"
	switch {
	case c.all:
		what = "all images and the build cache"
	case c.cache:
		what += ", and the build cache"
	}
	fmt.Fprintf(s.err, "This deletes %s. Go on? [y/N] ", what)
	line, err := bufio.NewReader(io.LimitReader(s.in, 100)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}

// pruneCache drops the records of the build cache when that is wanted, and
// unfinished files of dead processes always.
func (c *pruneCommand) pruneCache(ctx context.Context, s *session, result *pruneResult) error {
	st, err := s.cache()
	if err != nil {
		return err
	}
	r, err := st.Prune(ctx, cache.PruneOptions{All: c.all || c.cache})
	result.Records, result.Bytes = r.Records, result.Bytes+r.Bytes
	return err
}

func (c *pruneCommand) pruneBlobs(ctx context.Context, s *session, result *pruneResult) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	o := image.PruneOptions{All: c.all, KeepMore: func(ctx context.Context) ([]digest.Digest, error) { return cacheBlobs(ctx, s) }}
	r, err := st.Prune(ctx, o)
	for _, ref := range r.Untagged {
		result.Untagged = append(result.Untagged, ref.Familiar())
	}
	for _, d := range r.Deleted {
		result.Deleted = append(result.Deleted, d.String())
	}
	result.Bytes += r.Bytes
	return err
}

// pruneDirectories drops unpacked layers, what builds have fetched and, with the
// build cache, the directories of cache mounts, but none that a live build has used.
func (c *pruneCommand) pruneDirectories(ctx context.Context, s *session, begin time.Time, result *pruneResult) error {
	snapshots, err := s.snapshots()
	if err != nil {
		return err
	}
	st, err := s.store()
	if err != nil {
		return err
	}
	limit, err := oldestLease(st, begin)
	if err != nil {
		return err
	}
	if c.all || c.cache {
		memory, err := s.cache()
		if err != nil {
			return err
		}
		if result.Mounts, err = memory.PruneMounts(ctx, limit); err != nil {
			return err
		}
	}
	if aged := begin.Add(-unpackedAge); !c.all && !c.cache && aged.Before(limit) {
		limit = aged
	}
	if err := result.pruneFetched(ctx, st, limit); err != nil {
		return err
	}
	gone, err := snapshots.Prune(ctx, func(_ string, used time.Time) bool { return !used.Before(limit) })
	result.Unpacked = len(gone)
	return err
}

// pruneFetched drops what builds have fetched from URLs and repositories.
func (r *pruneResult) pruneFetched(ctx context.Context, st *image.Store, limit time.Time) error {
	dir, err := filepath.Abs(filepath.Join(st.Root(), remoteDir))
	if err != nil {
		return err
	}
	gone, err := remote.Prune(ctx, dir, st, limit)
	r.Fetched = gone.Files + gone.Repositories + gone.Trees
	r.Bytes += gone.Bytes
	return err
}

func (r *pruneResult) print(s *session) error {
	var b strings.Builder
	for _, name := range r.Untagged {
		fmt.Fprintf(&b, "Untagged: %s\n", name)
	}
	for _, d := range r.Deleted {
		fmt.Fprintf(&b, "Deleted: %s\n", d)
	}
	if r.Records > 0 {
		fmt.Fprintf(&b, "Dropped %d records of the build cache\n", r.Records)
	}
	if r.Mounts > 0 {
		fmt.Fprintf(&b, "Dropped %d cache mounts\n", r.Mounts)
	}
	if r.Fetched > 0 {
		fmt.Fprintf(&b, "Dropped %d downloads\n", r.Fetched)
	}
	if r.Unpacked > 0 {
		fmt.Fprintf(&b, "Dropped %d unpacked layers\n", r.Unpacked)
	}
	fmt.Fprintf(&b, "Reclaimed %s\n", humanSize(r.Bytes))
	_, err := io.WriteString(s.out, b.String())
	return err
}

// oldestLease is when the oldest live lease began, or begin if none is older.
// Leases of dead processes must be gone, as they are after the store's Prune.
func oldestLease(st *image.Store, begin time.Time) (time.Time, error) {
	dir := filepath.Join(st.Root(), "locks", "leases")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return begin, fmt.Errorf("list leases: %w", err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		word, _, _ := strings.Cut(string(text), " ")
		if n, err := strconv.ParseInt(word, 10, 64); err == nil && time.Unix(0, n).Before(begin) {
			begin = time.Unix(0, n)
		}
	}
	return begin, nil
}
