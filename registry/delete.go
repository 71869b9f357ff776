package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Deleted says what a deletion took away.
type Deleted struct {
	// Tag is the tag that is gone, empty if a manifest was asked for.
	Tag string
	// Digest is the manifest that is gone; empty if only the tag is.
	Digest digest.Digest
}

// TagsSharedError is a tag that cannot be deleted on its own, for the registry deletes manifests only, and others have the same.
type TagsSharedError struct {
	// Digest is the manifest, and Tags are the other tags that it has.
	Digest digest.Digest
	Tags   []string
}

// Error says which tags would go too.
func (e *TagsSharedError) Error() string {
	return fmt.Sprintf("the registry cannot delete a tag alone, and %s is also tagged %s", e.Digest, strings.Join(e.Tags, ", "))
}

// Delete removes a tag or, by its digest, a manifest. At a registry that knows no deletion of tags, the manifest goes that has the tag,
// if no other tag has it or all is set. What it names stays until the registry collects its garbage.
func (c *Client) Delete(ctx context.Context, repo Repository, reference string, all bool) (Deleted, error) {
	j, err := c.newJob(opDelete, repo, reference)
	if err != nil {
		return Deleted{}, err
	}
	if strings.Contains(reference, ":") {
		return Deleted{Digest: digest.Digest(reference)}, j.deleteManifest(ctx, digest.Digest(reference))
	}
	alone, err := j.deleteTag(ctx)
	if err != nil || alone {
		return Deleted{Tag: reference}, err
	}
	desc, err := j.resolve(ctx, reference)
	if err != nil {
		return Deleted{}, err
	}
	if !all {
		if others, err := j.sameTags(ctx, desc.Digest); err != nil || len(others) > 0 {
			return Deleted{}, j.shared(desc.Digest, others, err)
		}
	}
	return Deleted{Tag: reference, Digest: desc.Digest}, j.deleteManifest(ctx, desc.Digest)
}

// shared is the error for a tag whose manifest has others.
func (j job) shared(d digest.Digest, others []string, err error) error {
	if err != nil {
		return err
	}
	e := j.errorf("--force deletes them all; a push of another image moves the tag", "")
	e.Err = &TagsSharedError{d, others}
	return e
}

// deleteTag deletes a tag. It is false if the registry deletes by digest only.
func (j job) deleteTag(ctx context.Context) (bool, error) {
	resp, err := j.ask(ctx, call{method: http.MethodDelete, path: j.name("manifests", j.reference)})
	if err != nil {
		return false, err
	}
	switch resp.StatusCode {
	case http.StatusAccepted, http.StatusOK, http.StatusNoContent:
		discard(resp)
		return true, nil
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		discard(resp)
		return false, nil
	case http.StatusNotFound: // said of tags that are there too, by registries that take them for digests
		if there, _, err := j.headManifest(ctx, j.reference); err == nil && there.Digest != "" {
			discard(resp)
			return false, nil
		}
	}
	return false, j.answerError(resp)
}

// deleteManifest deletes a manifest, and its entry in the list of what is about its subject where clients keep that.
func (j job) deleteManifest(ctx context.Context, d digest.Digest) error {
	subject := j.subjectOf(ctx, d)
	resp, err := j.send(ctx, call{
		method: http.MethodDelete, path: j.name("manifests", d.String()),
		want: []int{http.StatusAccepted, http.StatusOK, http.StatusNoContent},
	})
	var answer *Error
	if errors.As(err, &answer) && (answer.Status == http.StatusMethodNotAllowed || answer.Code == "UNSUPPORTED") {
		answer.Hint = "the registry is not set up to delete: docker-registry wants REGISTRY_STORAGE_DELETE_ENABLED=true (storage.delete.enabled)"
	}
	if err != nil {
		return err
	}
	discard(resp)
	if subject == "" {
		return nil
	}
	return j.forgetReferrer(ctx, subject, d)
}

// subjectOf returns what a manifest is about, if clients keep the list of that; else nothing.
func (j job) subjectOf(ctx context.Context, d digest.Digest) digest.Digest {
	desc, body, err := j.manifest(ctx, d.String())
	if err != nil {
		return ""
	}
	subject, _ := aboutSubject(desc, body)
	if subject == nil {
		return ""
	}
	index, err := j.taggedReferrers(ctx, subject.Digest)
	if err != nil || len(index.Manifests) == 0 {
		return ""
	}
	return subject.Digest
}

// forgetReferrer takes a manifest out of the list in its subject's tag.
func (j job) forgetReferrer(ctx context.Context, subject, d digest.Digest) error {
	unlock, err := j.c.noting.lock(ctx, j.repo.Host+"/"+j.repo.Name+"@"+subject.String())
	if err != nil {
		return j.transportError(ctx, err)
	}
	defer unlock()
	index, err := j.taggedReferrers(ctx, subject)
	if err != nil {
		return err
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(e ocispec.Descriptor) bool { return e.Digest == d })
	text, err := json.Marshal(index)
	if err != nil {
		return err
	}
	j.op = opPush
	list := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(text), Size: int64(len(text))}
	return j.pushManifest(ctx, referrersTag(subject), list, text)
}

// sameTags lists the other tags that a manifest has.
func (j job) sameTags(ctx context.Context, d digest.Digest) ([]string, error) {
	var mu sync.Mutex
	var same []string
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(maxWaiting)
	for tag, err := range j.c.Tags(ctx, j.repo) {
		if err != nil {
			return nil, errors.Join(group.Wait(), err)
		}
		if tag == j.reference {
			continue
		}
		group.Go(func() error {
			desc, _, err := j.headManifest(inner, tag)
			mu.Lock()
			defer mu.Unlock()
			if desc.Digest == d {
				same = append(same, tag)
			}
			return err
		})
	}
	err := group.Wait()
	slices.Sort(same)
	return same, err
}
