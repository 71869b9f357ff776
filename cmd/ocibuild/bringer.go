package main

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// bringer fetches layers that the store knows to be at registries when
// something reads them, and shows that.
type bringer struct {
	s *session

	mu     sync.Mutex
	client *registry.Client
	show   display
	own    bool // show was made here, and is closed when nothing is under way
	some   bool // something was brought
	never  bool // nothing may be
	rows   map[image.Place]*bringing
}

// bringing is the row for what comes from one repository.
type bringing struct {
	row   *row
	users int
}

func newBringer(s *session) *bringer {
	return &bringer{s: s, rows: map[image.Place]*bringing{}}
}

// use lets a verb's client fetch, and its display show, what is brought.
func (b *bringer) use(client *registry.Client, show display) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.client, b.show = client, show
}

// Bring fetches a layer from the first repository that gives it.
func (b *bringer) Bring(ctx context.Context, desc ocispec.Descriptor, at []image.Place, into image.Fetcher) error {
	if b.never {
		return &build.Hinted{
			Err:  fmt.Errorf("%s has it, and --pull=never forbids to fetch it: %w", at[0], image.ErrNotFound),
			Hint: "leave --pull out, or `ocibuild pull` the image first",
		}
	}
	if err := b.s.fetches(ctx); err != nil {
		return err
	}
	client, end := b.begin(at[0])
	err := client.FetchBlob(ctx, desc, repositories(at), into)
	end(err)
	return err
}

func repositories(at []image.Place) []registry.Repository {
	var out []registry.Repository
	for _, p := range at {
		out = append(out, registry.Repository{Host: p.Host, Name: p.Repository})
	}
	return out
}

// begin shows that something comes from a place.
func (b *bringer) begin(at image.Place) (client *registry.Client, end func(error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.show == nil {
		b.show, b.own = newDisplay("auto", b.s.stdio), true
		b.client = b.s.client(nil, b.show)
	}
	r := b.rows[at]
	if r == nil {
		r = &bringing{row: b.show.begin("fetch layers of "+at.String(), at.String())}
		b.rows[at] = r
	}
	r.users++
	return b.client, func(err error) { b.end(at, r, err) }
}

func (b *bringer) end(at image.Place, r *bringing, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.users--; r.users > 0 {
		return
	}
	b.show.end(r.row, err)
	b.some = true
	delete(b.rows, at)
	if b.own && len(b.rows) == 0 {
		b.show.close()
		b.client, b.show, b.own = nil, nil, false
	}
}

// close lets other programs see the images that have become whole.
func (b *bringer) close(st *image.Store) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.some {
		return nil
	}
	return st.Offer(context.Background())
}

// relay is a store from which images are pushed: layers that are at another
// registry go from there to where they are pushed, and are not kept here.
type relay struct {
	*image.Store
	client *registry.Client
}

// Blob opens a blob here or there.
func (r relay) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	var first error
	if !r.Use(desc.Digest) {
		for host, name := range r.Places(desc.Digest) {
			body, err := r.client.Blob(ctx, registry.Repository{Host: host, Name: name}, desc)
			if err == nil {
				return body, nil
			}
			if first == nil {
				first = err
			}
		}
	}
	if first != nil {
		return nil, first
	}
	return r.Store.Blob(ctx, desc)
}
