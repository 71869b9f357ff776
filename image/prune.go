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

	"github.com/ocibuild/ocibuild/image/usage"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PruneOptions says what Prune may remove. The zero value lets it remove what
// no name reaches.
type PruneOptions struct {
	// All removes the names too, and with them the images. Untag chooses names:
	// it is asked about every entry of the table.
	All   bool
	Untag func(Reference) bool

	// Keep are blobs that stay although nothing names them: those of cache
	// records. KeepMore is asked for more of them once Prune knows which
	// leases live, so that a record written meanwhile is not left out.
	Keep     []digest.Digest
	KeepMore func(context.Context) ([]digest.Digest, error)

	// Forget chooses compressed forms of layers that go though the layers stay.
	Forget func(CompressedLayer) bool

	// Until keeps everything used at that time or later. Zero: no limit.
	Until time.Time
}

// PruneReport says what Prune removed.
type PruneReport struct {
	Untagged []Ref
	Deleted  []digest.Digest
	Leftover int   // files that interrupted programs had left
	Bytes    int64 // what all of it took on the disk
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
	return p.store.prunePlaces(ctx, p.keep, p.limit)
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
		if p.options.All || p.options.Untag != nil {
			index.Manifests = slices.DeleteFunc(index.Manifests, p.untag)
		}
		entries = index.Manifests
		return len(entries) != before, nil
	})
	return entries, err
}

func (p *pruning) untag(m ocispec.Descriptor) bool {
	ref, named := entryRef(m)
	if !p.options.All && !p.options.Untag(Reference{ref, withoutName(m)}) {
		return false
	}
	info, err := os.Stat(p.store.blobPath(m.Digest))
	if err == nil && !info.ModTime().Before(p.limit) {
		return false
	}
	if named {
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

// markCompressed keeps the compressed forms of the layers that stay, and
// forgets those of others.
func (p *pruning) markCompressed() error {
	memos, err := p.store.CompressedLayers()
	if err != nil {
		return err
	}
	for _, m := range memos {
		keep := p.keep[m.Layer] && (p.options.Forget == nil || !p.options.Forget(m))
		if keep || !m.Used.Before(p.limit) {
			p.keep[m.Blob] = p.keep[m.Blob] || p.keep[m.Layer]
			continue
		}
		if err := p.store.disk.remove(p.store.path(m.Path)); err != nil {
			if err := ignoreGone(err); err != nil {
				return err
			}
			continue
		}
		p.report.Bytes += m.Bytes
	}
	return nil
}

// sweepBatch is how many blobs are discarded while others wait for the sweep
// lock.
const sweepBatch = 64

func (p *pruning) sweep(ctx context.Context) error {
	var batch []blobFile
	err := p.store.eachBlob(func(b blobFile) error {
		if p.keep[b.digest] || !b.info.ModTime().Before(p.limit) {
			return nil
		}
		if batch = append(batch, b); len(batch) < sweepBatch {
			return nil
		}
		err := p.discard(ctx, batch)
		batch = batch[:0]
		return err
	})
	if err != nil || len(batch) == 0 {
		return err
	}
	return p.discard(ctx, batch)
}

func (p *pruning) discard(ctx context.Context, batch []blobFile) error {
	unlock, err := p.store.lock(ctx, lockSweep)
	if err != nil {
		return err
	}
	defer unlock()
	for _, b := range batch {
		gone, err := p.store.discardLocked(b.digest, p.limit)
		if gone {
			p.report.Deleted = append(p.report.Deleted, b.digest)
			p.report.Bytes += usage.Of(b.info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// discard removes a blob unless it was used at limit or later.
func (s *Store) discard(ctx context.Context, d digest.Digest, limit time.Time) (gone bool, err error) {
	unlock, err := s.lock(ctx, lockSweep)
	if err != nil {
		return false, err
	}
	defer unlock()
	return s.discardLocked(d, limit)
}

// discardLocked is discard for who holds the sweep lock. The time is looked at
// when the blob has left its place: a use is seen here or finds it gone, and then
// waits for the lock.
func (s *Store) discardLocked(d digest.Digest, limit time.Time) (gone bool, err error) {
	trash := s.trashPath(d)
	if err := s.disk.rename(s.blobPath(d), trash); err != nil {
		return false, ignoreGone(err)
	}
	info, err := os.Lstat(trash)
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
	for _, at := range []struct{ dir, prefix string }{
		{"ingest", tempPrefix}, {"ingest", partPrefix}, {"ingest", notePrefix}, {compressedDir, tempPrefix}, {"locks", lockPrefix},
	} {
		if err := p.removeIdle(at.dir, at.prefix); err != nil {
			return err
		}
	}
	return nil
}

// removeIdle removes the files of that prefix that nobody has locked; all but locks
// only if they are old, for temporary ones of other packages are not locked.
func (p *pruning) removeIdle(dir, prefix string) error {
	entries, err := os.ReadDir(p.store.path(dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		path := filepath.Join(p.store.path(dir), e.Name())
		if e.IsDir() {
			err = p.removeOldDir(path)
		} else {
			err = p.removeIdleFile(path, prefix != lockPrefix)
		}
		if err := ignoreGone(err); err != nil {
			return err
		}
	}
	return nil
}

func (p *pruning) removeIdleFile(path string, temporary bool) error {
	f, ok := takeIdle(path)
	if !ok {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || temporary && !info.ModTime().Before(p.limit) || !stillNamed(f, path) {
		return err
	}
	if err := p.store.disk.remove(path); err != nil {
		return err
	}
	p.report.Bytes += usage.Of(info)
	if temporary {
		p.report.Leftover++
	}
	return nil
}

// removeOldDir removes a temporary directory of an ended build.
func (p *pruning) removeOldDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil || !info.ModTime().Before(p.limit) {
		return err
	}
	var m usage.Meter
	if err := m.Tree(context.Background(), dir); err != nil {
		return err
	}
	if err := p.store.disk.removeAll(dir); err != nil {
		return err
	}
	p.report.Leftover++
	p.report.Bytes += m.Bytes
	return nil
}
