package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// PullRequest says what to pull.
type PullRequest struct {
	// Repo is where from.
	Repo Repository
	// Reference is a tag or a digest.
	Reference string
	// Platforms choose from an index; none means DefaultPlatform.
	Platforms []ocispec.Platform
	// All wants everything that an index names: the images for every platform, and what goes with them.
	All bool
	// Later leaves layers where they are. The store is told that they were seen there.
	Later bool
}

const (
	// maxDocuments bounds the manifests and indexes of one pull.
	maxDocuments = 1024
	// maxTogether bounds how many manifests of an index are pulled at once.
	maxTogether = 4
)

// puller is one pull.
type puller struct {
	job
	into      Store
	later     bool
	documents atomic.Int64
	whole     sync.Map // digests of what has been pulled with everything that it names
}

// wanted are the platforms that are wanted of a manifest or an index; none means everything.
type wanted []ocispec.Platform

func (w wanted) suit(found ocispec.Platform) bool {
	return len(w) == 0 || slices.ContainsFunc(w, func(want ocispec.Platform) bool { return suits(found, want) })
}

// Pull fetches an image into the store and returns the descriptor of what the reference names. Of an index, its own bytes and the images
// for the wanted platforms are fetched; what else it names may come with a later pull. What the store has is not fetched again, and
// nothing is stored before all that is wanted of it is.
func (c *Client) Pull(ctx context.Context, r PullRequest, into Store) (ocispec.Descriptor, error) {
	j, err := c.newJob("pull", r.Repo, r.Reference)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	p := &puller{job: j, into: into, later: r.Later}
	desc, body, err := p.manifest(ctx, r.Reference)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := p.tree(ctx, desc, body, r.wanted(), 0); err != nil {
		return ocispec.Descriptor{}, err
	}
	return desc, nil
}

func (r PullRequest) wanted() wanted {
	switch {
	case r.All:
		return nil
	case len(r.Platforms) == 0:
		return wanted{DefaultPlatform()}
	}
	var w wanted
	for _, p := range r.Platforms {
		w = append(w, normalized(p))
	}
	return w
}

// tree stores what is wanted of what a manifest or an index names, then itself.
func (p *puller) tree(ctx context.Context, desc ocispec.Descriptor, body []byte, want wanted, depth int) error {
	if p.documents.Add(1) > maxDocuments {
		return p.errorf("", "there are more than %d manifests in it", maxDocuments)
	}
	doc, err := parseManifest(desc.MediaType, body)
	if err != nil {
		return p.errorf("", "%s: %s", desc.Digest, err.Error())
	}
	if isIndex(doc.MediaType) {
		err = p.index(ctx, doc, want, depth)
	} else {
		err = p.image(ctx, doc, want)
	}
	if err != nil {
		return err
	}
	return p.put(ctx, desc, bytes.NewReader(body))
}

// put stores bytes that are at hand.
func (p *puller) put(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if _, err := p.into.Put(ctx, desc, r); err != nil {
		return fmt.Errorf("store %s: %w", desc.Digest, err)
	}
	p.report(desc, NotePulling, desc.Size, true)
	return nil
}

// index stores the images for the wanted platforms, or everything.
func (p *puller) index(ctx context.Context, doc *document, want wanted, depth int) error {
	children, err := p.choose(ctx, doc.Manifests, want, depth)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxTogether)
	for _, c := range children {
		group.Go(func() error { return p.branch(ctx, c, depth+1) })
	}
	return group.Wait()
}

// branch stores what is wanted of an entry of an index.
func (p *puller) branch(ctx context.Context, c choice, depth int) error {
	if _, done := p.whole.Load(c.desc.Digest); done {
		return nil
	}
	body, err := p.child(ctx, c.desc)
	if err != nil {
		return err
	}
	err = p.tree(ctx, c.desc, body, c.want, depth)
	if err == nil && len(c.want) == 0 {
		p.whole.Store(c.desc.Digest, true)
	}
	return err
}

// choice is an entry of an index and what is wanted of it.
type choice struct {
	desc ocispec.Descriptor
	want wanted
}

// choose gives the entries of an index that are wanted, each once. What is neither a manifest nor an index cannot be asked for.
func (p *puller) choose(ctx context.Context, entries []ocispec.Descriptor, want wanted, depth int) ([]choice, error) {
	if depth >= maxDepth {
		return nil, p.errorf("", "indexes are nested more than %d deep", maxDepth)
	}
	var chosen []choice
	add := func(e ocispec.Descriptor, want ...ocispec.Platform) {
		i := slices.IndexFunc(chosen, func(c choice) bool { return c.desc.Digest == e.Digest })
		if i < 0 {
			i, chosen = len(chosen), append(chosen, choice{desc: e})
		}
		chosen[i].want = append(chosen[i].want, want...)
	}
	for _, e := range entries {
		if len(want) == 0 && (isIndex(e.MediaType) || isManifest(e.MediaType)) {
			add(e)
		}
	}
	for _, w := range want {
		e, err := p.entry(ctx, p, entries, w, depth)
		if err != nil {
			return nil, err
		}
		add(e, w)
	}
	return chosen, nil
}

// child returns the bytes of a manifest that an index names.
func (p *puller) child(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > maxManifest {
		return nil, p.errorf("", "the manifest %s is larger than %d bytes", desc.Digest, maxManifest)
	}
	if p.into.Use(desc.Digest) {
		if body, err := readStored(ctx, p.into, desc); err == nil {
			p.report(desc, NoteExists, desc.Size, true)
			return body, nil
		}
	}
	got, body, err := p.manifest(ctx, desc.Digest.String())
	if err == nil && got.Size != desc.Size {
		return nil, p.errorf("", "the manifest %s has %d bytes instead of %d", desc.Digest, got.Size, desc.Size)
	}
	return body, err
}

// readStored reads a small blob from a store.
func readStored(ctx context.Context, from Source, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > maxConfig {
		return nil, fmt.Errorf("read %s: larger than %d bytes", desc.Digest, maxConfig)
	}
	rc, err := from.Blob(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	defer rc.Close()
	body, err := io.ReadAll(io.LimitReader(rc, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	return body, nil
}

// image stores an image's config and layers.
func (p *puller) image(ctx context.Context, doc *document, want wanted) error {
	found, err := p.config(ctx, *doc.Config)
	if err != nil {
		return err
	}
	if found != nil && !want.suit(*found) {
		p.report(*doc.Config, fmt.Sprintf("the image is for %s, not for %s", platformName(*found), platformName(want[0])), doc.Config.Size, true)
	}
	return p.layers(ctx, unique(doc.Layers))
}

// layers stores layers, or notes where they are.
func (p *puller) layers(ctx context.Context, layers []ocispec.Descriptor) error {
	if p.later {
		for _, layer := range layers {
			if err := p.seen(layer); err != nil {
				return err
			}
		}
		return nil
	}
	for _, layer := range layers {
		p.report(layer, NoteWaiting, 0, false) // so that it is known from the beginning how much there is
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxWaiting)
	for _, layer := range layers {
		group.Go(func() error { return p.blob(ctx, layer) })
	}
	return group.Wait()
}

// unique leaves out what is named again.
func unique(list []ocispec.Descriptor) []ocispec.Descriptor {
	seen := map[digest.Digest]bool{}
	return slices.DeleteFunc(slices.Clone(list), func(d ocispec.Descriptor) bool {
		again := seen[d.Digest]
		seen[d.Digest] = true
		return again
	})
}

// seen tells the store where a blob is.
func (p *puller) seen(desc ocispec.Descriptor) error {
	if err := p.into.Seen(desc, p.repo.Host, p.repo.Name); err != nil {
		return fmt.Errorf("store %s: %w", desc.Digest, err)
	}
	return nil
}

// config stores a config and returns the platform that it tells, nil if it is no image's.
func (p *puller) config(ctx context.Context, desc ocispec.Descriptor) (*ocispec.Platform, error) {
	if desc.Size > maxConfig {
		return nil, p.errorf("", "the config %s is larger than %d bytes", desc.Digest, maxConfig)
	}
	if err := p.blob(ctx, desc); err != nil || !isImageConfig(desc.MediaType) {
		return nil, err
	}
	body, err := readStored(ctx, p.into, desc)
	if err != nil {
		return nil, err
	}
	return p.platformIn(desc, body)
}

// blob stores a blob unless it is there. Two pulls that want the same one fetch it once.
func (p *puller) blob(ctx context.Context, desc ocispec.Descriptor) error {
	unlock, err := p.c.pulling.lock(ctx, desc.Digest.String())
	if err != nil {
		return p.transportError(ctx, err)
	}
	defer unlock()
	if p.into.Use(desc.Digest) {
		p.report(desc, NoteExists, desc.Size, true)
		return p.seen(desc)
	}
	if err := p.fetch(ctx, desc, p.into); err != nil {
		return err
	}
	return p.seen(desc)
}

// FetchBlob stores a blob that any of some repositories may have; they are asked in turn. The error is what the first of them says.
func (c *Client) FetchBlob(ctx context.Context, desc ocispec.Descriptor, from []Repository, into Fetcher) error {
	var first error
	for _, repo := range from {
		j, err := c.newJob("fetch blob", repo, desc.Digest.String())
		if err == nil {
			err = j.fetch(ctx, desc, into)
		}
		var fault *Error
		if err == nil || !errors.As(err, &fault) {
			return err
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		return fmt.Errorf("fetch blob %s: no repository is known to have it", desc.Digest)
	}
	return first
}

// fetch downloads a blob into a store. What is wrong with the download is told in its own words, what is wrong with the store in its.
func (j job) fetch(ctx context.Context, desc ocispec.Descriptor, into Fetcher) error {
	err := j.untilWhole(ctx, func() error { return j.fetchOnce(ctx, desc, into) })
	if err == nil {
		j.report(desc, NotePulling, desc.Size, true)
	}
	return err
}

func (j job) fetchOnce(ctx context.Context, desc ocispec.Descriptor, into Fetcher) error {
	var body *slotted
	err := into.Fetch(ctx, desc, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		var err error
		body, err = j.openSlotted(ctx, desc, offset)
		return body, err
	})
	var fault *Error
	var wrong interface{ Mismatch() bool }
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return j.transportError(ctx, err)
	case errors.As(err, &fault):
		return fault
	case errors.As(err, &wrong) && wrong.Mismatch() && body != nil:
		d := j.download(ctx, desc, 0, desc.Size)
		d.resp = body.answer
		return d.corrupt(otherDigest)
	}
	return fmt.Errorf("store %s: %w", desc.Digest, err)
}

// slotted is a download that holds one of the client's slots.
type slotted struct {
	io.Reader
	body    io.Closer
	answer  *http.Response // what the body is of
	release func()
}

// openSlotted opens a blob from an offset on when it is its turn to move.
func (j job) openSlotted(ctx context.Context, desc ocispec.Descriptor, offset int64) (*slotted, error) {
	if err := j.c.slots.Acquire(ctx, 1); err != nil {
		return nil, j.transportError(ctx, err)
	}
	release := sync.OnceFunc(func() { j.c.slots.Release(1) })
	body, err := j.openBlob(ctx, desc, offset)
	if err != nil {
		release()
		return nil, err
	}
	return &slotted{j.meterFrom(body, desc, NotePulling, offset), body, body.answer(), release}, nil
}

// Close ends the download and gives the slot back.
func (s *slotted) Close() error {
	defer s.release()
	return s.body.Close()
}
