package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/registry/retry"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pieces is a client that fetches in pieces of 64 KiB.
func pieces(t *testing.T) *testClient {
	c := newClient(t, Options{})
	c.pieceSize = 64 << 10
	return c
}

func pullApp(ctx context.Context, f *fakeRegistry, c *testClient, into Store) error {
	_, err := c.Pull(ctx, PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, into)
	return err
}

// TestPullRanges fetches one layer of a megabyte in pieces, through what can go wrong with that.
func TestPullRanges(t *testing.T) {
	const size = 1<<20 + 77
	have := newStore()
	desc := have.image(amd64, size)
	layer := have.layers(t, desc)[0]
	get := "GET /v2/app/blobs/" + layer.Digest.String()
	for _, test := range []struct {
		name    string
		setup   func(*fakeRegistry)
		wantErr string
		low     int // how many requests at least
		high    int
	}{
		{name: "in pieces", low: 17, high: 17},
		{name: "range ignored", setup: func(f *fakeRegistry) { f.noRange = true }, low: 1, high: 1},
		{name: "range ignored from the fifth piece on", setup: func(f *fakeRegistry) {
			f.fault(get, -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
				r.Header.Del("Range")
				next(w, r)
			}).skip = 4
		}, low: 6, high: 12},
		{name: "other range once", setup: func(f *fakeRegistry) {
			f.fault(get, 1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
				r.Header.Set("Range", "bytes=5-65540")
				next(w, r)
			}).skip = 2
		}, low: 4, high: 20},
		{name: "more than was asked for", setup: func(f *fakeRegistry) {
			f.fault(get, 1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
				r.Header.Set("Range", strings.Split(r.Header.Get("Range"), "-")[0]+"-")
				next(w, r)
			}).skip = 2
		}, low: 4, high: 20},
		{name: "less than was asked for", setup: func(f *fakeRegistry) {
			f.fault(get, 3, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
				from, _ := strconv.Atoi(strings.Split(r.Header.Get("Range")[len("bytes="):], "-")[0])
				r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+999))
				next(w, r)
			}).skip = 2
		}, low: 20, high: 20},
		{name: "pieces that are cut", setup: func(f *fakeRegistry) { f.fault(get, 4, cut(1000)) }, low: 21, high: 21},
		{name: "5xx between the pieces", setup: func(f *fakeRegistry) { f.fault(get, 3, status(503)).skip = 3 }, low: 20, high: 20},
		{name: "a wrong bit in a piece", setup: func(f *fakeRegistry) { f.fault(get, 1, flip).skip = 7 }, low: 34, high: 34},
		{name: "a wrong bit always", setup: func(f *fakeRegistry) { f.fault(get, -1, flip) }, wantErr: otherDigest, low: 51, high: 51},
		{name: "another thing in between", setup: func(f *fakeRegistry) {
			var n atomic.Int32
			f.fault(get, -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
				w.Header().Set("ETag", `"a"`)
				if n.Add(1) == 3 {
					w.Header().Set("ETag", `"b"`)
				}
				next(w, r)
			})
		}, low: 4, high: 20},
		{name: "weak tags say nothing", setup: func(f *fakeRegistry) {
			var n atomic.Int32
			f.fault(get, -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
				w.Header().Set("ETag", fmt.Sprintf(`W/"%d"`, n.Add(1)))
				next(w, r)
			})
		}, low: 17, high: 17},
		{name: "gone after some pieces", setup: func(f *fakeRegistry) {
			f.fault(get, -1, answer(404, `{"errors":[{"code":"BLOB_UNKNOWN","message":"gone"}]}`)).skip = 5
		}, wantErr: "gone (BLOB_UNKNOWN, 404 Not Found)", low: 6, high: 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, c, into := newFake(t), pieces(t), newStore()
			f.seed("app", "v1", have, desc)
			if test.setup != nil {
				test.setup(f)
			}
			err := pullApp(t.Context(), f, c, into)
			switch {
			case test.wantErr == "" && err != nil:
				t.Fatal(err)
			case test.wantErr != "" && (err == nil || !strings.Contains(asError(t, err).Error(), test.wantErr)):
				t.Fatalf("got %v, want an error with %q", err, test.wantErr)
			case err == nil && !bytes.Equal(into.blobs[layer.Digest], have.blobs[layer.Digest]):
				t.Error("the layer is another")
			}
			if n := f.count(get); n < test.low || n > test.high {
				t.Errorf("%d requests, want %d to %d", n, test.low, test.high)
			}
			if c.slots.TryAcquire(defaultParallel) {
				return
			}
			t.Error("slots were not given back")
		})
	}
}

// TestPullContinues cuts a pull off for good and pulls again, as another process would.
func TestPullContinues(t *testing.T) {
	const size = 1 << 20
	f, have, into := newFake(t), newStore(), newStore()
	desc := have.image(amd64, size)
	layer := have.layers(t, desc)[0]
	f.seed("app", "v1", have, desc)
	get := "GET /v2/app/blobs/" + layer.Digest.String()
	ft := f.fault(get, -1, cut(100_000))
	ft.skip = 0
	if err := pullApp(t.Context(), f, newClient(t, Options{}), into); err == nil || !strings.Contains(err.Error(), "broke off") {
		t.Fatalf("got %v", err)
	}
	at := len(into.parts[layer.Digest])
	if at == 0 || into.UseAnywhere(desc.Digest) {
		t.Fatalf("a part of %d bytes stayed", at)
	}
	ft.times = 0
	var asked string
	f.fault(get, -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		asked = r.Header.Get("Range")
		next(w, r)
	})
	c := newClient(t, Options{})
	if err := pullApp(t.Context(), f, c, into); err != nil {
		t.Fatal(err)
	}
	if asked != fmt.Sprintf("bytes=%d-", at) || !bytes.Equal(into.blobs[layer.Digest], have.blobs[layer.Digest]) {
		t.Errorf("asked for %q", asked)
	}
	for _, p := range c.notes {
		if p.Descriptor.Digest == layer.Digest && p.Note == NotePulling && p.Offset < int64(at) {
			t.Errorf("progress goes back to %d", p.Offset)
		}
	}
}

// TestPullRandomFaults pulls through many faults that a seed picks. Whatever they are, what is stored is right, and what goes wrong is
// one error of the registry's.
func TestPullRandomFaults(t *testing.T) {
	have := newStore()
	desc := have.image(amd64, 700_000, 10, 90_000)
	for seed := range uint64(24) {
		random := rand.New(rand.NewPCG(seed, 1))
		f, c := newFake(t), pieces(t)
		into, dir := openStore(t)
		f.seed("app", "v1", have, desc)
		kinds := []func(http.ResponseWriter, *http.Request, http.HandlerFunc){
			cut(random.IntN(700_000)), cut(random.IntN(1000)), hangUp, flip, status(503), status(429, "Retry-After", "1"), status(500),
			answer(200, "short"), func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
				r.Header.Set("Range", fmt.Sprintf("bytes=%d-", random.IntN(700_000)))
				next(w, r)
			},
			func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
				r.Header.Del("Range")
				next(w, r)
			},
		}
		for range 1 + random.IntN(12) {
			f.fault([]string{"/blobs/", "/v2/app", "/manifests/"}[random.IntN(3)], 1, kinds[random.IntN(len(kinds)-2)]).skip = random.IntN(6)
		}
		if seed%2 == 0 { // these two change what a piece is, and are no use for manifests
			f.fault("/blobs/", 1, kinds[len(kinds)-1-random.IntN(2)]).skip = random.IntN(6)
		}
		err := pullApp(t.Context(), f, c, into)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("seed %d: %v (%T) is no *Error", seed, err, err)
		}
		if faults, fsckErr := into.Fsck(t.Context(), image.FsckOptions{}); fsckErr != nil || len(faults) > 0 {
			t.Errorf("seed %d: %v %v", seed, faults, fsckErr)
		}
		left, globErr := filepath.Glob(dir + "/ingest/*")
		for _, name := range left {
			if globErr != nil || !strings.HasPrefix(filepath.Base(name), "part-sha256-") || err == nil {
				t.Errorf("seed %d: %s is left", seed, name)
			}
		}
		if (err == nil) != into.Use(desc.Digest) {
			t.Errorf("seed %d: the manifest must be there if and only if it went well: %v", seed, err)
		}
	}
}

// openStore opens an empty store of the kind that programs have.
func openStore(t *testing.T) (*image.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	s, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// TestSlowLoris gives a few bytes for ever.
func TestSlowLoris(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.image(amd64, 1<<20)
	f.seed("app", "v1", have, desc)
	drip := func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		w.Header().Set("Content-Length", strconv.Itoa(1<<20))
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(time.Millisecond):
			}
		}
	}
	for what, want := range map[string]string{
		"GET /v2/app/manifests/": "fewer than 4096 bytes in 30ms",
		"GET /v2/app/blobs/" + have.layers(t, desc)[0].Digest.String(): "cannot continue a download", // it begins anew each time
	} {
		ft := f.fault(what, -1, drip)
		c, into := newClient(t, Options{}), newStore()
		c.retry.stall = 30 * time.Millisecond
		err := pullApp(t.Context(), f, c, into)
		if err == nil || !strings.Contains(asError(t, err).Error(), want) {
			t.Errorf("%s: got %v", what, err)
		}
		ft.times = 0
	}
}

// TestHostLimit counts how many requests are under way at once.
func TestHostLimit(t *testing.T) {
	f, have := newFake(t), newStore()
	sizes := make([]int, 60)
	for i := range sizes {
		sizes[i] = 100 + i
	}
	desc := have.image(amd64, sizes...)
	f.seed("app", "v1", have, desc)
	var now, most atomic.Int32
	f.fault("/v2/", -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		time.Sleep(time.Millisecond)
		next(w, r)
	})
	c := newClient(t, Options{Parallel: 50})
	if err := pullApp(t.Context(), f, c, newStore()); err != nil {
		t.Fatal(err)
	}
	if n := most.Load(); n > maxRequests || n < 2 {
		t.Errorf("%d requests at once", n)
	}
	limit := c.retry.host(f.host())
	if !limit.reads.TryAcquire(maxRequests) || !limit.writes.TryAcquire(maxRequests) {
		t.Error("a request has not ended")
	}
}

// TestHostIsLeftAlone lets one request be told to wait, and looks at what the others do.
func TestHostIsLeftAlone(t *testing.T) {
	var when time.Time
	c := newClient(t, Options{})
	now := time.Unix(1e9, 0)
	c.retry.now = func() time.Time { return now }
	limit := c.retry.host("registry.example")
	c.retry.sleep = func(context.Context, time.Duration) error {
		when = now.Add(limit.silence(now))
		return nil
	}
	if err := c.retry.pause(t.Context(), "registry.example", 0, verdict{again: true, after: 20 * time.Second}, "busy"); err != nil {
		t.Fatal(err)
	}
	if want := now.Add(20 * time.Second); !when.Equal(want) {
		t.Errorf("others may ask at %v, want %v", when, want)
	}
	if d := limit.silence(now); d != 0 {
		t.Errorf("after the pause there is another of %v", d)
	}
}

// TestCancelInPause ends a pull that waits for its next attempt.
func TestCancelInPause(t *testing.T) {
	f := newFake(t)
	f.fault("/v2/app", -1, status(503, "Retry-After", "60"))
	c := newClient(t, Options{})
	c.retry.sleep = retry.Sleep
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan struct{})
	c.retry.note = func(string, string) { close(waiting) }
	done := make(chan error)
	go func() { done <- pullApp(ctx, f, c, newStore()) }()
	<-waiting
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestPullLater(t *testing.T) {
	f, have, into := newFake(t), newStore(), newStore()
	desc := have.image(amd64, 1000, 2000)
	f.seed("app", "v1", have, desc)
	c := newClient(t, Options{})
	if _, err := c.Pull(t.Context(), PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64), Later: true}, into); err != nil {
		t.Fatal(err)
	}
	for _, l := range have.layers(t, desc) {
		if into.Use(l.Digest) || !into.UseAnywhere(l.Digest) || f.count(l.Digest.String()) > 0 {
			t.Errorf("%s was fetched, or nobody knows where it is", l.Digest)
		}
	}
	l := have.layers(t, desc)[0]
	if err := c.FetchBlob(t.Context(), l, []Repository{f.repo("other"), f.repo("app")}, into); err != nil {
		t.Fatal(err)
	}
	if !into.Use(l.Digest) {
		t.Error("the layer was not fetched")
	}
	l.Digest = digest.FromString("nobody has it")
	err := c.FetchBlob(t.Context(), l, []Repository{f.repo("other"), f.repo("app")}, into)
	if e := asError(t, err); e.Repository != "other" || e.Status != 404 {
		t.Errorf("got %v", err)
	}
}

// TestEndlessIndexes serves indexes that name what does not end. Digests cannot go in a circle, so each must be another.
func TestEndlessIndexes(t *testing.T) {
	f, have := newFake(t), newStore()
	var wide []ocispec.Descriptor
	for i := range maxDocuments + 1 {
		wide = append(wide, have.addJSON(ocispec.MediaTypeImageIndex, map[string]any{
			"schemaVersion": 2, "manifests": []any{}, "annotations": map[string]string{"n": strconv.Itoa(i)},
		}))
	}
	half := maxDocuments/2 + 1
	f.seed("app", "wide", have, have.nest(have.nest(wide[:half]...), have.nest(wide[half:]...)))
	desc := have.nest(wide[0])
	for range 6 {
		desc = have.nest(desc, desc)
	}
	f.seed("app", "deep", have, desc)
	for _, test := range []struct{ tag, want string }{{"wide", "more than 1024 manifests"}, {"deep", "nested more than 4 deep"}} {
		_, err := newClient(t, Options{}).Pull(t.Context(), PullRequest{Repo: f.repo("app"), Reference: test.tag, All: true}, newStore())
		if err == nil || !strings.Contains(asError(t, err).Error(), test.want) {
			t.Errorf("%s: got %v", test.tag, err)
		}
	}
}

// TestIndexOfItself lets a registry answer every manifest with one index, which names itself under another digest.
func TestIndexOfItself(t *testing.T) {
	var requests atomic.Int32
	liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_, _ = fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":"sha256:%064d","size":10}]}`, ocispec.MediaTypeImageIndex, 7)
	}))
	t.Cleanup(liar.Close)
	repo := Repository{Host: strings.TrimPrefix(liar.URL, "http://"), Name: "app"}
	_, err := newClient(t, Options{}).Pull(t.Context(), PullRequest{Repo: repo, Reference: "v1", All: true}, newStore())
	if err == nil || requests.Load() > 10 {
		t.Errorf("got %v after %d requests", err, requests.Load())
	}
}

// TestSlowReader reads so slowly that the time between reads must not count.
func TestSlowReader(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.image(amd64, 100_000)
	f.seed("app", "v1", have, desc)
	c := newClient(t, Options{})
	c.retry.stall = 20 * time.Millisecond
	r, err := c.Blob(t.Context(), f.repo("app"), have.layers(t, desc)[0])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var once sync.Once
	for buf := make([]byte, 50_000); ; {
		_, err := r.Read(buf)
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		once.Do(func() { time.Sleep(50 * time.Millisecond) })
	}
}
