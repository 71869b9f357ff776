package registry

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxAbout is how far artifacts about artifacts are followed.
const maxAbout = 4

// CopyRequest says what to copy, and where to.
type CopyRequest struct {
	// From is the repository that has it, under the tag or digest Reference.
	From      Repository
	Reference string
	// To is the repository that gets it, under the tag Tag; without one, under its digest alone.
	To  Repository
	Tag string
	// Platforms choose from an index: one gives that image alone, several an index of those. None means everything.
	Platforms []ocispec.Platform
	// Referrers copies what is about it and about the images in it too: signatures and the like.
	Referrers bool
}

// Copied says what a copy left at its destination.
type Copied struct {
	ocispec.Descriptor
	// Referrers counts the artifacts that were copied along.
	Referrers int
}

// Copy copies an image, an index with all that it names, or an artifact from one repository to another, without storing it here. What the
// destination has is not sent; what another repository of the same host has is mounted there; all else goes through, verified on its way.
// Nothing is tagged before all that it names is there.
func (c *Client) Copy(ctx context.Context, r CopyRequest) (Copied, error) {
	j, err := c.newJob("copy", r.From, r.Reference)
	if err != nil {
		return Copied{}, err
	}
	k := &copier{job: j, r: r, known: map[digest.Digest][]byte{}}
	desc, body, err := k.manifest(ctx, r.Reference)
	if err != nil {
		return Copied{}, err
	}
	if desc, err = k.chosen(ctx, desc, body); err != nil {
		return Copied{}, err
	}
	if err := k.send(ctx, desc, r.Tag); err != nil || !r.Referrers {
		return Copied{Descriptor: desc}, err
	}
	n, err := k.referrers(ctx, desc, 0)
	return Copied{desc, n}, err
}

// PlatformManifest returns the manifest of the image for a platform: that of an index, or what the reference names if it is such an image.
func (c *Client) PlatformManifest(ctx context.Context, repo Repository, reference string, want ocispec.Platform) (ocispec.Descriptor, []byte, error) {
	j, err := c.newJob("fetch manifest", repo, reference)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	k := &copier{job: j, r: CopyRequest{From: repo, Platforms: []ocispec.Platform{want}}, known: map[digest.Digest][]byte{}}
	desc, body, err := k.manifest(ctx, reference)
	if err != nil {
		return desc, nil, err
	}
	if desc, err = k.chosen(ctx, desc, body); err != nil {
		return desc, nil, err
	}
	body, err = k.child(ctx, desc)
	return desc, body, err
}

// copier is one copy. It is what a push reads from: all that it has is at a registry.
type copier struct {
	job
	r CopyRequest

	mu    sync.Mutex
	known map[digest.Digest][]byte // manifests that are at hand
}

// send pushes what a descriptor names.
func (k *copier) send(ctx context.Context, desc ocispec.Descriptor, tag string) error {
	_, err := k.c.Push(ctx, PushRequest{Repo: k.r.To, Reference: tag, Descriptor: desc, MountFrom: []Repository{k.r.From}, Whole: true}, k)
	return err
}

// Use says that the source has whatever its manifests name. What it has not is an error once it is read.
func (k *copier) Use(digest.Digest) bool { return true }

// Blob opens a blob or manifest of the source.
func (k *copier) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if body, ok := k.atHand(desc.Digest); ok {
		return io.NopCloser(bytes.NewReader(body)), nil
	}
	if !isIndex(desc.MediaType) && !isManifest(desc.MediaType) {
		return k.c.Blob(ctx, k.repo, desc)
	}
	body, err := k.child(ctx, desc)
	return io.NopCloser(bytes.NewReader(body)), err
}

func (k *copier) atHand(d digest.Digest) ([]byte, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	body, ok := k.known[d]
	return body, ok
}

func (k *copier) keep(d digest.Digest, body []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known[d] = body
}

// child fetches a manifest that another one names.
func (k *copier) child(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if body, ok := k.atHand(desc.Digest); ok {
		return body, nil
	}
	if desc.Size > maxManifest {
		return nil, k.errorf("", "the manifest %s is larger than %d bytes", desc.Digest, maxManifest)
	}
	got, body, err := k.manifest(ctx, desc.Digest.String())
	switch {
	case err != nil:
		return nil, err
	case got.Size != desc.Size:
		return nil, k.errorf("", "the manifest %s has %d bytes instead of %d", desc.Digest, got.Size, desc.Size)
	}
	k.keep(desc.Digest, body)
	return body, nil
}

// chosen gives what is to be copied of a manifest or an index.
func (k *copier) chosen(ctx context.Context, desc ocispec.Descriptor, body []byte) (ocispec.Descriptor, error) {
	k.keep(desc.Digest, body)
	doc, err := parseManifest(desc.MediaType, body)
	if err != nil {
		return desc, k.errorf("", "%s", err.Error())
	}
	switch {
	case len(k.r.Platforms) == 0:
		return desc, nil
	case !isIndex(doc.MediaType):
		return desc, k.suits(ctx, doc, k.r.Platforms)
	case len(k.r.Platforms) == 1:
		return k.image(ctx, doc, k.r.Platforms[0])
	}
	return k.part(ctx, desc, body, k.r.Platforms, 0)
}

// image finds the image for a platform in an index, and in those that it names.
func (k *copier) image(ctx context.Context, doc *document, want ocispec.Platform) (ocispec.Descriptor, error) {
	for depth := 0; ; depth++ {
		if depth == maxDepth {
			return ocispec.Descriptor{}, k.tooDeep()
		}
		e, err := k.pick(ctx, doc.Manifests, want, depth)
		if err != nil || !isIndex(e.MediaType) {
			return ocispec.Descriptor{MediaType: e.MediaType, Digest: e.Digest, Size: e.Size}, err
		}
		if doc, err = k.parsed(ctx, e); err != nil {
			return e, err
		}
	}
}

// part makes an index of those entries of another that are for some platforms, and of what goes with them; of indexes in it too.
func (k *copier) part(ctx context.Context, desc ocispec.Descriptor, body []byte, want wanted, depth int) (ocispec.Descriptor, error) {
	if depth == maxDepth {
		return desc, k.tooDeep()
	}
	doc, err := parseManifest(desc.MediaType, body)
	if err != nil {
		return desc, k.errorf("", "%s: %s", desc.Digest, err.Error())
	}
	chosen, err := k.entries(ctx, doc.Manifests, want, depth)
	if err != nil {
		return desc, err
	}
	changed := len(chosen) < len(doc.Manifests)
	for i, c := range chosen {
		if !isIndex(c.desc.MediaType) {
			continue
		}
		if chosen[i].desc, err = k.nested(ctx, c.choice, depth+1); err != nil {
			return desc, err
		}
		changed = changed || chosen[i].desc.Digest != c.desc.Digest
	}
	if !changed {
		return desc, nil
	}
	if desc, body, err = subIndex(desc, body, chosen); err == nil {
		k.keep(desc.Digest, body)
	}
	return desc, err
}

// nested is part for an index that another one names, which keeps all else that the entry says.
func (k *copier) nested(ctx context.Context, c choice, depth int) (ocispec.Descriptor, error) {
	body, err := k.child(ctx, c.desc)
	if err != nil {
		return c.desc, err
	}
	part, err := k.part(ctx, c.desc, body, c.want, depth)
	c.desc.Digest, c.desc.Size = part.Digest, part.Size
	return c.desc, err
}

// entries finds those of an index that are for the wanted platforms, and those that go with them.
func (k *copier) entries(ctx context.Context, list []ocispec.Descriptor, want wanted, depth int) ([]entryChoice, error) {
	suit := map[digest.Digest]wanted{}
	for _, w := range want {
		e, err := k.pick(ctx, list, w, depth)
		if err != nil {
			return nil, err
		}
		suit[e.Digest] = append(suit[e.Digest], w)
	}
	var chosen []entryChoice
	for i, e := range list {
		if suit[e.Digest] != nil || suit[digest.Digest(e.Annotations["vnd.docker.reference.digest"])] != nil {
			chosen = append(chosen, entryChoice{i, choice{e, suit[e.Digest]}})
		}
	}
	return chosen, nil
}

// pick picks the entry of an index that suits. One that names no platform has to tell it.
func (k *copier) pick(ctx context.Context, list []ocispec.Descriptor, want ocispec.Platform, depth int) (ocispec.Descriptor, error) {
	e, err := k.entry(ctx, k, list, want, depth)
	if err != nil || e.Platform != nil || isIndex(e.MediaType) {
		return e, err
	}
	doc, err := k.parsed(ctx, e)
	if err != nil {
		return e, err
	}
	return e, k.suits(ctx, doc, wanted{want})
}

func (k *copier) tooDeep() error {
	return k.errorf("", "indexes are nested more than %d deep", maxDepth)
}

// parsed fetches and parses a manifest that another one names.
func (k *copier) parsed(ctx context.Context, desc ocispec.Descriptor) (*document, error) {
	body, err := k.child(ctx, desc)
	if err != nil {
		return nil, err
	}
	doc, err := parseManifest(desc.MediaType, body)
	if err != nil {
		return nil, k.errorf("", "%s: %s", desc.Digest, err.Error())
	}
	return doc, nil
}

// suits checks the platform of an image that is for one alone.
func (k *copier) suits(ctx context.Context, doc *document, all wanted) error {
	found, err := k.config(ctx, *doc.Config)
	if err != nil || found == nil {
		return err
	}
	for _, want := range all {
		if !suits(*found, want) {
			return k.errorf("leave --platform out to copy it as it is", "the image is for %s, not for %s", platformName(*found), platformName(want))
		}
	}
	return nil
}

// config fetches a config and gives the platform that it tells, nil if it is no image's.
func (k *copier) config(ctx context.Context, desc ocispec.Descriptor) (*ocispec.Platform, error) {
	if !isImageConfig(desc.MediaType) {
		return nil, nil
	}
	body, err := readStored(ctx, k, desc)
	if err != nil {
		return nil, err
	}
	return k.platformIn(desc, body)
}

// referrers copies what is about a manifest, about the images of an index, and about that again.
func (k *copier) referrers(ctx context.Context, desc ocispec.Descriptor, depth int) (n int, err error) {
	if depth >= maxAbout {
		return 0, nil
	}
	subjects := []ocispec.Descriptor{desc}
	body, err := k.child(ctx, desc)
	if err != nil {
		return 0, err
	}
	doc, err := parseManifest(desc.MediaType, body)
	if err != nil {
		return 0, k.errorf("", "%s", err.Error())
	}
	if isIndex(doc.MediaType) {
		subjects = append(subjects, doc.Manifests...)
	}
	for _, subject := range subjects {
		list, err := k.c.Referrers(ctx, k.repo, subject.Digest)
		if err != nil {
			return n, err
		}
		for _, d := range list {
			if err := k.send(ctx, d, ""); err != nil {
				return n, err
			}
			more, err := k.referrers(ctx, d, depth+1)
			if n += 1 + more; err != nil {
				return n, err
			}
		}
	}
	return n, nil
}
