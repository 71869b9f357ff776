package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Bounds of what an archive may make us hold in memory.
const (
	maxArchiveText    = 16 << 20
	maxArchiveMembers = 100_000
)

// Loaded is one image that Load found.
type Loaded struct {
	Ref        Ref // zero for an image without a name
	Descriptor ocispec.Descriptor
}

// LoadOptions says what Load takes.
type LoadOptions struct {
	// Platforms are those whose images are taken; none means all that the
	// archive has.
	Platforms []ocispec.Platform
}

// Load stores the images of an archive, OCI's or Docker's of any age since
// 1.10, and tags those that have names. The archive must be uncompressed; the
// layers in it need not be. Blobs are verified, and nothing becomes part of
// the store before the whole archive has been read and found right.
func (s *Store) Load(ctx context.Context, r io.Reader, o LoadOptions) ([]Loaded, error) {
	lease, err := s.Lease(ctx)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	a := newArchive(s)
	defer a.drop()
	list, err := a.load(ctx, r, o)
	if err != nil {
		return nil, fmt.Errorf("load archive: %w", err)
	}
	return list, nil
}

// archive is what has been read of an archive that is being loaded.
type archive struct {
	store   *Store
	text    map[string][]byte              // index.json, manifest.json
	members map[string]ocispec.Descriptor  // other files, by path
	links   map[string]string              // path -> path
	sealed  map[digest.Digest]sealedMember // the new ones, still in ingest/
}

type sealedMember struct {
	path string
	size int64
}

func newArchive(s *Store) *archive {
	return &archive{
		store:   s,
		text:    make(map[string][]byte),
		members: make(map[string]ocispec.Descriptor),
		links:   make(map[string]string),
		sealed:  make(map[digest.Digest]sealedMember),
	}
}

// drop removes what did not become part of the store.
func (a *archive) drop() {
	for _, m := range a.sealed {
		_ = a.store.disk.remove(m.path)
	}
}

func (a *archive) load(ctx context.Context, r io.Reader, o LoadOptions) ([]Loaded, error) {
	if err := a.read(ctx, r); err != nil {
		return nil, err
	}
	images, err := a.images(ctx)
	if err != nil {
		return nil, err
	}
	var needs []ocispec.Descriptor
	for _, img := range images {
		found, err := needed(ctx, a, a.present, img.Descriptor, o.Platforms)
		if err != nil {
			return nil, err
		}
		needs = append(needs, found...)
	}
	for _, d := range needs {
		if err := a.publish(d.Digest); err != nil {
			return nil, a.store.explain("store blob", err)
		}
	}
	if err := a.store.Sync(ctx, digestsOf(needs)...); err != nil {
		return nil, err
	}
	return images, a.tag(ctx, images)
}

func (a *archive) publish(d digest.Digest) error {
	m, ok := a.sealed[d]
	if !ok {
		return nil
	}
	if err := a.store.publish(m.path, ocispec.Descriptor{Digest: d, Size: m.size}); err != nil {
		return err
	}
	if _, err := os.Lstat(m.path); err == nil {
		_ = a.store.disk.remove(m.path) // the blob was there already
	}
	delete(a.sealed, d)
	return nil
}

func (a *archive) tag(ctx context.Context, images []Loaded) error {
	for _, img := range images {
		if img.Ref.IsZero() {
			continue
		}
		if err := a.store.Tag(ctx, img.Ref, img.Descriptor); err != nil {
			return err
		}
	}
	return nil
}

// read takes everything from the tar that may belong to an image.
func (a *archive) read(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(&contextReader{ctx, r})
	for n := 0; ; n++ {
		h, err := tr.Next()
		switch {
		case err == io.EOF && n == 0:
			return errors.New("it is empty")
		case err == io.EOF:
			return nil
		case n == 0 && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)): // shorter than a header
			return errors.New("it is not a tar archive")
		case err != nil:
			return fmt.Errorf("read tar: %w", err)
		case n > maxArchiveMembers:
			return fmt.Errorf("it has more than %d members", maxArchiveMembers)
		}
		if err := a.member(ctx, h, tr); err != nil {
			return fmt.Errorf("member %q: %w", h.Name, err)
		}
	}
}

func (a *archive) member(ctx context.Context, h *tar.Header, body io.Reader) error {
	name := cleanMember(h.Name)
	switch h.Typeflag {
	case tar.TypeSymlink:
		a.links[name] = cleanMember(path.Join(path.Dir(name), h.Linkname))
		return nil
	case tar.TypeLink:
		a.links[name] = cleanMember(h.Linkname)
		return nil
	case tar.TypeReg:
	default:
		return nil
	}
	switch {
	case name == ocispec.ImageIndexFile || name == "manifest.json" || name == ocispec.ImageLayoutFile:
		text, err := readLimited(body, maxArchiveText)
		a.text[name] = text
		return err
	case !mayBelong(name):
		return nil
	}
	want, err := wantedDigest(name)
	if err != nil {
		return err
	}
	desc, err := a.keep(ctx, want, body)
	a.members[name] = desc
	return err
}

// cleanMember makes a name relative and free of dots: members are looked up,
// never opened, by their names.
func cleanMember(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// mayBelong leaves out what no known archive has: a root file system tar, say,
// is not copied to the store only to be refused.
func mayBelong(name string) bool {
	dir, base := path.Split(name)
	switch strings.Count(dir, "/") {
	case 0:
		return base != "repositories"
	case 1:
		return strings.HasPrefix(base, "layer.tar")
	}
	return strings.HasPrefix(dir, "blobs/")
}

// wantedDigest is the digest that a blob's name promises.
func wantedDigest(name string) (digest.Digest, error) {
	parts := strings.Split(name, "/")
	if len(parts) != 3 || parts[0] != "blobs" {
		return "", nil
	}
	d := digest.NewDigestFromEncoded(digest.Algorithm(parts[1]), parts[2])
	return d, d.Validate()
}

// keep puts a member into ingest/, unless the store has it.
func (a *archive) keep(ctx context.Context, want digest.Digest, body io.Reader) (ocispec.Descriptor, error) {
	if want != "" && a.present(want) {
		if m, ok := a.sealed[want]; ok {
			return ocispec.Descriptor{Digest: want, Size: m.size}, nil
		}
		desc, ok := a.store.have(ocispec.Descriptor{Digest: want})
		if ok {
			return desc, nil
		}
	}
	algorithm := digest.SHA256
	if want != "" {
		algorithm = want.Algorithm()
	}
	w, err := a.store.createWith(algorithm)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer w.Abort()
	if err := w.fill(ctx, ocispec.Descriptor{}, body); err != nil {
		return ocispec.Descriptor{}, err
	}
	desc, file, err := w.seal(ocispec.Descriptor{Digest: want})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if _, twice := a.sealed[desc.Digest]; twice {
		return desc, a.store.disk.remove(file)
	}
	a.sealed[desc.Digest] = sealedMember{file, desc.Size}
	return desc, nil
}

func (a *archive) present(d digest.Digest) bool {
	_, ok := a.sealed[d]
	return ok || a.store.Use(d)
}

// ReadBlob reads a member of the archive or a blob of the store.
func (a *archive) ReadBlob(ctx context.Context, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	m, ok := a.sealed[desc.Digest]
	if !ok {
		return a.store.ReadBlob(ctx, desc, limit)
	}
	if m.size > limit || desc.Size > 0 && desc.Size != m.size {
		return nil, fmt.Errorf("read blob %s: it has %d bytes", desc.Digest, m.size)
	}
	f, err := os.Open(m.path)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", desc.Digest, err)
	}
	defer f.Close()
	return readLimited(f, limit)
}

// head is the beginning of a member's content.
func (a *archive) head(d digest.Digest) ([]byte, error) {
	m, ok := a.sealed[d]
	var f *os.File
	var err error
	if ok {
		f, err = os.Open(m.path)
	} else {
		f, err = a.store.openBlob(d)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 8)
	n, err := io.ReadFull(f, head)
	if err == io.ErrUnexpectedEOF || err == io.EOF {
		err = nil
	}
	return head[:n], err
}

// lookup finds a member by path, through links.
func (a *archive) lookup(name string) (ocispec.Descriptor, error) {
	at := cleanMember(name)
	for range 16 {
		if desc, ok := a.members[at]; ok {
			return desc, nil
		}
		to, ok := a.links[at]
		if !ok {
			break
		}
		at = to
	}
	return ocispec.Descriptor{}, fmt.Errorf("member %q is not in the archive: %w", name, fs.ErrNotExist)
}
