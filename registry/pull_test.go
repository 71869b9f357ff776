package registry

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// asError returns err as what it must be.
func asError(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T) is no *Error", err, err)
	}
	return e
}

func TestPullImage(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.image(amd64, 10, 300<<10, 2<<20, 0)
	f.seed("library/app", "v1", have, desc)
	c, into := newClient(t, Options{}), newStore()
	got, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("library/app"), Reference: "v1", Platforms: only(amd64)}, into)
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != desc.Digest || got.MediaType != desc.MediaType || got.Size != desc.Size {
		t.Errorf("got %v, want %v", got, desc)
	}
	if !maps.EqualFunc(have.blobs, into.blobs, bytes.Equal) {
		t.Error("the stores differ")
	}
	if last := into.order[len(into.order)-1]; last != desc.Digest {
		t.Errorf("the manifest was not stored last")
	}
	before := f.count("GET /v2/library/app/blobs/")
	if _, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("library/app"), Reference: "v1", Platforms: only(amd64)}, into); err != nil {
		t.Fatal(err)
	}
	if f.count("GET /v2/library/app/blobs/") != before || !c.noted(NoteExists) {
		t.Error("a second pull fetched blobs again")
	}
}

func TestPullSharedLayerOnce(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.image(amd64, 1<<20)
	f.seed("a", "v1", have, desc)
	c, into := newClient(t, Options{}), newStore()
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() {
			_, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("a"), Reference: "v1", Platforms: only(amd64)}, into)
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	layer := have.layers(t, desc)[0].Digest.String()
	if n := f.count("GET /v2/a/blobs/" + layer); n != 1 {
		t.Errorf("the layer was fetched %d times", n)
	}
}

func TestPullIndex(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.index(amd64, arm64, armV7)
	f.seed("multi", "v1", have, desc)
	for _, test := range []struct {
		name      string
		platform  ocispec.Platform
		wantLayer string
	}{
		{"exact", arm64, "arm640"},
		{"default variant", ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, "arm640"},
		{"alias", ocispec.Platform{OS: "linux", Architecture: "x86_64"}, "amd640"},
		{"variant", armV7, "armv70"},
		{"arm without variant", ocispec.Platform{OS: "linux", Architecture: "arm"}, "armv70"},
		{"lower variant", ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"}, "amd640"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, into := newClient(t, Options{}), newStore()
			got, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("multi"), Reference: "v1", Platforms: only(test.platform)}, into)
			if err != nil {
				t.Fatal(err)
			}
			if got.Digest != desc.Digest || !into.Use(desc.Digest) {
				t.Error("the index itself is not in the store")
			}
			if len(into.blobs) != 4 {
				t.Errorf("stored %d blobs, want the index, a manifest, a config and a layer", len(into.blobs))
			}
			if !into.Use(digest.FromBytes(content(test.wantLayer, 1000))) {
				t.Error("the layer is of another platform")
			}
		})
	}
}

func TestPullNoPlatform(t *testing.T) {
	f, have := newFake(t), newStore()
	f.seed("multi", "v1", have, have.index(amd64, armV7))
	into := newStore()
	_, err := newClient(t, Options{}).Pull(context.Background(), PullRequest{
		Repo: f.repo("multi"), Reference: "v1", Platforms: []ocispec.Platform{{OS: "linux", Architecture: "riscv64"}},
	}, into)
	e := asError(t, err)
	if !strings.Contains(e.Message, "linux/riscv64") || e.Hint != "available: linux/amd64, linux/arm/v7" {
		t.Errorf("unhelpful: %v", err)
	}
	if len(into.blobs) != 0 {
		t.Error("something was stored")
	}
}

func TestPullEntriesWithoutPlatform(t *testing.T) {
	f, have := newFake(t), newStore()
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{have.image(amd64, 5), have.image(arm64, 5)}}
	f.seed("silent", "v1", have, have.addJSON(ocispec.MediaTypeImageIndex, index))
	into := newStore()
	if _, err := newClient(t, Options{}).Pull(context.Background(), PullRequest{Repo: f.repo("silent"), Reference: "v1", Platforms: only(arm64)}, into); err != nil {
		t.Fatal(err)
	}
	if !into.Use(digest.FromBytes(content("arm640", 5))) || into.Use(digest.FromBytes(content("amd640", 5))) {
		t.Error("the wrong image was pulled")
	}
}

func TestPullOtherPlatformNotes(t *testing.T) {
	f, have := newFake(t), newStore()
	f.seed("app", "v1", have, have.image(arm64, 5))
	c := newClient(t, Options{})
	if _, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, newStore()); err != nil {
		t.Fatal(err)
	}
	if !c.noted("the image is for linux/arm64, not for linux/amd64") {
		t.Errorf("no note in %v", c.notes)
	}
}

func TestPullNestedTooDeep(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.index(amd64)
	for range maxDepth {
		desc.Platform = &amd64
		desc = have.addJSON(ocispec.MediaTypeImageIndex, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{desc}})
	}
	f.seed("deep", "v1", have, desc)
	_, err := newClient(t, Options{}).Pull(context.Background(), PullRequest{Repo: f.repo("deep"), Reference: "v1", Platforms: only(amd64)}, newStore())
	if e := asError(t, err); !strings.Contains(e.Message, "nested") {
		t.Error(err)
	}
}

// TestPullFaults pulls one image through a registry that goes wrong.
func TestPullFaults(t *testing.T) {
	const layer = 3 << 20
	have := newStore()
	desc := have.image(amd64, layer)
	blob := "GET /v2/app/blobs/" + have.layers(t, desc)[0].Digest.String()
	manifest := "GET /v2/app/manifests/v1"
	for _, test := range []struct {
		name    string
		match   string
		times   int
		do      func(http.ResponseWriter, *http.Request, http.HandlerFunc)
		setup   func(*fakeRegistry)
		wantErr string // part of the text; empty: it succeeds
		pauses  []time.Duration
		maxGETs int // of the layer
	}{
		{name: "none", match: "-", maxGETs: 1},
		{name: "cut body is continued", match: blob, times: 1, do: cut(layer / 2), maxGETs: 2},
		{name: "cut four times", match: blob, times: 4, do: cut(1 << 20), maxGETs: 5},
		{name: "cut without ranges", match: blob, times: 1, do: cut(layer / 2), setup: func(f *fakeRegistry) { f.noRange = true }, maxGETs: 2},
		{name: "cut always", match: blob, times: -1, do: cut(100), wantErr: "broke off", maxGETs: maxResumes + 1},
		{name: "cut always without ranges", match: blob, times: -1, do: cut(100), setup: func(f *fakeRegistry) { f.noRange = true }, wantErr: "broke off", maxGETs: maxRestarts + 2},
		{name: "cut manifest", match: manifest, times: 2, do: cut(20), maxGETs: 1},
		{name: "cut manifest always", match: manifest, times: -1, do: cut(20), wantErr: "the manifest broke off"},
		{name: "hang up", match: blob, times: 2, do: hangUp, maxGETs: 5},
		{
			name: "429 with Retry-After", match: blob, times: 2, do: status(429, "Retry-After", "7"), maxGETs: 3,
			pauses: []time.Duration{7 * time.Second, 7 * time.Second},
		},
		{name: "429 that asks too much", match: manifest, times: -1, do: status(429, "Retry-After", "3600"), wantErr: "the registry asks to wait 1h0m0s", pauses: []time.Duration{}},
		{
			name: "5xx storm", match: "/v2/app", times: 5, do: status(503), maxGETs: 5,
			pauses: []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second},
		},
		{name: "5xx for ever", match: manifest, times: -1, do: status(502), wantErr: "502 Bad Gateway"},
		{name: "501 is final", match: manifest, times: 1, do: status(501), wantErr: "501", pauses: []time.Duration{}},
		{name: "400 is final", match: blob, times: 1, do: status(400), wantErr: "400", pauses: []time.Duration{}, maxGETs: 1},
		{name: "408 and 425", match: blob, times: 1, do: status(425), maxGETs: 2},
		{name: "one wrong bit once", match: blob, times: 1, do: flip, maxGETs: 2},
		{name: "one wrong bit always", match: blob, times: -1, do: flip, wantErr: "another digest", maxGETs: maxDownloads},
		{name: "manifest with a wrong bit once", match: manifest, times: 1, do: flip, maxGETs: 1},
		{name: "manifest with a wrong bit always", match: manifest, times: -1, do: flip, wantErr: "instead of"},
		{name: "wrong length", match: blob, times: -1, do: answer(200, "short"), wantErr: "5 bytes instead of 3145728", maxGETs: maxDownloads},
		{name: "too long without a length", match: blob, times: -1, do: endless, wantErr: "more than the 3145728 bytes", maxGETs: maxDownloads},
		{name: "wrong range", match: blob, times: 2, do: wrongRange(), wantErr: "", maxGETs: 4},
		{name: "blob gone", match: blob, times: -1, do: answer(404, `{"errors":[{"code":"BLOB_UNKNOWN","message":"gone"}]}`), wantErr: "gone (BLOB_UNKNOWN, 404 Not Found)", maxGETs: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			f.seed("app", "v1", have, desc)
			f.fault(test.match, test.times, test.do)
			if test.setup != nil {
				test.setup(f)
			}
			c, into := newClient(t, Options{}), newStore()
			_, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, into)
			switch {
			case test.wantErr == "" && err != nil:
				t.Fatal(err)
			case test.wantErr != "" && (err == nil || !strings.Contains(asError(t, err).Error(), test.wantErr)):
				t.Fatalf("got %v, want an error with %q", err, test.wantErr)
			case err == nil && !into.Use(desc.Digest), err != nil && into.Use(desc.Digest):
				t.Error("the manifest must be in the store if and only if the pull went well")
			}
			if test.pauses != nil {
				if diff := cmp.Diff(test.pauses, append([]time.Duration{}, c.pauses...)); diff != "" {
					t.Error(diff)
				}
			}
			if n := f.count(blob); n > test.maxGETs {
				t.Errorf("the layer was asked for %d times, more than %d", n, test.maxGETs)
			}
		})
	}
}

func answer(code int, body string) func(http.ResponseWriter, *http.Request, http.HandlerFunc) {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

// endless sends more than it should and no length.
func endless(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
	chunk := make([]byte, 64<<10)
	for range 100 {
		if _, err := w.Write(chunk); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
	}
}

// wrongRange breaks off, then continues somewhere else.
func wrongRange() func(http.ResponseWriter, *http.Request, http.HandlerFunc) {
	var calls atomic.Int32
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		if calls.Add(1) == 1 {
			cut(1000)(w, r, next)
		}
		r.Header.Set("Range", "bytes=5-")
		next(w, r)
	}
}

// TestPullStall breaks a download off that gives no more bytes.
func TestPullStall(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.image(amd64, 1<<20)
	f.seed("app", "v1", have, desc)
	f.fault("blobs/"+have.layers(t, desc)[0].Digest.String(), 1, func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		w.Header().Set("Content-Length", strconv.Itoa(1<<20))
		_, _ = w.Write(content("amd640", 1<<20)[:1000])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done() // until the client goes
	})
	c, into := newClient(t, Options{}), newStore()
	c.retry.stall = 20 * time.Millisecond
	if _, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, into); err != nil {
		t.Fatal(err)
	}
	if !c.noted("broke off at 1000 of 1048576 bytes") {
		t.Error("the download was not continued from where it stood")
	}
}

func TestPullStoreFailure(t *testing.T) {
	f, have := newFake(t), newStore()
	f.seed("app", "v1", have, have.image(amd64, 100))
	into := newStore()
	into.fail = syscall.ENOSPC
	c := newClient(t, Options{})
	_, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, into)
	var e *Error
	if !errors.Is(err, syscall.ENOSPC) || errors.As(err, &e) {
		t.Errorf("%v (%T): a full disk is not the registry's failure", err, err)
	}
	if len(c.pauses) > 0 {
		t.Error("it was tried again")
	}
}

func TestPullCancelled(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.image(amd64, 1<<20)
	f.seed("app", "v1", have, desc)
	ctx, cancel := context.WithCancel(context.Background())
	f.fault("blobs/"+have.layers(t, desc)[0].Digest.String(), -1, func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
	})
	_, err := newClient(t, Options{}).Pull(ctx, PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, newStore())
	var e *Error
	if !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("got %v (%T)", err, err)
	}
}

// TestPullRedirect serves blobs from another host, which must see no credential.
func TestPullRedirect(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.image(amd64, 1000)
	f.seed("app", "v1", have, desc)
	f.auth, f.user, f.password = "bearer", "ann", "correct horse"
	var leaked atomic.Int32
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
			leaked.Add(1)
		}
		f.blob(w, r, "app", strings.TrimPrefix(r.URL.Path, "/"))
	}))
	t.Cleanup(storage.Close)
	f.fault("GET /v2/app/blobs/", -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		rec := httptest.NewRecorder()
		if next(rec, r); rec.Code != http.StatusOK {
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.WriteHeader(rec.Code)
			return
		}
		_, d, _ := strings.Cut(r.URL.Path, "/blobs/")
		http.Redirect(w, r, storage.URL+"/"+d+"?X-Signature=s3cr3t", http.StatusTemporaryRedirect)
	})
	c, into := newClient(t, Options{Credentials: static("ann", "correct horse")}), newStore()
	if _, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, into); err != nil {
		t.Fatal(err)
	}
	if leaked.Load() > 0 {
		t.Error("a credential followed the redirect")
	}

	storage.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("signature expired"))
	})
	_, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, newStore())
	if e := asError(t, err); strings.Contains(err.Error(), "s3cr3t") || !strings.Contains(e.Message, "signature expired") || strings.Contains(e.Hint, "login") {
		t.Errorf("got %v", err)
	}
	storage.Close()
	_, err = c.Pull(context.Background(), PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, newStore())
	if asError(t, err); strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("got %v", err)
	}
}

func TestPullErrors(t *testing.T) {
	f, have := newFake(t), newStore()
	f.seed("app", "v1", have, have.image(amd64, 1))
	big := have.add(ocispec.MediaTypeImageManifest, append([]byte(`{"config":{},"x":"`), make([]byte, maxManifest)...))
	f.seed("big", "v1", have, big)
	old := have.add("application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1,"fsLayers":[]}`))
	f.seed("old", "v1", have, old)
	both := have.add(ocispec.MediaTypeImageIndex, []byte(`{"manifests":[],"layers":[]}`))
	f.seed("both", "v1", have, both)
	for _, test := range []struct{ name, repo, ref, want string }{
		{"tag unknown", "app", "v2", f.host() + "/app:v2: manifest unknown (MANIFEST_UNKNOWN, 404 Not Found); check the name and the tag"},
		{"large manifest", "big", "v1", "larger than 4194304 bytes"},
		{"schema 1", "old", "v1", "schema 1"},
		{"index and image", "both", "v1", "an index and an image at once"},
		{"bad name", "App/../x", "v1", "no repository name"},
		{"bad tag", "app", "v1/../v2", "neither a tag nor a digest"},
		{"no reference", "app", "", "there is no reference"},
		{"bad digest", "app", "sha256:abc", "neither a tag nor a digest"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := newClient(t, Options{}).Pull(context.Background(), PullRequest{Repo: f.repo(test.repo), Reference: test.ref, Platforms: only(amd64)}, newStore())
			if e := asError(t, err); !strings.Contains(e.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// TestHTTP2 breaks uploads and downloads off in HTTP/2, whose errors are others.
func TestHTTP2(t *testing.T) {
	f, have := newFake(t), newStore()
	f.Close()
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("%s came by %s", r.URL, r.Proto)
		}
		f.serve(w, r)
	}))
	f.EnableHTTP2 = true
	f.StartTLS()
	t.Cleanup(f.Close)
	desc := have.image(amd64, 3<<20)
	layer := have.layers(t, desc)[0].Digest.String()
	f.fault("PUT /v2/app/blobs/uploads/", 1, cutUpload)
	f.fault("PUT /v2/app/blobs/uploads/", 1, status(http.StatusServiceUnavailable))
	f.fault("GET /v2/app/blobs/"+layer, 2, cut(1<<20))
	c, into := newClient(t, Options{Insecure: []string{f.host()}}), newStore()
	if _, err := c.Push(context.Background(), PushRequest{Repo: f.repo("app"), Reference: "v1", Descriptor: desc}, have); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, into); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(into.blobs[digest.Digest(layer)], have.blobs[digest.Digest(layer)]) || len(c.pauses) < 4 {
		t.Errorf("after %d pauses", len(c.pauses))
	}
}
