package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// maxBringing bounds how many blobs are asked for at once; the Remote has its own
// limit for how many move.
const maxBringing = 32

// Remote brings blobs here from registries that have them.
type Remote interface {
	// Bring calls into.Fetch for the blob with what one of the places gives. The
	// places are those that Seen was told of, the last one first.
	Bring(ctx context.Context, desc ocispec.Descriptor, at []Place, into Fetcher) error
}

// Fetcher stores what a Remote brings; see Store.Fetch.
type Fetcher interface {
	Fetch(ctx context.Context, want ocispec.Descriptor, open func(ctx context.Context, offset int64) (io.ReadCloser, error)) error
}

// SetRemote lets the store bring layers here that it knows to be elsewhere,
// when something reads them. It is called before the store is used.
func (s *Store) SetRemote(r Remote) { s.remote = r }

// AwayError says that a blob is at a registry and could not be brought here.
type AwayError struct {
	Digest digest.Digest
	Places []Place
	Err    error // nil: nobody was there to fetch it
}

// Error names the place.
func (e *AwayError) Error() string {
	if e.Err != nil {
		return "a layer is not in the store: " + e.Err.Error() // which names it and the place
	}
	return fmt.Sprintf("layer %s is not in the store, only at %s", e.Digest, e.Places[0])
}

// Unwrap is the cause.
func (e *AwayError) Unwrap() error { return e.Err }

// bring makes a blob that is elsewhere be here.
func (s *Store) bring(ctx context.Context, desc ocispec.Descriptor, into Fetcher) error {
	p, ok := s.placed(desc.Digest)
	switch {
	case !ok:
		return missing(desc.Digest)
	case s.remote == nil:
		return &AwayError{Digest: desc.Digest, Places: p.at()}
	}
	if err := s.remote.Bring(ctx, desc, p.at(), into); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &AwayError{Digest: desc.Digest, Places: p.at(), Err: err}
	}
	return nil
}

// Need brings blobs here that are elsewhere, several at once. A blob that is
// nowhere is ErrNotFound.
func (s *Store) Need(ctx context.Context, list ...ocispec.Descriptor) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxBringing)
	seen := make(map[digest.Digest]bool)
	for _, desc := range list {
		if seen[desc.Digest] || s.Use(desc.Digest) {
			continue
		}
		seen[desc.Digest] = true
		g.Go(func() error { return s.bring(ctx, desc, s) })
	}
	return g.Wait()
}

// NeedLayers is Need for layers, foreign ones left out.
func (s *Store) NeedLayers(ctx context.Context, layers []Layer) error {
	var list []ocispec.Descriptor
	for _, l := range layers {
		if len(l.Descriptor.URLs) == 0 {
			list = append(list, l.Descriptor)
		}
	}
	return s.Need(ctx, list...)
}

// Away lists the layers of an image that are at registries alone: of an index,
// those of the images that are in the store.
func (s *Store) Away(ctx context.Context, desc ocispec.Descriptor, platforms ...ocispec.Platform) ([]ocispec.Descriptor, error) {
	without, err := leaveOut(ctx, s, desc, platforms)
	if err != nil {
		return nil, err
	}
	c := closure{from: s, present: func(d digest.Digest) bool { return !without[d] && s.there(d) }, away: s.away}
	if err := c.add(ctx, desc); err != nil {
		return nil, err
	}
	return c.absent, nil
}

// Complete brings everything here that an image needs, for some platforms of it
// or for all that are in the store.
func (s *Store) Complete(ctx context.Context, desc ocispec.Descriptor, platforms ...ocispec.Platform) error {
	away, err := s.Away(ctx, desc, platforms...)
	if err != nil || len(away) == 0 {
		return err
	}
	if err := s.Need(ctx, away...); err != nil {
		return err
	}
	return s.Offer(ctx)
}

// Offer gives the names as the layout's to images that are whole by now.
func (s *Store) Offer(ctx context.Context) error {
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	for _, m := range index.Manifests {
		ref, ok := entryRef(m)
		if !ok || ref.digest != "" || m.Annotations[ocispec.AnnotationRefName] != "" {
			continue
		}
		away, err := s.Away(ctx, m)
		if errors.Is(err, ErrNotFound) || len(away) > 0 {
			continue
		}
		if err != nil {
			return err
		}
		if err := s.Tag(ctx, ref, withoutName(m)); err != nil {
			return err
		}
	}
	return nil
}

// stream reads a blob that is elsewhere while it is stored.
func (s *Store) stream(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if s.remote == nil {
		return nil, s.bring(ctx, desc, nil)
	}
	inner, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	st := &streamed{store: s, desc: desc, ctx: ctx, cancel: cancel, pipe: r, done: make(chan struct{})}
	go func() {
		defer close(st.done)
		st.err = s.bring(inner, desc, &tapped{s, &tap{w: w}})
		w.CloseWithError(st.err)
	}()
	return st, nil
}

// tapped is a store that gives away what it stores.
type tapped struct {
	store *Store
	tap   *tap
}

// Fetch is Store.Fetch.
func (t *tapped) Fetch(ctx context.Context, want ocispec.Descriptor, open func(context.Context, int64) (io.ReadCloser, error)) error {
	return t.store.fetch(ctx, want, open, t.tap.once())
}

// tap is a pipe whose reader may go away before its end.
type tap struct {
	w    *io.PipeWriter
	used bool
}

// once is the tap for the first time that it is asked for: what a second attempt
// stores would follow on what the first has given.
func (t *tap) once() io.Writer {
	if t.used {
		return nil
	}
	t.used = true
	return t
}

// Write hands p on to who reads along, and succeeds whether or not they still do.
func (t *tap) Write(p []byte) (int, error) {
	_, _ = t.w.Write(p) // an error says that nobody reads any more
	return len(p), nil
}

// nearEnd is how much of a blob may be missing when its reader is closed for it
// to be fetched to its end all the same: decompressing leaves a little unread.
const nearEnd = 4 << 20

// streamed reads what a tap gives, and when that ends early, because another
// process has fetched the blob or a part of it was here, the stored blob.
type streamed struct {
	store  *Store
	desc   ocispec.Descriptor
	ctx    context.Context // of the call which opened it
	cancel context.CancelFunc
	pipe   *io.PipeReader
	done   chan struct{}
	err    error // of the bringing, after done

	offset int64
	file   *os.File // once the pipe is empty
	close  sync.Once
}

// Read gives the next bytes; io.EOF comes when the blob is whole and verified.
func (r *streamed) Read(p []byte) (int, error) {
	if r.file != nil {
		n, err := r.file.Read(p)
		r.offset += int64(n)
		return n, err
	}
	n, err := r.pipe.Read(p)
	r.offset += int64(n)
	if err != io.EOF || r.offset == r.desc.Size {
		return n, err
	}
	f, err := r.store.openBlob(r.desc.Digest)
	if err != nil {
		return n, err
	}
	r.file = f
	if _, err := f.Seek(r.offset, io.SeekStart); err != nil {
		return n, err
	}
	return n, nil
}

// Close ends the reading. A blob that is nearly here is fetched to its end;
// of another the part stays.
func (r *streamed) Close() error {
	r.close.Do(func() {
		if r.offset < r.desc.Size-nearEnd {
			r.cancel()
		}
		r.pipe.Close()
		<-r.done
		r.cancel()
		if r.file != nil {
			r.file.Close()
		}
	})
	return nil
}
