package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	_ "crypto/sha512" // sha512 digests
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeDockerConfig   = "application/vnd.docker.container.image.v1+json"

	// maxManifest is the size that the specification asks registries to accept.
	maxManifest = 4 << 20
	// maxConfig bounds an image's config.
	maxConfig = 8 << 20
	// maxDepth is how deep indexes may nest.
	maxDepth = 4
	// maxChildren is how much a manifest or an index may name.
	maxChildren = 8192
	// maxDownloads is how often content is fetched anew when it arrives damaged.
	maxDownloads = 3
)

// acceptManifest lists the manifests that we understand.
const acceptManifest = ocispec.MediaTypeImageIndex + ", " + ocispec.MediaTypeImageManifest + ", " +
	mediaTypeDockerList + ", " + mediaTypeDockerManifest + ", */*;q=0.1"

// document is a manifest or an index, as far as it matters here.
type document struct {
	MediaType string               `json:"mediaType"`
	Config    *ocispec.Descriptor  `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
}

// isIndex reports whether a media type is that of a list of manifests.
func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == mediaTypeDockerList
}

func isManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == mediaTypeDockerManifest
}

// parseManifest reads a manifest or an index and settles its media type: what it says itself wins over what the registry said. One
// that could be read as both is refused, for the next reader may see another image in it.
func parseManifest(mediaType string, body []byte) (*document, error) {
	if len(body) > maxManifest {
		return nil, fmt.Errorf("the manifest is larger than %d bytes", maxManifest)
	}
	var keys map[string]json.RawMessage
	var doc document
	if err := json.Unmarshal(body, &keys); err != nil {
		return nil, fmt.Errorf("the manifest is no JSON object: %w", err)
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("the manifest has a field of the wrong kind: %w", err)
	}
	_, list := keys["manifests"]
	_, layers := keys["layers"]
	_, config := keys["config"]
	_, old := keys["fsLayers"]
	switch {
	case old:
		return nil, errors.New("the image is in Docker's schema 1 format, which is no longer read")
	case list && (layers || config):
		return nil, errors.New("the manifest is an index and an image at once")
	case !list && !config:
		return nil, errors.New("the manifest is neither an index nor an image")
	}
	if doc.MediaType == "" {
		doc.MediaType = mediaType
	}
	if !isIndex(doc.MediaType) && !isManifest(doc.MediaType) {
		doc.MediaType = ocispec.MediaTypeImageManifest
		if list {
			doc.MediaType = ocispec.MediaTypeImageIndex
		}
	}
	if isIndex(doc.MediaType) != list {
		return nil, fmt.Errorf("the manifest is not of its media type %s", printable(doc.MediaType))
	}
	return &doc, doc.validate()
}

// validate checks the descriptors.
func (d *document) validate() error {
	if !isIndex(d.MediaType) && d.Config == nil {
		return errors.New("the manifest has no config")
	}
	if n := len(d.children()); n > maxChildren {
		return fmt.Errorf("the manifest names %d things, more than the %d allowed", n, maxChildren)
	}
	for _, child := range d.children() {
		if err := child.Digest.Validate(); err != nil {
			return fmt.Errorf("the manifest names %q: %w", printable(child.Digest.String()), err)
		}
		if child.Size < 0 {
			return fmt.Errorf("the manifest gives %s the size %d", child.Digest, child.Size)
		}
	}
	return nil
}

// children returns all that a manifest or an index names.
func (d *document) children() []ocispec.Descriptor {
	if isIndex(d.MediaType) {
		return d.Manifests
	}
	return append([]ocispec.Descriptor{*d.Config}, d.Layers...)
}

// Resolve returns the descriptor of the manifest or index that a tag or digest names.
func (c *Client) Resolve(ctx context.Context, repo Repository, reference string) (ocispec.Descriptor, error) {
	j, err := c.newJob("resolve", repo, reference)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return j.resolve(ctx, reference)
}

func (j job) resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	desc, found, err := j.headManifest(ctx, reference)
	if err != nil || found {
		return desc, err
	}
	desc, _, err = j.manifest(ctx, reference) // whose answer says more than a header can
	return desc, err
}

// Exists reports whether a repository has a tag or, by its digest, a manifest.
func (c *Client) Exists(ctx context.Context, repo Repository, reference string) (bool, error) {
	j, err := c.newJob("look up", repo, reference)
	if err != nil {
		return false, err
	}
	_, err = j.resolve(ctx, reference)
	var answer *Error
	if errors.As(err, &answer) && answer.Status == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

// headManifest asks for a manifest's descriptor alone. It is not found when the registry says anything but all of it.
func (j job) headManifest(ctx context.Context, reference string) (ocispec.Descriptor, bool, error) {
	resp, err := j.ask(ctx, call{
		method: http.MethodHead, path: j.name("manifests", reference), header: http.Header{"Accept": {acceptManifest}},
	})
	if err != nil {
		return ocispec.Descriptor{}, false, err
	}
	defer resp.Body.Close()
	desc := ocispec.Descriptor{
		MediaType: mediaTypeOf(resp),
		Digest:    digest.Digest(resp.Header.Get("Docker-Content-Digest")),
		Size:      resp.ContentLength,
	}
	known := isIndex(desc.MediaType) || isManifest(desc.MediaType)
	if resp.StatusCode != http.StatusOK || !known || desc.Size <= 0 || desc.Digest.Validate() != nil {
		return ocispec.Descriptor{}, false, nil
	}
	if strings.Contains(reference, ":") && desc.Digest.String() != reference {
		return ocispec.Descriptor{}, false, nil
	}
	return desc, true, nil
}

// Manifest returns a manifest or index and its descriptor.
func (c *Client) Manifest(ctx context.Context, repo Repository, reference string) (ocispec.Descriptor, []byte, error) {
	j, err := c.newJob("fetch manifest", repo, reference)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return j.manifest(ctx, reference)
}

// manifest fetches a manifest, anew if it arrives damaged.
func (j job) manifest(ctx context.Context, reference string) (desc ocispec.Descriptor, body []byte, err error) {
	err = j.untilWhole(ctx, func() (err error) {
		desc, body, err = j.manifestOnce(ctx, reference)
		return err
	})
	return desc, body, err
}

// untilWhole repeats a download while its content arrives damaged, a few times.
func (j job) untilWhole(ctx context.Context, download func() error) error {
	for n := 0; ; n++ {
		err := download()
		var e *Error
		if err == nil || !errors.As(err, &e) || !e.corrupt && !e.cut || n+1 == maxDownloads {
			return err
		}
		if err := j.c.retry.pause(ctx, j.repo.Host, n, verdict{}, e.Message); err != nil {
			return j.transportError(ctx, err)
		}
	}
}

func (j job) manifestOnce(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	none := ocispec.Descriptor{}
	resp, err := j.send(ctx, call{
		method: http.MethodGet, path: j.name("manifests", reference), header: http.Header{"Accept": {acceptManifest}},
	})
	if err != nil {
		return none, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		j.c.distrust(resp)
		return none, nil, j.cutError(ctx, "the manifest", err)
	}
	if len(body) > maxManifest {
		return none, nil, j.errorf("", "the manifest is larger than %d bytes", maxManifest)
	}
	if err := j.checkManifest(resp, reference, body); err != nil {
		return none, nil, err
	}
	doc, err := parseManifest(mediaTypeOf(resp), body)
	if err != nil {
		return none, nil, j.errorf("", "%s", err.Error())
	}
	desc := ocispec.Descriptor{MediaType: doc.MediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	if want := digest.Digest(reference); strings.Contains(reference, ":") {
		desc.Digest = want // which may be of another algorithm
	}
	return desc, body, nil
}

// checkManifest verifies a manifest against the digest that was asked for, and against the one that the registry names.
func (j job) checkManifest(resp *http.Response, reference string, body []byte) error {
	wants := []digest.Digest{digest.Digest(resp.Header.Get("Docker-Content-Digest"))}
	if strings.Contains(reference, ":") {
		wants = append(wants, digest.Digest(reference))
	}
	for _, want := range wants {
		if want == "" || want.Validate() != nil && want.String() != reference {
			continue
		}
		if got := want.Algorithm().FromBytes(body); got != want {
			j.c.distrust(resp)
			e := j.errorf("the registry, or a proxy before it, alters content", "the manifest has the digest %s instead of %s", got, want)
			e.corrupt = true
			return e
		}
	}
	return nil
}

// cutError is for content that broke off.
func (j job) cutError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return j.transportError(ctx, err)
	}
	e := j.errorf("try again; the connection to the registry is not reliable", "%s broke off", what)
	e.Err, e.cut = j.c.redacted(err), true
	return e
}

// mediaTypeOf returns an answer's media type without parameters.
func mediaTypeOf(resp *http.Response) string {
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return mediaType
}

// PushManifest stores a manifest or index under a tag or its digest. What it names must be there.
func (c *Client) PushManifest(ctx context.Context, repo Repository, reference string, desc ocispec.Descriptor, body []byte) error {
	j, err := c.newJob(opPush, repo, reference)
	if err != nil {
		return err
	}
	return j.pushManifest(ctx, reference, desc, body)
}

func (j job) pushManifest(ctx context.Context, reference string, desc ocispec.Descriptor, body []byte) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("push manifest %q: %w", desc.Digest, err)
	}
	if desc.Digest.Algorithm().FromBytes(body) != desc.Digest {
		return fmt.Errorf("push manifest %s: it has another digest", desc.Digest)
	}
	if reference == "" {
		reference = desc.Digest.String()
	}
	resp, err := j.send(ctx, call{
		method: http.MethodPut, path: j.name("manifests", reference), header: http.Header{"Content-Type": {desc.MediaType}},
		body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }, size: int64(len(body)),
		want: []int{http.StatusCreated, http.StatusOK, http.StatusAccepted, http.StatusNoContent},
	})
	if err != nil {
		return err
	}
	discard(resp)
	got := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if got.Validate() == nil && got.Algorithm() == desc.Digest.Algorithm() && got != desc.Digest {
		return j.errorf("the registry, or a proxy before it, alters content", "it stored the manifest %s as %s", desc.Digest, got)
	}
	if tellsSubject(resp) {
		return nil
	}
	return j.noteReferrer(ctx, desc, body)
}
