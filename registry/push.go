package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// PushRequest says what to push and where.
type PushRequest struct {
	// Repo is where to.
	Repo Repository
	// Reference is the tag to set. Empty, or the descriptor's digest, pushes without a tag.
	Reference string
	// Descriptor is the manifest or index in the store.
	Descriptor ocispec.Descriptor
	// Whole refuses an index of which some images are nowhere.
	Whole bool
	// MountFrom lists repositories that may hold some of the blobs. Those of the same host are asked before bytes are sent.
	MountFrom []Repository
}

// Pushed says what a push left at the registry.
type Pushed struct {
	ocispec.Descriptor
	// Without are the platforms of an index that are nowhere, so that a part of it was pushed in its place.
	Without []string
}

// pusher is one push.
type pusher struct {
	job
	from      Source
	complete  bool // nothing may be left out
	mountFrom []Repository
}

// Push sends an image or an index from the store: blobs first, then manifests, the tag last. What the registry has is not sent.
//
// Of an index, the images that the store or the registry has are sent. If some are nowhere, as after the pull of one platform, and a tag
// is pushed, then the tag gets the one image that is there, or an index of those that are, and a note says so; a push by digest, or one
// that wants the whole, is refused.
func (c *Client) Push(ctx context.Context, r PushRequest, from Source) (Pushed, error) {
	j, err := c.newJob(opPush, r.Repo, r.Reference)
	if err != nil {
		return Pushed{}, err
	}
	p := &pusher{job: j, from: from, complete: r.Whole}
	for _, repo := range r.MountFrom {
		if dialHost(repo.Host) == dialHost(r.Repo.Host) && repo.Name != r.Repo.Name && repositoryPattern().MatchString(repo.Name) {
			p.mountFrom = append(p.mountFrom, repo)
		}
	}
	desc, body, err := p.read(ctx, r.Descriptor)
	if err != nil {
		return Pushed{}, err
	}
	reference := r.Reference
	if reference == "" {
		reference = desc.Digest.String()
	}
	var there ocispec.Descriptor
	if !p.fresh(ctx, desc, body, 0) {
		if there, _, err = p.headManifest(ctx, reference); err != nil {
			return Pushed{}, err
		}
	}
	var without []string
	if there.Digest != desc.Digest {
		if desc, body, without, err = p.whatIsThere(ctx, desc, body); err != nil {
			return Pushed{}, err
		}
	}
	if there.Digest == desc.Digest {
		p.report(desc, NoteExists, desc.Size, true)
		return Pushed{desc, without}, nil
	}
	return Pushed{desc, without}, p.tree(ctx, node{desc: desc, body: body, reference: reference})
}

// node is a manifest or an index on its way.
type node struct {
	desc      ocispec.Descriptor
	body      []byte
	reference string
	depth     int
}

// read reads a manifest from the store.
func (p *pusher) read(ctx context.Context, desc ocispec.Descriptor) (ocispec.Descriptor, []byte, error) {
	body, err := readStored(ctx, p.from, desc)
	if err != nil {
		return desc, nil, err
	}
	doc, err := parseManifest(desc.MediaType, body)
	if err != nil {
		return desc, nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	return ocispec.Descriptor{MediaType: doc.MediaType, Digest: desc.Digest, Size: int64(len(body))}, body, nil
}

// fresh reports whether a manifest, or one of an index, names a blob that this client has brought to the repository: then the
// repository cannot have the manifest.
func (p *pusher) fresh(ctx context.Context, desc ocispec.Descriptor, body []byte, depth int) bool {
	doc, err := parseManifest(desc.MediaType, body)
	if err != nil || depth > maxDepth {
		return false
	}
	return slices.ContainsFunc(doc.children(), func(child ocispec.Descriptor) bool {
		if isIndex(doc.MediaType) {
			if !p.from.Use(child.Digest) {
				return false
			}
			child, body, err := p.read(ctx, child)
			return err == nil && p.fresh(ctx, child, body, depth+1)
		}
		u := &upload{j: p.job, desc: child}
		brought, ok := p.c.sent.Load(u.name())
		return ok && brought.(bool)
	})
}

// tree pushes what a manifest or an index names, then itself. Where the registry finds that it lacks a blob which it was remembered to
// have, that is forgotten and looked into once.
func (p *pusher) tree(ctx context.Context, n node) error {
	doc, err := parseManifest(n.desc.MediaType, n.body)
	if err != nil {
		return fmt.Errorf("read %s: %w", n.desc.Digest, err)
	}
	if n.depth > maxDepth {
		return p.errorf("", "indexes are nested more than %d deep", maxDepth)
	}
	fresh := p.fresh(ctx, n.desc, n.body, n.depth)
	remembered, err := p.named(ctx, doc, n.depth, func(u *upload) { u.absent = fresh && u.desc.Size < smallBlob })
	if err != nil {
		return err
	}
	err = p.pushManifest(ctx, n.reference, n.desc, n.body)
	if remembered && lacksBlob(err) {
		p.report(n.desc, "the registry has lost blobs: looking for those that it lacks", 0, false)
		var forgotten error
		if _, forgotten = p.named(ctx, doc, n.depth, func(u *upload) { u.doubt = true }); forgotten != nil {
			return forgotten
		}
		err = p.pushManifest(ctx, n.reference, n.desc, n.body)
	}
	if err != nil {
		return err
	}
	p.report(n.desc, NotePushing, n.desc.Size, true)
	return nil
}

// smallBlob is the size below which it costs less to send a blob than to ask for it.
const smallBlob = 64 << 10

// lacksBlob reports whether a registry refuses a manifest for want of a blob.
func lacksBlob(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_INVALID":
		return true
	case "":
		return e.Status == http.StatusBadRequest || e.Status == http.StatusNotFound || e.Status == http.StatusUnprocessableEntity
	}
	return false
}

// named pushes all that a manifest or an index names, and tells whether some of it was left out because it is remembered to be there.
func (p *pusher) named(ctx context.Context, doc *document, depth int, how func(*upload)) (remembered bool, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxWaiting)
	var some atomic.Bool
	for _, child := range unique(doc.children()) {
		group.Go(func() error {
			if isIndex(doc.MediaType) {
				return p.child(ctx, child, depth+1)
			}
			left, err := p.blob(ctx, child, how)
			if left {
				some.Store(true)
			}
			return err
		})
	}
	err = group.Wait()
	return some.Load(), err
}

// child pushes a manifest of an index. One that the registry has, with all that it names, is left alone.
func (p *pusher) child(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	there, err := p.exists(ctx, "manifests", desc.Digest)
	if err != nil {
		return err
	}
	if there {
		p.report(desc, NoteExists, desc.Size, true)
		return nil
	}
	desc, body, err := p.read(ctx, desc)
	if err != nil {
		return err
	}
	return p.tree(ctx, node{desc: desc, body: body, reference: desc.Digest.String(), depth: depth})
}

// PushStored makes a repository have a blob of a store, by an upload or otherwise. It becomes part of an image by a later Push.
func (c *Client) PushStored(ctx context.Context, repo Repository, desc ocispec.Descriptor, from Source) error {
	j, err := c.newJob(opPush, repo, "")
	if err != nil {
		return err
	}
	p := &pusher{job: j, from: from}
	_, err = p.blob(ctx, desc, func(*upload) {})
	return err
}

// blob pushes a config or a layer, and tells whether that was left out because it is remembered to be there.
func (p *pusher) blob(ctx context.Context, desc ocispec.Descriptor, how func(*upload)) (remembered bool, err error) {
	if strings.Contains(desc.MediaType, "nondistributable") || strings.Contains(desc.MediaType, ".foreign.") {
		p.report(desc, "the layer may not be distributed and is left out", desc.Size, true)
		return false, nil
	}
	src := storedIn(p.from, desc)
	defer src.close()
	memory, _ := p.from.(Memory)
	u := &upload{j: p.job, desc: desc, src: src, memory: memory, mountFrom: p.mountFrom}
	if how(u); u.doubt {
		if err := u.forget(); err != nil {
			return false, fmt.Errorf("forget where %s is: %w", desc.Digest, err)
		}
	}
	done, err := u.run(ctx)
	return done.remembered, err
}

// whatIsThere returns what can be pushed in place of an index of which some images are nowhere.
func (p *pusher) whatIsThere(ctx context.Context, desc ocispec.Descriptor, body []byte) (ocispec.Descriptor, []byte, []string, error) {
	doc, err := parseManifest(desc.MediaType, body)
	if err != nil || !isIndex(doc.MediaType) {
		return desc, body, nil, err
	}
	there, err := p.children(ctx, doc.Manifests, 0)
	if err != nil {
		return desc, nil, nil, err
	}
	var have []entryChoice
	images := 0
	var missing []ocispec.Descriptor
	for i, child := range doc.Manifests {
		switch {
		case !there[i]:
			missing = append(missing, child)
			continue
		case isImage(child):
			images++
		}
		have = append(have, entryChoice{i, choice{desc: child}})
	}
	if len(missing) == 0 {
		return desc, body, nil, nil
	}
	without := available(missing)
	if len(without) == 0 {
		without = []string{"what goes with its images"}
	}
	lacks := strings.Join(without, ", ")
	if p.complete || images == 0 || p.reference == "" || strings.Contains(p.reference, ":") {
		return desc, nil, nil, p.errorf("pull what is missing, or push what is there by a tag",
			"the index %s is not complete, neither here nor at the registry: it lacks %s", desc.Digest, lacks)
	}
	if len(have) == 1 {
		desc, body, err = p.either(ctx, have[0].desc)
	} else {
		desc, body, err = subIndex(desc, body, have)
	}
	if err == nil {
		p.report(desc, fmt.Sprintf("the index is not complete here: %s is pushed, without %s", desc.Digest, lacks), desc.Size, false)
	}
	return desc, body, without, err
}

// children says of each manifest whether the store or the registry has it, and of an index that only the store has, all of it.
func (p *pusher) children(ctx context.Context, list []ocispec.Descriptor, depth int) ([]bool, error) {
	there := make([]bool, len(list))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxWaiting)
	for i, child := range list {
		stored := p.from.Use(child.Digest)
		if there[i] = stored && !isIndex(child.MediaType); there[i] {
			continue
		}
		group.Go(func() (err error) {
			there[i], err = p.exists(ctx, "manifests", child.Digest)
			if err == nil && !there[i] && stored {
				there[i], err = p.whole(ctx, child, depth+1)
			}
			return err
		})
	}
	return there, group.Wait()
}

// whole reports whether all that an index of the store names is in the store or at the registry.
func (p *pusher) whole(ctx context.Context, desc ocispec.Descriptor, depth int) (bool, error) {
	if depth > maxDepth {
		return false, p.errorf("", "indexes are nested more than %d deep", maxDepth)
	}
	desc, body, err := p.read(ctx, desc)
	if err != nil {
		return false, err
	}
	doc, err := parseManifest(desc.MediaType, body)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	there, err := p.children(ctx, doc.Manifests, depth)
	return !slices.Contains(there, false), err
}

// either reads a manifest from the store or the registry.
func (p *pusher) either(ctx context.Context, desc ocispec.Descriptor) (ocispec.Descriptor, []byte, error) {
	if p.from.Use(desc.Digest) {
		return p.read(ctx, desc)
	}
	return p.manifest(ctx, desc.Digest.String())
}
