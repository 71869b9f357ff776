package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Fault is something wrong in the store.
type Fault struct {
	Path   string        // within the store, where a file is at fault
	Digest digest.Digest // the blob that is damaged or missing, if one is
	Ref    Ref           // the image that needs it, if one does
	Err    error
}

// String tells the fault in one line.
func (f Fault) String() string {
	var parts []string
	if f.Path != "" {
		parts = append(parts, f.Path)
	}
	if !f.Ref.IsZero() {
		parts = append(parts, "image "+f.Ref.Familiar())
	}
	return strings.Join(append(parts, f.Err.Error()), ": ")
}

// Fsck reads the whole store: every blob must have the digest it is named by,
// and every image that has a name must have all its blobs. Of an index, images
// that were not fetched are no fault. Nor are temporary files and blobs that
// nothing needs. It may run beside everything else. The error is about the
// check itself, not about what it found.
func (s *Store) Fsck(ctx context.Context) ([]Fault, error) {
	var faults []Fault
	if err := s.checkLayout(); err != nil {
		faults = append(faults, Fault{Path: ocispec.ImageLayoutFile, Err: err})
	}
	damaged, err := s.checkBlobs(ctx)
	if err != nil {
		return nil, fmt.Errorf("check blobs: %w", err)
	}
	faults = append(faults, damaged...)
	broken, err := s.checkImages(ctx, damaged)
	if err != nil {
		return nil, fmt.Errorf("check images: %w", err)
	}
	return append(faults, broken...), nil
}

func (s *Store) checkBlobs(ctx context.Context) ([]Fault, error) {
	var (
		mu     sync.Mutex
		faults []Fault
	)
	report := func(f Fault) {
		mu.Lock()
		defer mu.Unlock()
		faults = append(faults, f)
	}
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(min(runtime.GOMAXPROCS(0), 4))
	err := s.eachBlobFile(func(b blobFile) error {
		if err := groupCtx.Err(); err != nil {
			return err
		}
		name, _ := filepath.Rel(s.root, b.path)
		if b.digest.Validate() != nil {
			report(Fault{Path: name, Err: errors.New("its name is not a digest")})
			return nil
		}
		g.Go(func() error {
			err := s.verify(groupCtx, b.digest)
			var bad *VerifyError
			switch {
			case errors.As(err, &bad):
				report(Fault{Path: name, Digest: b.digest, Err: fmt.Errorf("blob %s has digest %s", b.digest, bad.Got)})
			case err != nil && groupCtx.Err() == nil && !errors.Is(err, fs.ErrNotExist):
				report(Fault{Path: name, Digest: b.digest, Err: err})
			}
			return groupCtx.Err()
		})
		return nil
	})
	if err := errors.Join(g.Wait(), err); err != nil {
		return nil, err
	}
	slices.SortFunc(faults, func(a, b Fault) int { return strings.Compare(a.Path, b.Path) })
	return faults, nil
}

// checkImages follows every entry of the table.
func (s *Store) checkImages(ctx context.Context, damaged []Fault) ([]Fault, error) {
	bad := make(map[digest.Digest]bool)
	for _, f := range damaged {
		bad[f.Digest] = true
	}
	index, err := s.readIndex()
	if err != nil {
		return []Fault{{Path: ocispec.ImageIndexFile, Err: err}}, nil
	}
	var faults []Fault
	for _, m := range index.Manifests {
		found, err := s.checkImage(ctx, m, bad)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 && s.inTable(m) {
			faults = append(faults, found...)
		}
	}
	return faults, nil
}

func (s *Store) checkImage(ctx context.Context, m ocispec.Descriptor, bad map[digest.Digest]bool) ([]Fault, error) {
	ref, _ := entryRef(m)
	var faults []Fault
	problem := func(d ocispec.Descriptor, err error) {
		faults = append(faults, Fault{Digest: d.Digest, Ref: ref, Err: err})
	}
	c := closure{from: s, present: s.there, away: s.away, problem: problem}
	there, err := c.walk(ctx, m, 0)
	if err == nil && !there {
		problem(m, missing(m.Digest))
	}
	for _, d := range c.found {
		switch fault := s.checkSize(d); {
		case fault != nil:
			problem(d, fault)
		case bad[d.Digest] && !isIndexType(d.MediaType) && !isManifestType(d.MediaType):
			problem(d, fmt.Errorf("it needs the damaged blob %s", d.Digest))
		}
	}
	return faults, err
}

// checkSize compares a descriptor's size with the file's.
func (s *Store) checkSize(d ocispec.Descriptor) error {
	f, err := s.openBlob(d.Digest)
	if err != nil {
		return nil // it went with its image, or has been reported
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() != d.Size {
		err = &VerifyError{Want: d.Digest, WantSize: d.Size, GotSize: info.Size()}
	}
	return err
}

// inTable asks again: an image may have been removed while it was checked.
func (s *Store) inTable(m ocispec.Descriptor) bool {
	index, err := s.readIndex()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(index.Manifests, func(x ocispec.Descriptor) bool { return sameEntry(x, m) })
}
