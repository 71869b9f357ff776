package registry

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestEveryRequestIsRepeated has each kind of request fail in passing: it is made again, body included, after the pause that the
// registry asks for, and the answer is right.
func TestEveryRequestIsRepeated(t *testing.T) {
	have := newStore()
	desc := have.image(amd64, 3*testChunk)
	layer := have.layers(t, desc)[0]
	manifest, large := have.blobs[desc.Digest], content("large", 5*testChunk)
	open := func(body []byte) func(context.Context) (io.ReadCloser, error) {
		return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	descOf := func(body []byte) ocispec.Descriptor {
		return ocispec.Descriptor{Digest: digest.FromBytes(body), Size: int64(len(body))}
	}
	requests := []struct {
		name, match string
		do          func(context.Context, *testClient, *fakeRegistry) error
	}{
		{"ping", "GET /v2/", func(ctx context.Context, c *testClient, f *fakeRegistry) error { return c.Ping(ctx, f.host()) }},
		{"token", "/token", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			_, err := c.Resolve(ctx, f.repo("app"), "v1")
			return err
		}},
		{"resolve", "HEAD /v2/app/manifests/", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			_, err := c.Resolve(ctx, f.repo("app"), "v1")
			return err
		}},
		{"manifest", "GET /v2/app/manifests/", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			_, _, err := c.Manifest(ctx, f.repo("app"), "v1")
			return err
		}},
		{"blob", "GET /v2/app/blobs/", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			rc, err := c.Blob(ctx, f.repo("app"), layer)
			if err != nil {
				return err
			}
			defer rc.Close()
			_, err = io.Copy(io.Discard, rc)
			return err
		}},
		{"look a blob up", "HEAD /v2/app/blobs/", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			_, err := c.BlobExists(ctx, f.repo("app"), layer.Digest)
			return err
		}},
		{"tags", "GET /v2/app/tags/list", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			_, err := collect(c.Tags(ctx, f.repo("app")))
			return err
		}},
		{"catalog", "GET /v2/_catalog", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			_, err := collect(c.Catalog(ctx, f.host()))
			return err
		}},
		{"referrers", "GET /v2/app/referrers/", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			f.referrers = true
			_, err := c.Referrers(ctx, f.repo("app"), desc.Digest)
			return err
		}},
		{"delete", "DELETE /v2/app/manifests/", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			f.deletes = "tags"
			_, err := c.Delete(ctx, f.repo("app"), "v1", false)
			return err
		}},
		{"begin an upload", "POST /v2/app/blobs/uploads/", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			return c.CheckPush(ctx, f.repo("app"))
		}},
		{"mount", "mount=", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			ok, err := c.MountBlob(ctx, f.repo("other"), f.repo("app"), layer.Digest)
			if err == nil && !ok {
				t.Error("it was not mounted")
			}
			return err
		}},
		{"upload", "PUT /v2/app/blobs/uploads/", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			return c.PushBlob(ctx, f.repo("app"), descOf([]byte("small")), open([]byte("small")))
		}},
		{"chunk", "PATCH /v2/app/blobs/uploads/", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			return c.PushBlob(ctx, f.repo("app"), descOf(large), open(large))
		}},
		{"put a manifest", "PUT /v2/app/manifests/", func(ctx context.Context, c *testClient, f *fakeRegistry) error {
			return c.PushManifest(ctx, f.repo("app"), "v2", desc, manifest)
		}},
	}
	const wait = 3 * time.Second
	faults := []struct {
		name  string
		times int
		do    func(http.ResponseWriter, *http.Request, http.HandlerFunc)
		pause time.Duration // that the registry asks for
	}{
		{"429 with Retry-After", 2, status(429, "Retry-After", "3"), wait},
		{"503 with Retry-After", 1, status(503, "Retry-After", "3"), wait},
		{"408", 1, status(408), 0},
		{"425", 1, status(425), 0},
		{"a storm of 5xx", 4, status(502), 0},
		{"a connection that is closed", 2, hangUp, 0},
	}
	for _, r := range requests {
		for _, fault := range faults {
			t.Run(r.name+"/"+fault.name, func(t *testing.T) {
				f := newFake(t)
				f.seed("app", "v1", have, desc)
				f.auth, f.user, f.password = "bearer", "ann", "secret"
				c := newClient(t, Options{Credentials: static("ann", "secret")})
				c.chunkSize = testChunk
				var hit atomic.Int32
				skip := 0
				if r.name == "ping" {
					skip = 1 // the request that finds out whether the host speaks http or https
				}
				f.fault(r.match, fault.times, func(w http.ResponseWriter, req *http.Request, next http.HandlerFunc) {
					hit.Add(1)
					fault.do(w, req, next)
				}).skip = skip
				if err := r.do(t.Context(), c, f); err != nil {
					t.Fatal(err)
				}
				if int(hit.Load()) != fault.times {
					t.Errorf("it met %d faults of %d", hit.Load(), fault.times)
				}
				n := 0
				for _, d := range c.pauses {
					if d >= fault.pause {
						n++
					}
				}
				if n < fault.times && fault.name != "a connection that is closed" { // net/http repeats some of those itself
					t.Errorf("pauses %v after %d faults", c.pauses, fault.times)
				}
				if body := f.blobs["app "+descOf(large).Digest.String()]; r.name == "chunk" && !bytes.Equal(body, large) {
					t.Errorf("%d bytes arrived", len(body))
				}
			})
		}
	}
}

// TestEveryRequestEndsInOneError has each kind of fault that does not pass: the error names the registry, and comes after few attempts.
func TestEveryRequestEndsInOneError(t *testing.T) {
	have := newStore()
	desc := have.image(amd64, 100)
	for _, fault := range []struct {
		name, want string
		do         func(http.ResponseWriter, *http.Request, http.HandlerFunc)
		attempts   int
	}{
		{"429 for ever", "429", status(429, "Retry-After", "1"), 12},
		{"5xx for ever", "500", status(500), 12},
		{"a pause of a day", "wait", status(429, "Retry-After", "86400"), 2},
		{"closed for ever", "EOF", hangUp, 12},
		{"400", "400", status(400), 2},
	} {
		for _, match := range []string{"/manifests/", "/blobs/", "/token"} {
			t.Run(fault.name+" "+match, func(t *testing.T) {
				f := newFake(t)
				f.seed("app", "v1", have, desc)
				f.auth, f.user, f.password = "bearer", "ann", "secret"
				f.fault(match, -1, fault.do)
				c, into := newClient(t, Options{Parallel: 1, Credentials: static("ann", "secret")}), newStore()
				_, err := c.Pull(t.Context(), PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, into)
				if err == nil {
					t.Fatal("it succeeded")
				}
				text := asError(t, err).Error()
				if !strings.Contains(text, fault.want) || !strings.Contains(text, f.host()) || strings.Contains(text, "secret") {
					t.Error(text)
				}
				if n := f.count(match); n > fault.attempts {
					t.Errorf("%d attempts", n)
				}
				if into.Use(desc.Digest) || slices.ContainsFunc(have.layers(t, desc), func(d ocispec.Descriptor) bool { return into.Use(d.Digest) }) {
					t.Error("something was stored")
				}
			})
		}
	}
}
