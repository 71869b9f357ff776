package registry

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// note stores an artifact with a text of its own.
func (s *memStore) note(subject ocispec.Descriptor, text string) ocispec.Descriptor {
	return s.addJSON(ocispec.MediaTypeImageManifest, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "artifactType": "application/vnd.test.note",
		"config":  s.add(ocispec.MediaTypeEmptyJSON, []byte("{}")),
		"layers":  []ocispec.Descriptor{s.add("text/plain", []byte(text))},
		"subject": ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}, "annotations": map[string]string{"text": text},
	})
}

func TestReferrers(t *testing.T) {
	for _, knows := range []bool{true, false} {
		name := map[bool]string{true: "by the registry", false: "by a tag"}[knows]
		t.Run(name, func(t *testing.T) {
			f, have := newFake(t), newStore()
			f.referrers = knows
			image := have.image(amd64, 10)
			f.seed("app", "v1", have, image)
			c := newClient(t, Options{})
			if list, err := c.Referrers(t.Context(), f.repo("app"), image.Digest); err != nil || len(list) != 0 {
				t.Fatalf("%v, %v", list, err)
			}
			want := map[digest.Digest]string{}
			for _, text := range []string{"one", "two", "one"} {
				desc := have.note(image, text)
				want[desc.Digest] = text
				if _, err := c.Push(t.Context(), PushRequest{Repo: f.repo("app"), Descriptor: desc}, have); err != nil {
					t.Fatal(err)
				}
			}
			list, err := c.Referrers(t.Context(), f.repo("app"), image.Digest)
			if err != nil || len(list) != 2 {
				t.Fatalf("%v, %v", list, err)
			}
			for _, d := range list {
				if d.ArtifactType != "application/vnd.test.note" || d.Annotations["text"] != want[d.Digest] || d.Size == 0 {
					t.Errorf("%+v", d)
				}
			}
			tag := strings.Replace(image.Digest.String(), ":", "-", 1)
			if wrote := f.count("PUT /v2/app/manifests/"+tag) > 0; wrote == knows {
				t.Errorf("tag written: %v", wrote)
			}
		})
	}
}

func TestReferrersTogether(t *testing.T) {
	f, have := newFake(t), newStore()
	image := have.image(amd64, 10)
	f.seed("app", "v1", have, image)
	c := newClient(t, Options{})
	var wg sync.WaitGroup
	var notes []ocispec.Descriptor
	for _, text := range []string{"a", "b", "c", "d", "e", "f"} {
		notes = append(notes, have.note(image, text))
	}
	errs := make([]error, len(notes))
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = c.Push(context.Background(), PushRequest{Repo: f.repo("app"), Descriptor: notes[i]}, have)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if list, err := c.Referrers(t.Context(), f.repo("app"), image.Digest); err != nil || len(list) != len(errs) {
		t.Errorf("%d of %d, %v", len(list), len(errs), err)
	}
}

func TestReferrersFail(t *testing.T) {
	f, have := newFake(t), newStore()
	f.referrers = true
	image := have.image(amd64, 10)
	for name, answer := range map[string]string{
		"malformed": "{", "bad digest": `{"schemaVersion":2,"manifests":[{"digest":"x"}]}`,
	} {
		f.fault("/referrers/", 1, func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			_, _ = w.Write([]byte(answer))
		})
		_, err := newClient(t, Options{}).Referrers(t.Context(), f.repo("app"), image.Digest)
		if e := asError(t, err); !strings.Contains(e.Message, "list of referrers") {
			t.Errorf("%s: %v", name, e)
		}
	}
	f.fault("/referrers/", -1, func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		refuse(w, http.StatusForbidden, "DENIED", "no")
	})
	if _, err := newClient(t, Options{}).Referrers(t.Context(), f.repo("app"), image.Digest); err == nil {
		t.Error("a refusal was taken for an empty list")
	}
	h := newFake(t)
	h.referrers = true
	h.fault("/referrers/", 1, func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		w.Header().Set("Link", "<"+r.URL.Path+"?page=2>; rel=\"next\"")
		_, _ = w.Write([]byte(`{"schemaVersion":2,"manifests":[]}`))
	})
	h.fault("/referrers/", -1, func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		refuse(w, http.StatusForbidden, "DENIED", "no")
	})
	if _, err := newClient(t, Options{}).Referrers(t.Context(), h.repo("app"), image.Digest); err == nil {
		t.Error("a refusal of the second page was not seen")
	}
	// A tag of that name which is something else is left alone.
	g := newFake(t)
	g.seed("app", referrersTag(image.Digest), have, image)
	if _, err := newClient(t, Options{}).Referrers(t.Context(), g.repo("app"), image.Digest); err == nil || !strings.Contains(err.Error(), "no list of referrers") {
		t.Errorf("%v", err)
	}
}
