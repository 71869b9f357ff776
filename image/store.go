package image

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Store is an open store. Its methods may be called from several goroutines,
// and several processes may have the same store open.
type Store struct{ root string }

// Open opens the store at root and creates it when it is not there.
func Open(root string) (*Store, error) { panic("skeleton") }

// Root is the directory the store is in.
func (s *Store) Root() string { return s.root }

// Close releases what the store holds open. Blobs already opened stay readable.
func (s *Store) Close() error { panic("skeleton") }

// Use reports whether the blob is in the store, and marks it as used now so
// that a prune beside us keeps it.
func (s *Store) Use(d digest.Digest) bool { panic("skeleton") }

// Blob opens a blob; size and digest are checked while it is read.
func (s *Store) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	panic("skeleton")
}

// BlobFile opens a blob for random access, unverified.
func (s *Store) BlobFile(d digest.Digest) (*os.File, error) { panic("skeleton") }

// ReadBlob reads a whole blob of at most limit bytes, verified.
func (s *Store) ReadBlob(ctx context.Context, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	panic("skeleton")
}

// BlobWriter writes one new blob.
type BlobWriter struct{}

// Create starts a new blob.
func (s *Store) Create() (*BlobWriter, error) { panic("skeleton") }

// Write adds to the blob.
func (w *BlobWriter) Write(p []byte) (int, error) { panic("skeleton") }

// Commit makes the content a blob, if it is what want says.
func (w *BlobWriter) Commit(want ocispec.Descriptor) (ocispec.Descriptor, error) { panic("skeleton") }

// Abort drops the content; it does nothing after Commit.
func (w *BlobWriter) Abort() { panic("skeleton") }

// Put stores what r gives.
func (s *Store) Put(ctx context.Context, want ocispec.Descriptor, r io.Reader) (ocispec.Descriptor, error) {
	panic("skeleton")
}

// Sync makes blobs durable.
func (s *Store) Sync(ctx context.Context, ds ...digest.Digest) error { panic("skeleton") }

// Ref is a normalised image reference.
type Ref struct {
	host, repo, tag string
	digest          digest.Digest
}

// ParseRef reads a reference as Docker does.
func ParseRef(s string) (Ref, error) { panic("skeleton") }

// String is the full reference: docker.io/library/app:v1.
func (r Ref) String() string { panic("skeleton") }

// Familiar is the short form: app:v1.
func (r Ref) Familiar() string { panic("skeleton") }

// Host is the registry's name: docker.io.
func (r Ref) Host() string { return r.host }

// Repository is the path in the registry: library/app.
func (r Ref) Repository() string { return r.repo }

// Tag is the tag, or "".
func (r Ref) Tag() string { return r.tag }

// Digest is the digest, or "".
func (r Ref) Digest() digest.Digest { return r.digest }

// IsZero reports whether r names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// WithDefaultTag adds the tag latest to a reference with neither tag nor digest.
func (r Ref) WithDefaultTag() Ref { panic("skeleton") }

// Reference is one line of the reference table.
type Reference struct {
	Ref        Ref
	Descriptor ocispec.Descriptor
}

// Tag names an image.
func (s *Store) Tag(ctx context.Context, ref Ref, desc ocispec.Descriptor) error { panic("skeleton") }

// Untag removes a name.
func (s *Store) Untag(ctx context.Context, ref Ref) error { panic("skeleton") }

// References lists the names.
func (s *Store) References(ctx context.Context) ([]Reference, error) { panic("skeleton") }

// Lookup finds what a name points at.
func (s *Store) Lookup(ctx context.Context, ref Ref) (ocispec.Descriptor, error) { panic("skeleton") }

// Resolve finds an image by reference, digest, image id or unique prefix of one.
func (s *Store) Resolve(ctx context.Context, name string) (ocispec.Descriptor, error) {
	panic("skeleton")
}

// Config is an image's config.
type Config struct {
	Created *time.Time `json:"created,omitempty"`
	Author  string     `json:"author,omitempty"`
	ocispec.Platform
	Config  RunConfig         `json:"config"`
	RootFS  ocispec.RootFS    `json:"rootfs"`
	History []ocispec.History `json:"history,omitempty"`
}

// RunConfig is how containers of an image run, with Docker's additions.
type RunConfig struct {
	ocispec.ImageConfig
	Healthcheck *HealthConfig `json:",omitempty"`
	OnBuild     []string      `json:",omitempty"`
	Shell       []string      `json:",omitempty"`
}

// HealthConfig is Docker's health check.
type HealthConfig struct {
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// Layer is one layer of an image.
type Layer struct {
	Descriptor ocispec.Descriptor
	DiffID     digest.Digest
	Content    digest.Digest
}

// Image is a manifest with its config.
type Image struct {
	Descriptor ocispec.Descriptor
	Manifest   ocispec.Manifest
	Config     Config
	Layers     []Layer
}

// ID is the image id: the config's digest.
func (i *Image) ID() digest.Digest { return i.Manifest.Config.Digest }

// Image reads the image desc points at; p picks from an index (nil: this machine's).
func (s *Store) Image(ctx context.Context, desc ocispec.Descriptor, p *ocispec.Platform) (*Image, error) {
	panic("skeleton")
}

// Assemble writes config and manifest.
func (s *Store) Assemble(ctx context.Context, cfg Config, layers []Layer) (ocispec.Descriptor, error) {
	panic("skeleton")
}

// Lock takes the lock of that name.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) { panic("skeleton") }

// Lease keeps what is used while it lives.
type Lease struct{}

// Lease starts a lease.
func (s *Store) Lease(ctx context.Context) (*Lease, error) { panic("skeleton") }

// Release ends the lease.
func (l *Lease) Release() { panic("skeleton") }

// PruneOptions says what Prune may remove.
type PruneOptions struct {
	All      bool
	Keep     []digest.Digest
	KeepMore func(context.Context) ([]digest.Digest, error)
	Until    time.Time
}

// PruneReport says what Prune removed.
type PruneReport struct {
	Untagged []Ref
	Deleted  []digest.Digest
	Bytes    int64
}

// Prune removes what nothing needs.
func (s *Store) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) { panic("skeleton") }

// Compressor wraps a writer in a compressing one.
type Compressor func(io.Writer) (io.WriteCloser, error)

// Compression is an algorithm, its level, and how it is done.
type Compression struct {
	Algorithm string // "gzip" or "zstd"
	Level     int
	New       Compressor
}

// Compress gives the compressed form of an uncompressed layer.
func (s *Store) Compress(ctx context.Context, layer ocispec.Descriptor, c Compression) (ocispec.Descriptor, error) {
	panic("skeleton")
}

// PortableOptions says how Portable compresses.
type PortableOptions struct {
	Compression Compression
}

// Portable gives the image with its uncompressed layers compressed.
func (s *Store) Portable(ctx context.Context, desc ocispec.Descriptor, o PortableOptions) (ocispec.Descriptor, error) {
	panic("skeleton")
}

// ArchiveFormat is a kind of archive that Save writes.
type ArchiveFormat string

// The archive formats.
const (
	DockerArchive ArchiveFormat = "docker"
	OCIArchive    ArchiveFormat = "oci"
)

// Save writes the named images as one tar.
func (s *Store) Save(ctx context.Context, w io.Writer, names []string, f ArchiveFormat) error {
	panic("skeleton")
}

// SaveReferences writes images as one tar; a zero Ref is an image without a name.
func (s *Store) SaveReferences(ctx context.Context, w io.Writer, images []Reference, f ArchiveFormat) error {
	panic("skeleton")
}

// Loaded is one image that Load found.
type Loaded struct {
	Ref        Ref // zero for an image without a name
	Descriptor ocispec.Descriptor
}

// Load stores the images of an archive.
func (s *Store) Load(ctx context.Context, r io.Reader) ([]Loaded, error) { panic("skeleton") }

// Import makes a one-layer image of a root filesystem tar (uncompressed).
func (s *Store) Import(ctx context.Context, r io.Reader, cfg Config) (ocispec.Descriptor, error) {
	panic("skeleton")
}

// Fault is something wrong in the store.
type Fault struct {
	Path   string
	Digest digest.Digest
	Ref    Ref
	Err    error
}

// Fsck checks the whole store.
func (s *Store) Fsck(ctx context.Context) ([]Fault, error) { panic("skeleton") }
