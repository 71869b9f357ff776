package image

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image/usage"
	"github.com/opencontainers/go-digest"
)

// StoredBlob is a blob as the disk has it.
type StoredBlob struct {
	Digest digest.Digest
	Bytes  int64 // on the disk
	Used   time.Time
}

// StoredBlobs lists the blobs in the order of their digests. Like all of this
// file it marks nothing as used, and what comes or goes meanwhile may be left
// out.
func (s *Store) StoredBlobs(ctx context.Context) ([]StoredBlob, error) {
	var list []StoredBlob
	err := s.eachBlob(func(b blobFile) error {
		list = append(list, StoredBlob{b.digest, usage.Of(b.info), b.info.ModTime()})
		return ctx.Err()
	})
	return list, err
}

// Contents lists everything that keeps blobs: what the table has, with a name or
// without, layers that are kept on their own among it, and the images that no name
// leads to.
func (s *Store) Contents(ctx context.Context) ([]Summary, error) {
	m := s.openMemo()
	defer m.save()
	list, err := s.tableSummaries(ctx, m)
	if err != nil {
		return nil, err
	}
	loose, err := s.looseImages(ctx, m, list)
	return append(list, loose...), err
}

// IsLayer reports whether the summary is of a layer that is kept on its own.
func (s *Summary) IsLayer() bool { return s.isLayerRecord() }

// Leftover is something unfinished: a program is at work on it, or was
// interrupted.
type Leftover struct {
	Path  string // within the store
	Bytes int64
	Used  time.Time
	Live  bool // a program has it open
}

// Leftovers lists what is unfinished: temporary files, parts of blobs, leases of dead
// processes, and blobs that a prune had in hand when it died.
func (s *Store) Leftovers(ctx context.Context) ([]Leftover, error) {
	var list []Leftover
	for _, dir := range []string{"ingest", "trash", compressedDir, "locks/leases"} {
		entries, err := os.ReadDir(s.path(dir))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if dir != "trash" && !strings.HasPrefix(e.Name(), tempPrefix) && !strings.HasPrefix(e.Name(), partPrefix) {
				continue
			}
			l, err := s.leftover(ctx, path)
			if err != nil {
				return nil, err
			}
			if dir != "locks/leases" || !l.Live {
				list = append(list, l)
			}
		}
	}
	return list, nil
}

func (s *Store) leftover(ctx context.Context, path string) (Leftover, error) {
	l := Leftover{Path: path}
	var m usage.Meter
	err := m.Tree(ctx, s.path(path))
	l.Bytes = m.Bytes
	info, statErr := os.Lstat(s.path(path))
	if err != nil || statErr != nil {
		return l, err
	}
	l.Used = info.ModTime()
	if info.Mode().IsRegular() && !strings.HasPrefix(path, "trash") {
		f, idle := takeIdle(s.path(path))
		if idle {
			f.Close()
		}
		l.Live = !idle
	}
	return l, nil
}

// QuarantineDir is where Repair puts what is damaged, a directory each time.
const QuarantineDir = "quarantine"

// ConfigFile is where users say how the store is to be kept. Nothing here reads it.
const ConfigFile = "config"
