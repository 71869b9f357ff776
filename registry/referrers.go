package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Referrers returns the manifests of a repository that are about another: whose subject it is. It asks the registry for them, and
// where that knows no such question, reads the tag in which clients keep the list.
func (c *Client) Referrers(ctx context.Context, repo Repository, subject digest.Digest) ([]ocispec.Descriptor, error) {
	j, err := c.newJob("list referrers", repo, subject.String())
	if err != nil {
		return nil, err
	}
	r := call{method: http.MethodGet, path: j.name("referrers", subject.String()), want: []int{
		http.StatusOK, http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented,
	}}
	var list []ocispec.Descriptor
	seen := map[string]bool{}
	resp, failure := j.send(ctx, r)
	for {
		if failure != nil {
			return nil, failure
		}
		if resp.StatusCode != http.StatusOK || mediaTypeOf(resp) != ocispec.MediaTypeImageIndex {
			discard(resp)
			index, err := j.taggedReferrers(ctx, subject)
			return index.Manifests, err
		}
		index, err := j.readReferrers(ctx, resp)
		if err != nil {
			return nil, err
		}
		list = append(list, index.Manifests...)
		next, err := nextPage(resp)
		switch {
		case err != nil:
			return nil, j.errorf("", "%s", err.Error())
		case next == nil:
			return list, nil
		case seen[next.String()]:
			return nil, j.errorf("", "the pages of the list go in a circle")
		}
		seen[next.String()], r.url = true, next
		resp, failure = j.sendTo(ctx, answeredBy(resp), r)
	}
}

func (j job) readReferrers(ctx context.Context, resp *http.Response) (ocispec.Index, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	switch {
	case err != nil:
		return ocispec.Index{}, j.cutError(ctx, "the list", err)
	case len(body) > maxManifest:
		return ocispec.Index{}, j.errorf("", "the list is larger than %d bytes", maxManifest)
	}
	return j.decodeReferrers(body)
}

func (j job) decodeReferrers(body []byte) (ocispec.Index, error) {
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return index, j.errorf("", "the list of referrers is malformed: %s", err.Error())
	}
	for _, d := range index.Manifests {
		if err := d.Digest.Validate(); err != nil || d.Size < 0 {
			return index, j.errorf("", "the list of referrers names %q", printable(d.Digest.String()))
		}
	}
	return index, nil
}

// referrersTag is where clients keep the referrers of a manifest at registries that do not.
func referrersTag(subject digest.Digest) string {
	tag := subject.Algorithm().String() + "-" + subject.Encoded()
	return tag[:min(len(tag), 128)]
}

// taggedReferrers reads that tag. Without it there are none.
func (j job) taggedReferrers(ctx context.Context, subject digest.Digest) (ocispec.Index, error) {
	empty := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	desc, body, err := j.manifest(ctx, referrersTag(subject))
	var answer *Error
	switch {
	case errors.As(err, &answer) && answer.Status == http.StatusNotFound:
		return empty, nil
	case err != nil:
		return empty, err
	case !isIndex(desc.MediaType):
		return empty, j.errorf("", "the tag %s is no list of referrers", referrersTag(subject))
	}
	return j.decodeReferrers(body)
}

// aboutSubject tells of what a manifest is; nil for one that has no subject.
func aboutSubject(desc ocispec.Descriptor, body []byte) (subject *ocispec.Descriptor, entry ocispec.Descriptor) {
	var doc struct {
		ArtifactType string              `json:"artifactType"`
		Config       *ocispec.Descriptor `json:"config"`
		Subject      *ocispec.Descriptor `json:"subject"`
		Annotations  map[string]string   `json:"annotations"`
	}
	if json.Unmarshal(body, &doc) != nil || doc.Subject == nil || doc.Subject.Digest.Validate() != nil {
		return nil, entry
	}
	entry = ocispec.Descriptor{
		MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, ArtifactType: doc.ArtifactType, Annotations: doc.Annotations,
	}
	if entry.ArtifactType == "" && doc.Config != nil {
		entry.ArtifactType = doc.Config.MediaType
	}
	return doc.Subject, entry
}

// noteReferrer adds a manifest that was pushed to the list of its subject, at a registry that has not done so itself.
func (j job) noteReferrer(ctx context.Context, desc ocispec.Descriptor, body []byte) error {
	subject, entry := aboutSubject(desc, body)
	if subject == nil {
		return nil
	}
	unlock, err := j.c.noting.lock(ctx, j.repo.Host+"/"+j.repo.Name+"@"+subject.Digest.String())
	if err != nil {
		return j.transportError(ctx, err)
	}
	defer unlock()
	index, err := j.taggedReferrers(ctx, subject.Digest)
	if err != nil {
		return fmt.Errorf("note what %s is about: %w", desc.Digest, err)
	}
	if slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == entry.Digest }) {
		return nil
	}
	index.Manifests = append(index.Manifests, entry)
	text, err := json.Marshal(index)
	if err != nil {
		return err
	}
	list := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(text), Size: int64(len(text))}
	return j.pushManifest(ctx, referrersTag(subject.Digest), list, text)
}

// tellsSubject reports whether a registry has said that it lists the manifest by its subject.
func tellsSubject(resp *http.Response) bool {
	return strings.Contains(resp.Header.Get("OCI-Subject"), ":")
}
