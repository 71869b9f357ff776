package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/registry/retry"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// making is a source that is being made.
type making struct {
	mu    sync.Mutex
	grown chan struct{}
	data  []byte
	all   bool
	err   error
	want  int64 // the most bytes that were waited for
}

func (m *making) wanted() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.want
}

func newMaking() *making { return &making{grown: make(chan struct{})} }

func (m *making) add(data []byte, all bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data, m.all, m.err = append(m.data, data...), all, err
	close(m.grown)
	m.grown = make(chan struct{})
}

func (m *making) Available(ctx context.Context, n int64) (int64, bool, error) {
	for {
		m.mu.Lock()
		m.want = max(m.want, n)
		have, all, err, grown := int64(len(m.data)), m.all, m.err, m.grown
		m.mu.Unlock()
		if all || have >= n || err != nil {
			return have, all, err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return have, false, ctx.Err()
		}
	}
}

func (m *making) Open(_ context.Context, offset int64) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return io.NopCloser(bytes.NewReader(m.data[offset:])), nil
}

func (m *making) Descriptor(ctx context.Context) (ocispec.Descriptor, error) {
	if _, _, err := m.Available(ctx, 1<<60); err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(m.data), Size: int64(len(m.data))}, nil
}

// made is a source that is made.
func made(data []byte) *making {
	m := newMaking()
	m.add(data, true, nil)
	return m
}

const testChunk = 64 << 10

// chunkClient cuts blobs into small chunks.
func chunkClient(t *testing.T, o Options) *testClient {
	c := newClient(t, o)
	c.chunkSize = testChunk
	return c
}

func TestPushStream(t *testing.T) {
	f, have := newFake(t), newStore()
	c := chunkClient(t, Options{})
	data := content("stream", 5*testChunk+7)
	m := newMaking()
	go func() {
		for i := 0; i < len(data); i += 10_000 {
			m.add(data[i:min(i+10_000, len(data))], false, nil)
		}
		m.add(nil, true, nil)
	}()
	desc, err := c.PushStream(t.Context(), f.repo("app"), Stream{Growing: m, Key: "layer"}, have)
	if err != nil || desc.Digest != digest.FromBytes(data) {
		t.Fatalf("%v %v", desc, err)
	}
	if n := f.count("PATCH"); n != 6 {
		t.Errorf("%d chunks", n)
	}
	if !bytes.Equal(f.blobs["app "+desc.Digest.String()], data) {
		t.Error("other bytes arrived")
	}
	if len(have.notes) > 0 {
		t.Errorf("notes are left: %v", have.notes)
	}
	before := len(f.log)
	if _, err := chunkClient(t, Options{}).PushStream(t.Context(), f.repo("app"), Stream{Growing: m, Key: "layer"}, have); err != nil {
		t.Fatal(err)
	}
	if again := f.log[before:]; len(again) > 6+2 {
		t.Errorf("a large blob that is there: %v", again)
	}
}

// A small stream is known before its first byte is sent: it may be there already, or be mounted.
func TestPushSmallStream(t *testing.T) {
	f, have := newFake(t), newStore()
	data := content("small", 1000)
	d := digest.FromBytes(data)
	f.blobs["base "+d.String()] = data
	have.seen[d] = []string{f.host() + "/base", "elsewhere.example/base"}
	c := chunkClient(t, Options{})
	if _, err := c.PushStream(t.Context(), f.repo("app"), Stream{Growing: made(data), Key: "k"}, have); err != nil {
		t.Fatal(err)
	}
	if len(f.log) != 2 { // the version of the API, and the mount
		t.Errorf("%v", f.log)
	}
	if !c.noted(NoteMounted) {
		t.Error("not mounted")
	}
}

// TestChunkFaults sends a blob in chunks to a registry that goes wrong.
func TestChunkFaults(t *testing.T) {
	const patch, put = "PATCH /v2/app/blobs/uploads/", "PUT /v2/app/blobs/uploads/"
	const size = 5*testChunk + 100
	for _, test := range []struct {
		name      string
		match     string
		skip      int
		times     int
		do        func(http.ResponseWriter, *http.Request, http.HandlerFunc)
		wantErr   string
		sessions  int
		patches   int // at most
		afterward func(*testing.T, *fakeRegistry, *testClient)
	}{
		{name: "none", match: "-", sessions: 1, patches: 6},
		{name: "cut in the middle of a chunk, which is kept", match: patch, skip: 2, times: 1, do: cutChunk(1000), sessions: 1, patches: 8},
		{name: "cut at the start", match: patch, skip: 2, times: 2, do: hangUp, sessions: 1, patches: 8},
		{name: "the answer is lost", match: patch, skip: 1, times: 1, do: loseAnswer, sessions: 1, patches: 6},
		{name: "429", match: patch, skip: 1, times: 2, do: status(429, "Retry-After", "3"), sessions: 1, patches: 8},
		{name: "503", match: patch, skip: 1, times: 3, do: status(503), sessions: 1, patches: 9},
		{name: "the session is lost", match: patch, skip: 3, times: 1, do: func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
			refuse(w, 404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
		}, sessions: 2, patches: 10},
		{name: "the session is lost with every cut", match: patch, skip: 2, times: 1, do: func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
			r2 := r.Clone(r.Context())
			r2.Header.Set("Content-Range", "7-8")
			next(httptest.NewRecorder(), r2)
			panic(http.ErrAbortHandler)
		}, sessions: 1, patches: 8},
		{name: "chunks are too large", match: patch, times: 2, do: status(413), sessions: 1, patches: 40, wantErr: "limits the size"},
		{name: "chunks are refused", match: patch, times: -1, do: status(405), sessions: 2, patches: 1},
		{name: "chunks are unknown", match: patch, times: -1, do: status(404), sessions: 2, patches: 1},
		{name: "503 for ever", match: patch, skip: 1, times: -1, do: status(503), wantErr: "503", sessions: 1, patches: 2 + retry.Most},
		{name: "denied", match: patch, skip: 1, times: -1, do: func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
			refuse(w, 403, "DENIED", "the quota is used up")
		}, wantErr: "the quota is used up (DENIED, 403 Forbidden)", sessions: 1, patches: 2},
		{name: "the end is lost", match: put, times: 1, do: loseAnswer, sessions: 1, patches: 6},
		{name: "503 at the end", match: put, times: 2, do: status(503), sessions: 1, patches: 6},
		{name: "other bytes arrive", match: patch, skip: 1, times: 1, do: func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
			body, _ := io.ReadAll(r.Body)
			body[0] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(body))
			next(w, r)
		}, wantErr: "DIGEST_INVALID", sessions: 1, patches: 6},
		{name: "more was received than sent", match: patch, times: -1, do: status(202, "Range", "0-99999999"), wantErr: "it was sent those from 0 to", sessions: 1, patches: 1},
		{name: "less was received than sent", match: patch, times: 1, do: func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body[:100]))
			r.Header.Set("Content-Range", "0-99")
			next(w, r)
		}, sessions: 1, patches: 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, known := range []bool{false, true} {
				f, have := newFake(t), newStore()
				f.fault(test.match, test.times, test.do).skip = test.skip
				c := chunkClient(t, Options{})
				desc := have.image(amd64, size)
				data := have.blobs[have.layers(t, desc)[0].Digest]
				var err error
				if known {
					_, err = c.Push(t.Context(), PushRequest{Repo: f.repo("app"), Reference: "v1", Descriptor: desc}, have)
				} else {
					_, err = c.PushStream(t.Context(), f.repo("app"), Stream{Growing: made(data), Key: "layer"}, have)
				}
				if n := f.count(patch); n > test.patches {
					t.Errorf("known %v: %d chunks, more than %d", known, n, test.patches)
				}
				sessions := f.sessions
				if known && sessions > 0 {
					sessions-- // the config's
				}
				if test.wantErr != "" {
					if err == nil || !strings.Contains(asError(t, err).Error(), test.wantErr) {
						t.Errorf("known %v: got %v, want an error with %q", known, err, test.wantErr)
					}
					continue
				}
				if sessions != test.sessions && (!known || test.match != put) { // to which the config belongs too
					t.Errorf("known %v: %d sessions", known, sessions)
				}
				if err != nil || !bytes.Equal(f.blobs["app "+digest.FromBytes(data).String()], data) {
					t.Errorf("known %v: %v", known, err)
				}
			}
		})
	}
}

// cutChunk lets a part of the body arrive and closes the connection.
func cutChunk(n int64) func(http.ResponseWriter, *http.Request, http.HandlerFunc) {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, n), &failing{}))
		next(w, r)
	}
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A registry that wants small chunks, or large ones, gets them.
func TestChunkSizes(t *testing.T) {
	data := content("sizes", 6<<20)
	for _, test := range []struct {
		name  string
		limit int64
		least string
		want  int // chunks that were taken
	}{
		{"limited", 1 << 20, "", 6},
		{"at least", 1 << 30, "5000000", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			taken := 0
			f.fault("PATCH", -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
				if r.ContentLength > test.limit {
					w.WriteHeader(413)
					return
				}
				taken++
				next(w, r)
			})
			f.fault("POST", -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
				if test.least != "" {
					w.Header().Set("OCI-Chunk-Min-Length", test.least)
				}
				next(w, r)
			})
			c := newClient(t, Options{})
			c.chunkSize = 2 << 20
			if _, err := c.PushStream(t.Context(), f.repo("app"), Stream{Growing: made(data), Key: "k"}, nil); err != nil {
				t.Fatal(err)
			}
			if taken != test.want {
				t.Errorf("%d chunks", taken)
			}
		})
	}
}

// A token that expires between two chunks is asked for anew.
func TestChunksWithShortTokens(t *testing.T) {
	f, have := newFake(t), newStore()
	f.auth, f.user, f.password, f.tokenUses = "bearer", "ann", secret, 3
	data := content("tokens", 6*testChunk)
	c := chunkClient(t, Options{Credentials: static("ann", secret)})
	desc, err := c.PushStream(t.Context(), f.repo("app"), Stream{Growing: made(data), Key: "k"}, have)
	if err != nil || !bytes.Equal(f.blobs["app "+desc.Digest.String()], data) {
		t.Fatal(err)
	}
	if n := f.count("/token"); n < 3 {
		t.Errorf("%d tokens", n)
	}
}

// What an earlier process has sent is not sent again; what it has sent wrongly is.
func TestChunksResumed(t *testing.T) {
	data := content("resumed", 8*testChunk)
	for _, test := range []struct {
		name    string
		between func(*fakeRegistry, *memStore)
		patches int // of the second process
	}{
		{"alive", func(*fakeRegistry, *memStore) {}, 5},
		{"in the middle of a chunk", func(f *fakeRegistry, _ *memStore) {
			for k, part := range f.partial {
				f.partial[k] = append(part, data[len(part):len(part)+100]...)
			}
		}, 5},
		{"gone", func(f *fakeRegistry, _ *memStore) { clear(f.partial) }, 8},
		{"with other bytes", func(f *fakeRegistry, _ *memStore) {
			for _, part := range f.partial {
				part[0] ^= 1
			}
		}, 5 + 8},
		{"with too many bytes", func(f *fakeRegistry, _ *memStore) {
			for k := range f.partial {
				f.partial[k] = make([]byte, 20*testChunk)
			}
		}, 8},
		{"elsewhere", func(_ *fakeRegistry, s *memStore) {
			for k := range s.notes {
				s.notes[k] = []byte(`{"url":"ftp://elsewhere.example/"}`)
			}
		}, 8},
		{"held by another", func(_ *fakeRegistry, s *memStore) {
			for k := range s.notes {
				s.locks[k] = true
			}
		}, 8},
		{"a damaged note", func(_ *fakeRegistry, s *memStore) {
			for k := range s.notes {
				s.notes[k] = []byte(`{"url`)
			}
		}, 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, have := newFake(t), newStore()
			ctx, die := context.WithCancel(t.Context())
			f.fault("PATCH", 1, func(http.ResponseWriter, *http.Request, http.HandlerFunc) {
				die()
				panic(http.ErrAbortHandler)
			}).skip = 3
			_, err := chunkClient(t, Options{}).PushStream(ctx, f.repo("app"), Stream{Growing: made(data), Key: "layer"}, have)
			if !errors.Is(err, context.Canceled) || len(have.notes) != 1 {
				t.Fatalf("%v, notes %v", err, have.notes)
			}
			test.between(f, have)
			before := f.count("PATCH")
			desc, err := chunkClient(t, Options{}).PushStream(t.Context(), f.repo("app"), Stream{Growing: made(data), Key: "layer"}, have)
			if err != nil || !bytes.Equal(f.blobs["app "+desc.Digest.String()], data) {
				t.Fatal(err)
			}
			if n := f.count("PATCH") - before; n != test.patches {
				t.Errorf("%d chunks, want %d", n, test.patches)
			}
			if test.name != "held by another" && len(have.notes) > 0 {
				t.Errorf("notes are left: %v", have.notes)
			}
		})
	}
}

// A source that fails ends the upload with its own error, and a registry that takes no bytes is not waited for.
func TestStreamFailures(t *testing.T) {
	f := newFake(t)
	broken := errors.New("broken")
	m := newMaking()
	m.add(content("broken", 3*testChunk), false, nil)
	go func() {
		for f.count("PATCH") == 0 {
			time.Sleep(time.Millisecond)
		}
		m.add(nil, false, broken)
	}()
	c := chunkClient(t, Options{})
	if _, err := c.PushStream(t.Context(), f.repo("app"), Stream{Growing: m, Key: "k"}, nil); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}

	f = newFake(t)
	told := make(chan struct{})
	f.fault("blobs/uploads/1", 1, func(http.ResponseWriter, *http.Request, http.HandlerFunc) { <-told })
	c = newClient(t, Options{})
	c.chunkSize = 16 << 20
	c.retry.stall = 50 * time.Millisecond
	data := bytes.Repeat(content("stalled", 1<<10), 24<<10)
	desc, err := c.PushStream(t.Context(), f.repo("app"), Stream{Growing: made(data), Key: "k"}, nil)
	close(told)
	if err != nil || len(f.blobs["app "+desc.Digest.String()]) != len(data) {
		t.Errorf("stalled: %v", err)
	}
	if !c.noted("broke off") {
		t.Errorf("nobody was told: %v", f.log)
	}
}

// A later client asks for nothing that is remembered, and sends what the registry has lost.
func TestPushRemembers(t *testing.T) {
	f, have := newFake(t), newStore()
	f.auth = ""
	desc := have.image(amd64, 10, 2000, 300)
	push := func(repo, tag string) []string {
		t.Helper()
		before := len(f.log)
		c := newClient(t, Options{})
		if _, err := c.Push(t.Context(), PushRequest{Repo: f.repo(repo), Reference: tag, Descriptor: desc}, have); err != nil {
			t.Fatal(err)
		}
		var log []string
		for _, line := range f.log[before:] {
			if method, path, _ := strings.Cut(line, " "); path != "/v2/" {
				log = append(log, method)
			}
		}
		return log
	}
	push("app", "v1")
	if log := push("app", "v1"); fmt.Sprint(log) != "[HEAD]" {
		t.Errorf("again: %v", log)
	}
	if log := push("app", "v2"); fmt.Sprint(log) != "[HEAD PUT]" {
		t.Errorf("another tag: %v", log)
	}
	if log := push("other", "v1"); fmt.Sprint(log) != "[HEAD POST POST POST POST PUT]" { // mounts
		t.Errorf("another repository: %v", log)
	}
	have.when = time.Now().Add(-2 * trusted)
	if log := push("app", "v3"); len(log) != 1+4+1 || strings.Contains(fmt.Sprint(log), "PUT PUT") {
		t.Errorf("long after: %v", log)
	}
	have.when = time.Time{}
	layer := have.layers(t, desc)[1].Digest
	delete(f.blobs, "app "+layer.String())
	delete(f.blobs, "other "+layer.String())
	push("app", "v4")
	pulled(t, f, "app", "v4", desc, have, amd64)
}

func TestCheckPush(t *testing.T) {
	f := newFake(t)
	c := newClient(t, Options{})
	if err := c.CheckPush(t.Context(), f.repo("app")); err != nil {
		t.Error(err)
	}
	if f.count("DELETE") != 1 {
		t.Error("the session stays open")
	}
	f.auth, f.user, f.password = "basic", "ann", secret
	err := newClient(t, Options{}).CheckPush(t.Context(), f.repo("app"))
	if e := asError(t, err); e.Status != 401 || !strings.Contains(e.Hint, "ocibuild login "+f.host()) {
		t.Error(err)
	}
}

// One request finds out whether a blob is there and opens the session for it; a registry that does not know that is asked by HEAD.
func TestPushAsksOnce(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"session", "[POST PUT]"},
		{"refused", "[POST HEAD POST PUT]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			if test.name == "refused" {
				f.fault("mount=", -1, status(http.StatusBadRequest))
			}
			c := newClient(t, Options{})
			push := func(seed string) string {
				t.Helper()
				before := len(f.log)
				if _, err := c.PushStream(t.Context(), f.repo("app"), Stream{Growing: made(content(seed, 1000)), Key: seed}, nil); err != nil {
					t.Fatal(err)
				}
				var log []string
				for _, line := range f.log[before:] {
					if method, path, _ := strings.Cut(line, " "); path != "/v2/" {
						log = append(log, method)
					}
				}
				return fmt.Sprint(log)
			}
			if got := push("a"); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if got, want := push("b"), "[HEAD POST PUT]"; test.name == "refused" && got != want {
				t.Errorf("after a refusal %s", got)
			}
			c.sent.Clear()
			if got, want := push("a"), map[string]string{"session": "[POST]", "refused": "[HEAD]"}[test.name]; got != want {
				t.Errorf("when it is there %s, want %s", got, want)
			}
		})
	}
}
