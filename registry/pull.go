package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

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
	// Platform chooses from an index; nil means DefaultPlatform.
	Platform *ocispec.Platform
}

// puller is one pull.
type puller struct {
	job
	into Store
	want ocispec.Platform
}

// Pull fetches an image into the store and returns the descriptor of what the reference names. Of an index, its own bytes and the image
// for one platform are fetched. What the store has is not fetched again, and nothing is stored before all that it names is.
func (c *Client) Pull(ctx context.Context, r PullRequest, into Store) (ocispec.Descriptor, error) {
	j, err := c.newJob("pull", r.Repo, r.Reference)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	p := &puller{job: j, into: into, want: DefaultPlatform()}
	if r.Platform != nil {
		p.want = normalized(*r.Platform)
	}
	desc, body, err := p.manifest(ctx, r.Reference)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := p.tree(ctx, desc, body, 0); err != nil {
		return ocispec.Descriptor{}, err
	}
	return desc, nil
}

// tree stores what a manifest or an index names, then itself.
func (p *puller) tree(ctx context.Context, desc ocispec.Descriptor, body []byte, depth int) error {
	doc, err := parseManifest(desc.MediaType, body)
	if err != nil {
		return p.errorf("", "%s: %s", desc.Digest, err.Error())
	}
	if isIndex(doc.MediaType) {
		err = p.index(ctx, doc, depth)
	} else {
		err = p.image(ctx, doc)
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

// index stores the image for the wanted platform.
func (p *puller) index(ctx context.Context, doc *document, depth int) error {
	if depth >= maxDepth {
		return p.errorf("", "indexes are nested more than %d deep", maxDepth)
	}
	child, err := p.entry(ctx, doc.Manifests)
	if err != nil {
		return err
	}
	body, err := p.child(ctx, child)
	if err != nil {
		return err
	}
	return p.tree(ctx, child, body, depth+1)
}

// entry picks the entry of an index that suits. Entries that name no platform are looked into when no other suits.
func (p *puller) entry(ctx context.Context, entries []ocispec.Descriptor) (ocispec.Descriptor, error) {
	if child, ok := choose(entries, p.want); ok {
		return child, nil
	}
	var silent []ocispec.Descriptor
	for _, e := range entries {
		if e.Platform == nil && isImage(e) && (isIndex(e.MediaType) || isManifest(e.MediaType)) {
			silent = append(silent, e)
		}
	}
	if len(silent) == 1 {
		return silent[0], nil
	}
	seen := append([]ocispec.Descriptor{}, entries...)
	for _, e := range silent[:min(len(silent), 16)] {
		found, err := p.platformOf(ctx, e)
		if err != nil {
			return e, err
		}
		e.Platform = found
		seen = append(seen, e)
	}
	if child, ok := choose(seen, p.want); ok {
		return child, nil
	}
	hint := "it has no image at all"
	if names := available(seen); len(names) > 0 {
		hint = "available: " + strings.Join(names, ", ")
	}
	return ocispec.Descriptor{}, p.errorf(hint, "there is no image for %s", platformName(p.want))
}

// platformOf reads a manifest's platform from its config. It is nil for what has none, such as a nested index.
func (p *puller) platformOf(ctx context.Context, desc ocispec.Descriptor) (*ocispec.Platform, error) {
	body, err := p.child(ctx, desc)
	if err != nil {
		return nil, err
	}
	doc, err := parseManifest(desc.MediaType, body)
	if err != nil || isIndex(doc.MediaType) {
		return nil, nil
	}
	return p.config(ctx, *doc.Config)
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
func readStored(ctx context.Context, from Store, desc ocispec.Descriptor) ([]byte, error) {
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
func (p *puller) image(ctx context.Context, doc *document) error {
	found, err := p.config(ctx, *doc.Config)
	if err != nil {
		return err
	}
	if found != nil && !suits(*found, p.want) {
		p.report(*doc.Config, fmt.Sprintf("the image is for %s, not for %s", platformName(*found), platformName(p.want)), doc.Config.Size, true)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxWaiting)
	seen := map[digest.Digest]bool{}
	for _, layer := range doc.Layers {
		if !seen[layer.Digest] {
			seen[layer.Digest] = true
			group.Go(func() error { return p.blob(ctx, layer) })
		}
	}
	return group.Wait()
}

// config stores a config and returns the platform that it tells, nil if it is no image's.
func (p *puller) config(ctx context.Context, desc ocispec.Descriptor) (*ocispec.Platform, error) {
	if desc.Size > maxConfig {
		return nil, p.errorf("", "the config %s is larger than %d bytes", desc.Digest, maxConfig)
	}
	if err := p.blob(ctx, desc); err != nil {
		return nil, err
	}
	if desc.MediaType != ocispec.MediaTypeImageConfig && desc.MediaType != mediaTypeDockerConfig {
		return nil, nil
	}
	body, err := readStored(ctx, p.into, desc)
	if err != nil {
		return nil, err
	}
	var platform ocispec.Platform
	if err := json.Unmarshal(body, &platform); err != nil {
		return nil, p.errorf("", "the config %s is malformed: %s", desc.Digest, err.Error())
	}
	if platform.OS == "" && platform.Architecture == "" {
		return nil, nil
	}
	return &platform, nil
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
		return nil
	}
	err = p.untilWhole(ctx, func() error { return p.fetch(ctx, desc) })
	if err == nil {
		p.report(desc, NotePulling, desc.Size, true)
	}
	return err
}

// fetch downloads a blob into the store. What is wrong with the download is told in its own words, what is wrong with the store in its.
func (p *puller) fetch(ctx context.Context, desc ocispec.Descriptor) error {
	if err := p.c.slots.Acquire(ctx, 1); err != nil {
		return p.transportError(ctx, err)
	}
	defer p.c.slots.Release(1)
	d, err := p.download(ctx, desc)
	if err != nil {
		return err
	}
	defer d.Close()
	_, err = p.into.Put(ctx, desc, p.meter(d, desc, NotePulling))
	switch {
	case err == nil:
		return nil
	case d.err != nil && !errors.Is(d.err, io.EOF):
		return d.err
	case ctx.Err() != nil:
		return p.transportError(ctx, err)
	}
	return fmt.Errorf("store %s: %w", desc.Digest, err)
}
