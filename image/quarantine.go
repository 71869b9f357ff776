package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// quarantine is a directory for what a Repair takes out of the way: an image layout
// that need not be whole.
type quarantine struct {
	store *Store
	name  string // within the store
	index *ocispec.Index
}

// quarantine makes the directory when it is first asked for.
func (r *repairer) quarantine() (*quarantine, error) {
	if r.place != nil {
		return r.place, nil
	}
	s := r.store
	if err := s.disk.mkdir(s.path(QuarantineDir), 0o700); err != nil {
		return nil, err
	}
	stamp := filepath.Join(QuarantineDir, s.now().UTC().Format("20060102T150405Z"))
	q := &quarantine{store: s, name: stamp, index: newIndex()}
	for n := 2; ; n++ {
		if _, err := os.Lstat(s.path(q.name)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		q.name = fmt.Sprintf("%s-%d", stamp, n)
	}
	for _, dir := range []string{"", "blobs", "files"} {
		if err := s.disk.mkdir(s.path(q.name, dir), 0o700); err != nil {
			return nil, err
		}
	}
	err := s.disk.replace(s.path("ingest"), s.path(q.name, ocispec.ImageLayoutFile), s.fixedFiles()[ocispec.ImageLayoutFile])
	if err == nil {
		err = q.writeTable()
	}
	r.place = q
	return q, err
}

// writeTable is called when what the table names is here: only then may it lose its
// names in the store.
func (q *quarantine) writeTable() error {
	algorithms, err := os.ReadDir(q.store.path(q.name, "blobs"))
	if err != nil {
		return err
	}
	for _, a := range algorithms {
		if err := q.store.disk.syncDir(q.store.path(q.name, "blobs", a.Name())); err != nil {
			return err
		}
	}
	return q.store.disk.replace(q.store.path("ingest"), q.store.path(q.name, ocispec.ImageIndexFile), encodeIndex(q.index))
}

func (q *quarantine) blobPath(d digest.Digest) (string, error) {
	dir := q.store.path(q.name, "blobs", d.Algorithm().String())
	return filepath.Join(dir, d.Encoded()), q.store.disk.mkdir(dir, 0o700)
}

// takeBlob moves a blob here. The sweep lock is held.
func (q *quarantine) takeBlob(d digest.Digest) (string, error) {
	to, err := q.blobPath(d)
	if err != nil {
		return "", err
	}
	return to, q.store.disk.rename(q.store.blobPath(d), to)
}

// takeFile moves any other file here.
func (q *quarantine) takeFile(path string) error {
	to := q.store.path(q.name, "files", path)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return q.store.disk.rename(q.store.path(path), to)
}

// add puts an entry into the table here, with a second name for each blob of it that
// is there.
func (q *quarantine) add(ctx context.Context, m ocispec.Descriptor) error {
	if err := q.link(ctx, m); err != nil {
		return err
	}
	if !slices.ContainsFunc(q.index.Manifests, func(x ocispec.Descriptor) bool { return sameEntry(x, m) }) {
		q.index.Manifests = append(q.index.Manifests, m)
	}
	return nil
}

// link gives a second name to each blob of an image that is there.
func (q *quarantine) link(ctx context.Context, desc ocispec.Descriptor) error {
	c := closure{from: q.store, present: q.store.there, problem: func(ocispec.Descriptor, error) {}}
	if err := c.add(ctx, desc); err != nil {
		return err
	}
	for _, d := range c.found {
		if err := q.linkBlob(d.Digest); err != nil {
			return err
		}
	}
	return nil
}

// linkNamed does so for what a damaged manifest or index names, as far as that can
// be made out.
func (q *quarantine) linkNamed(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxManifest || !beginsDocument(path) {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, desc := range salvage(text) {
		if layerType(desc.MediaType) != "" || isConfigType(desc.MediaType) {
			err = q.linkBlob(desc.Digest)
		} else {
			err = q.link(ctx, desc)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// linkBlob gives a blob a second name here.
func (q *quarantine) linkBlob(d digest.Digest) error {
	to, err := q.blobPath(d)
	if err != nil {
		return err
	}
	err = q.store.disk.link(q.store.blobPath(d), to)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
