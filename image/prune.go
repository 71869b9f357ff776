package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PruneOptions says what Prune may remove. The zero value lets it remove what
// no name reaches.
type PruneOptions struct {
	// All removes the names too, and with them the images.
	All bool

	// Keep are blobs that stay although nothing names them: those of cache
	// records. KeepMore is asked for more of them once Prune knows which
	// leases live, so that a record written meanwhile is not left out.
	Keep     []digest.Digest
	KeepMore func(context.Context) ([]digest.Digest, error)

	// Until keeps everything used at that time or later. Zero: no limit.
	Until time.Time
}

// PruneReport says what Prune removed.
type PruneReport struct {
	Untagged []Ref
	Deleted  []digest.Digest
	Bytes    int64
}

// Prune removes what nothing needs; the package comment says what is kept. It
// may run beside everything else. After an error the report tells what was
// removed until then.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	p := pruning{store: s, options: o, keep: make(map[digest.Digest]bool)}
	if err := p.run(ctx); err != nil {
		return p.report, s.explain("prune", err)
	}
	return p.report, nil
}

type pruning struct {
	store   *Store
	options PruneOptions
	limit   time.Time // what was used then or later stays
	keep    map[digest.Digest]bool
	report  PruneReport
}

func (p *pruning) run(ctx context.Context) error {
	s := p.store
	unlock, err := s.lock(ctx, lockPrune)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.emptyTrash(ctx); err != nil {
		return err
	}
	// The order matters: the time, then the leases, then the records and the
	// table. Whatever began after the time is kept by its marks of use,
	// whatever ended before is in the records or the table.
	if p.limit, err = s.cutoff(s.now()); err != nil {
		return err
	}
	if !p.options.Until.IsZero() && p.options.Until.Before(p.limit) {
		p.limit = p.options.Until
	}
	p.limit = s.coarse(p.limit)
	if err := p.mark(ctx); err != nil {
		return err
	}
	if err := p.sweep(ctx); err != nil {
		return err
	}
	return p.tidy()
}

// coarse rounds a time down to what the file system can tell apart. A disk too
// full for the attempt counts as the coarsest.
func (s *Store) coarse(t time.Time) time.Time {
	f, err := s.disk.temp(s.path("ingest"))
	if err != nil {
		return t.Truncate(2 * time.Second)
	}
	defer f.Close()
	odd := time.Unix(t.Unix(), 123456789)
	err = s.disk.touch(f.Name(), odd)
	info, statErr := f.Stat()
	_ = s.disk.remove(f.Name())
	switch {
	case err != nil || statErr != nil || info.ModTime().Nanosecond() == 0:
		return t.Truncate(2 * time.Second)
	case !info.ModTime().Equal(odd):
		return t.Truncate(time.Microsecond)
	}
	return t
}

// mark finds everything that stays.
func (p *pruning) mark(ctx context.Context) error {
	more, err := p.keepMore(ctx)
	if err != nil {
		return err
	}
	for _, d := range append(more, p.options.Keep...) {
		p.keep[d] = true
	}
	entries, err := p.table(ctx)
	if err != nil {
		return err
	}
	for _, m := range entries {
		if err := p.markImage(ctx, m); err != nil {
			return err
		}
	}
	if err := p.markCompressed(); err != nil {
		return err
	}
	return p.markPlaced(ctx)
}

func (p *pruning) keepMore(ctx context.Context) ([]digest.Digest, error) {
	if p.options.KeepMore == nil {
		return nil, nil
	}
	return p.options.KeepMore(ctx)
}

// table gives the entries that stay. It is read under its lock: a Tag is
// either in it or marks its blobs after p.limit was taken.
func (p *pruning) table(ctx context.Context) (entries []ocispec.Descriptor, err error) {
	err = p.store.changeIndex(ctx, func(index *ocispec.Index) (bool, error) {
		before := len(index.Manifests)
		if p.options.All {
			index.Manifests = slices.DeleteFunc(index.Manifests, p.untag)
		}
		entries = index.Manifests
		return len(entries) != before, nil
	})
	return entries, err
}

func (p *pruning) untag(m ocispec.Descriptor) bool {
	info, err := os.Stat(p.store.blobPath(m.Digest))
	if err == nil && !info.ModTime().Before(p.limit) {
		return false
	}
	if ref, ok := entryRef(m); ok {
		p.report.Untagged = append(p.report.Untagged, ref)
	}
	return true
}

// markImage keeps what an image needs. What is missing cannot be kept; what
// cannot be read stops the prune, for it may name blobs that are needed.
func (p *pruning) markImage(ctx context.Context, m ocispec.Descriptor) error {
	var first error
	c := closure{from: p.store, present: p.store.there, away: p.store.away, problem: func(_ ocispec.Descriptor, err error) {
		if first == nil && !errors.Is(err, ErrNotFound) {
			first = err
		}
	}}
	if err := c.add(ctx, m); err != nil {
		return err
	}
	if first != nil {
		name := m.Digest.String()
		if ref, ok := entryRef(m); ok {
			name = ref.Familiar()
		}
		return fmt.Errorf("image %s cannot be read (remove it or pull it again first): %w", name, first)
	}
	for _, d := range append(c.found, c.absent...) {
		p.keep[d.Digest] = true
	}
	return nil
}

// markPlaced forgets where blobs are that no image needs. Under the lock nobody
// begins to rely on that.
func (p *pruning) markPlaced(ctx context.Context) error {
	list, err := p.store.placesFiles()
	if err != nil {
		return err
	}
	unlock, err := p.store.lock(ctx, lockSweep)
	if err != nil {
		return err
	}
	defer unlock()
	for _, f := range list {
		info, err := os.Stat(f.path)
		if err != nil || p.keep[f.digest] || !info.ModTime().Before(p.limit.Add(-placesAge)) {
			continue
		}
		if err := p.store.disk.remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// markCompressed keeps the compressed forms of the layers that stay, and
// forgets those of others.
func (p *pruning) markCompressed() error {
	memos, err := p.store.compressedLayers()
	if err != nil {
		return err
	}
	for _, m := range memos {
		if p.keep[m.layer] {
			p.keep[m.compressed.Digest] = true
			continue
		}
		if info, err := os.Stat(m.path); err != nil || !info.ModTime().Before(p.limit) {
			continue
		}
		if err := p.store.disk.remove(m.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (p *pruning) sweep(ctx context.Context) error {
	return p.store.eachBlob(func(b blobFile) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.keep[b.digest] || !b.info.ModTime().Before(p.limit) {
			return nil
		}
		gone, err := p.store.discard(ctx, b.digest, p.limit)
		if gone {
			p.report.Deleted = append(p.report.Deleted, b.digest)
			p.report.Bytes += b.info.Size()
		}
		return err
	})
}

// discard removes a blob unless it was used at limit or later. The time is
// looked at when the blob has left its place: a use is seen here or finds it
// gone, and then waits for the lock.
func (s *Store) discard(ctx context.Context, d digest.Digest, limit time.Time) (gone bool, err error) {
	unlock, err := s.lock(ctx, lockSweep)
	if err != nil {
		return false, err
	}
	defer unlock()
	trash := s.trashPath(d)
	if err := s.disk.rename(s.blobPath(d), trash); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	info, err := os.Stat(trash)
	if err != nil {
		return false, err
	}
	if !info.ModTime().Before(limit) {
		return false, s.restore(d)
	}
	err = s.disk.remove(trash)
	return err == nil, err
}

// emptyTrash takes back what a prune that died had in hand.
func (s *Store) emptyTrash(ctx context.Context) error {
	entries, err := os.ReadDir(s.path("trash"))
	if err != nil || len(entries) == 0 {
		return err
	}
	unlock, err := s.lock(ctx, lockSweep)
	if err != nil {
		return err
	}
	defer unlock()
	for _, e := range entries {
		algorithm, hex, _ := strings.Cut(e.Name(), "-")
		d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)
		if d.Validate() != nil {
			continue
		}
		if err := s.restore(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// tidy removes what dead processes left: temporary files, parts of blobs, and
// locks that nobody holds.
func (p *pruning) tidy() error {
	old := func(info fs.FileInfo) bool { return info.ModTime().Before(p.limit) }
	for _, dir := range []string{"ingest", "cache/blobs"} {
		if err := p.removeIdle(dir, tempPrefix, old); err != nil {
			return err
		}
	}
	if err := p.removeIdle("ingest", partPrefix, old); err != nil {
		return err
	}
	return p.removeIdle("locks", lockPrefix, func(fs.FileInfo) bool { return true })
}

// removeIdle removes the files that nobody has locked and old accepts.
func (p *pruning) removeIdle(dir, prefix string, old func(fs.FileInfo) bool) error {
	entries, err := os.ReadDir(p.store.path(dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(p.store.path(dir), e.Name())
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		f, ok := takeIdle(path)
		if !ok {
			continue
		}
		info, err := f.Stat()
		if err == nil && old(info) && stillNamed(f, path) {
			err = p.store.disk.remove(path)
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
