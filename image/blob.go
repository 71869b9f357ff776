package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	_ "crypto/sha512" // the digest algorithms a descriptor may name

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// readSize is how much is read from or written to a file at once.
const readSize = 256 << 10

func (s *Store) blobPath(d digest.Digest) string {
	return s.path("blobs", d.Algorithm().String(), d.Encoded())
}

func (s *Store) trashPath(d digest.Digest) string {
	return s.path("trash", d.Algorithm().String()+"-"+d.Encoded())
}

func missing(d digest.Digest) error {
	return fmt.Errorf("blob %s: %w", d, ErrNotFound)
}

// checkDigest is Validate, without regular expressions for what nearly all digests are.
func checkDigest(d digest.Digest) error {
	hex, ok := strings.CutPrefix(string(d), "sha256:")
	if ok && len(hex) == 2*sha256.Size && strings.Trim(hex, "0123456789abcdef") == "" {
		return nil
	}
	return d.Validate()
}

// openBlob opens a blob wherever a prune may just have put it.
func (s *Store) openBlob(d digest.Digest) (*os.File, error) {
	if err := checkDigest(d); err != nil {
		return nil, fmt.Errorf("blob %q: %w", string(d), err)
	}
	blob, trash := s.blobPath(d), s.trashPath(d)
	for _, path := range []string{blob, trash, blob} {
		f, err := os.Open(path)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, s.explain("open blob", err)
		}
	}
	if f, ok := s.aside.open(d); ok {
		return f, nil
	}
	return nil, missing(d)
}

// Use reports whether the blob is in the store, and marks it as used now so
// that a prune beside us keeps it.
func (s *Store) Use(d digest.Digest) bool {
	if checkDigest(d) != nil {
		return false
	}
	path := s.blobPath(d)
	err := s.disk.touch(path, s.now())
	if err == nil {
		return true
	}
	if _, err := os.Stat(path); err == nil {
		return true // there, but not ours to mark
	}
	if _, err := os.Stat(s.trashPath(d)); err != nil {
		// Gone, unless it came back while we looked.
		return s.disk.touch(path, s.now()) == nil || s.aside.blob(d) != nil
	}
	return s.rescue(d)
}

// rescue takes a blob back that a prune is about to remove, or that one was
// about to remove when it died.
func (s *Store) rescue(d digest.Digest) bool {
	unlock, err := s.lock(context.Background(), lockSweep)
	if err != nil {
		return false
	}
	defer unlock()
	if _, err := os.Stat(s.trashPath(d)); err == nil {
		if err := s.restore(d); err != nil {
			return false
		}
	}
	return s.disk.touch(s.blobPath(d), s.now()) == nil
}

// restore moves a blob from trash/ back. The sweep lock is held. Where the
// same blob has been made anew, the durable one of the two stays.
func (s *Store) restore(d digest.Digest) error {
	from, to := s.trashPath(d), s.blobPath(d)
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if durable(info.Mode()) {
		return s.disk.rename(from, to)
	}
	err = s.disk.renameNew(from, to)
	if errors.Is(err, fs.ErrExist) {
		return s.disk.remove(from)
	}
	return err
}

// BlobFile opens a blob for random access, and brings it here first if it is
// elsewhere. Nothing is verified.
func (s *Store) BlobFile(ctx context.Context, d digest.Digest) (*os.File, error) {
	f, err := s.openBlob(d)
	if !errors.Is(err, ErrNotFound) {
		return f, err
	}
	p, ok := s.placed(d)
	if !ok {
		return nil, err
	}
	if err := s.Need(ctx, ocispec.Descriptor{Digest: d, Size: p.size}); err != nil {
		return nil, err
	}
	return s.openBlob(d)
}

// Blob opens a blob for reading. Its size is checked at once when desc says
// one, its digest when the reader comes to the end: that Read gives a
// *VerifyError instead of io.EOF. A missing blob is ErrNotFound; one that is
// elsewhere is stored while it is read.
func (s *Store) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := s.localBlob(ctx, desc)
	if !errors.Is(err, ErrNotFound) {
		return r, err
	}
	p, ok := s.placed(desc.Digest)
	if !ok {
		return nil, err
	}
	if desc.Size == 0 {
		desc.Size = p.size
	}
	return s.stream(ctx, desc)
}

// localBlob is Blob for what is here.
func (s *Store) localBlob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := s.openBlob(desc.Digest)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open blob: %w", err)
	}
	if desc.Size > 0 && info.Size() != desc.Size {
		f.Close()
		return nil, &VerifyError{Want: desc.Digest, WantSize: desc.Size, GotSize: info.Size(), Stored: true}
	}
	return &verifiedReader{ctx: ctx, file: f, want: desc.Digest, hash: desc.Digest.Algorithm().Hash()}, nil
}

// verifiedReader hashes what passes.
type verifiedReader struct {
	ctx  context.Context // the read belongs to the call that opened it
	file *os.File
	want digest.Digest
	hash hash.Hash
	size int64
	err  error
}

// Read gives io.EOF only if size and digest are as they should be, and stops when the context has ended.
func (r *verifiedReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.file.Read(p)
	r.hash.Write(p[:n])
	r.size += int64(n)
	if err == io.EOF {
		err = r.verdict()
	}
	r.err = err
	return n, err
}

func (r *verifiedReader) verdict() error {
	got := digest.NewDigest(r.want.Algorithm(), r.hash)
	if got != r.want {
		return &VerifyError{Want: r.want, Got: got, GotSize: r.size, Stored: true}
	}
	return io.EOF
}

// Close closes the file. What has not been read is not verified.
func (r *verifiedReader) Close() error { return r.file.Close() }

// ReadBlob reads a whole blob of at most limit bytes, verified.
func (s *Store) ReadBlob(ctx context.Context, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if desc.Size > limit {
		return nil, fmt.Errorf("read blob %s: %d bytes are more than the %d allowed", desc.Digest, desc.Size, limit)
	}
	r, err := s.Blob(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := readLimited(r, limit)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", desc.Digest, err)
	}
	return text, nil
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("it has more than the %d bytes allowed", limit)
	}
	return text, nil
}

// verify recomputes a blob's digest.
func (s *Store) verify(ctx context.Context, d digest.Digest) error {
	r, err := s.localBlob(ctx, ocispec.Descriptor{Digest: d})
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, make([]byte, readSize))
	return err
}

// durable tells from its mode whether a blob is known to be on the disk. The
// sticky bit means nothing for a regular file; a mode without write permission
// would keep other programs from writing a manifest that is there already.
func durable(mode fs.FileMode) bool { return mode&fs.ModeSticky != 0 }

// syncBatch bounds the files that are open at once for syncing.
const syncBatch = 64

// Sync makes blobs durable: their bytes and their names are on the disk when
// it returns. Blobs that are durable already cost one stat(2).
func (s *Store) Sync(ctx context.Context, ds ...digest.Digest) error {
	for len(ds) > 0 {
		n := min(len(ds), syncBatch)
		if err := s.syncSome(ctx, ds[:n]); err != nil {
			return s.explain("sync blobs", err)
		}
		ds = ds[n:]
	}
	return nil
}

func (s *Store) syncSome(ctx context.Context, ds []digest.Digest) error {
	var (
		mu    sync.Mutex
		files []*os.File
	)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, d := range ds {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			f, err := s.syncBlob(d)
			if f != nil {
				mu.Lock()
				defer mu.Unlock()
				files = append(files, f)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil || len(files) == 0 {
		return err
	}
	return s.syncNames(files)
}

// syncBlob gives the blob's open file, or nil when there is nothing to do.
func (s *Store) syncBlob(d digest.Digest) (*os.File, error) {
	if d.Validate() == nil {
		if info, err := os.Stat(s.blobPath(d)); err == nil && durable(info.Mode()) {
			return nil, nil
		}
	}
	f, err := s.openBlob(d)
	if err != nil {
		return nil, err
	}
	return f, s.disk.sync(f)
}

// syncNames syncs the directories of synced files and then marks the files as
// durable: through their descriptors, for a name may stand for another file
// by now.
func (s *Store) syncNames(files []*os.File) error {
	dirs := make(map[string]bool)
	for _, f := range files {
		dirs[filepath.Dir(f.Name())] = true
	}
	for dir := range dirs {
		if err := s.disk.syncDir(dir); err != nil {
			return err
		}
	}
	for _, f := range files {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		err = s.disk.fchmod(f, info.Mode().Perm()|fs.ModeSticky)
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// blobFile is a file found in blobs/.
type blobFile struct {
	digest digest.Digest
	path   string
	info   fs.FileInfo
}

func (b blobFile) durable() bool { return durable(b.info.Mode()) }

// eachBlob calls fn for every blob, in the order of their digests. Files
// whose names are no digests are passed over; blobs that vanish are too.
func (s *Store) eachBlob(fn func(blobFile) error) error {
	return s.eachBlobFile(func(b blobFile) error {
		if b.digest.Validate() != nil {
			return nil
		}
		return fn(b)
	})
}

func (s *Store) eachBlobFile(fn func(blobFile) error) error {
	algorithms, err := os.ReadDir(s.path("blobs"))
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, algorithm := range algorithms {
		dir := s.path("blobs", algorithm.Name())
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				continue
			}
			d := digest.Digest(algorithm.Name() + ":" + e.Name())
			if strings.Contains(algorithm.Name(), ":") || !info.Mode().IsRegular() {
				d = ""
			}
			if err := fn(blobFile{d, filepath.Join(dir, e.Name()), info}); err != nil {
				return err
			}
		}
	}
	return nil
}

// newHash is the hash of an algorithm; the usual one without the detour.
func newHash(a digest.Algorithm) hash.Hash {
	if a == digest.SHA256 {
		return sha256.New()
	}
	return a.Hash()
}
