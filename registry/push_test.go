package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ocibuild/ocibuild/registry/retry"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pulled checks that a tag gives back an image byte by byte.
func pulled(t *testing.T, f *fakeRegistry, repo, tag string, desc ocispec.Descriptor, have *memStore, platforms ...ocispec.Platform) {
	t.Helper()
	into := newStore()
	for _, p := range platforms {
		got, err := newClient(t, Options{}).Pull(context.Background(), PullRequest{Repo: f.repo(repo), Reference: tag, Platforms: only(p)}, into)
		if err != nil {
			t.Fatal(err)
		}
		if got.Digest != desc.Digest {
			t.Fatalf("%s is %s, not %s", tag, got.Digest, desc.Digest)
		}
	}
	for d, body := range into.blobs {
		if !bytes.Equal(body, have.blobs[d]) {
			t.Errorf("%s has other bytes", d)
		}
	}
}

func TestPush(t *testing.T) {
	for _, absolute := range []bool{false, true} {
		f, have := newFake(t), newStore()
		f.absolute = absolute
		desc := have.image(amd64, 10, 600<<10, 0, 10)
		c := newClient(t, Options{})
		req := PushRequest{Repo: f.repo("team/app"), Reference: "v1", Descriptor: desc}
		if _, err := c.Push(context.Background(), req, have); err != nil {
			t.Fatal(err)
		}
		pulled(t, f, "team/app", "v1", desc, have, amd64)
		before := len(f.log)
		if _, err := c.Push(context.Background(), req, have); err != nil {
			t.Fatal(err)
		}
		if again := f.log[before:]; len(again) != 1 {
			t.Errorf("a second push did %v", again)
		}
		req.Reference = "v2"
		if _, err := c.Push(context.Background(), req, have); err != nil {
			t.Fatal(err)
		}
		if n := f.count("POST"); n != 5 {
			t.Errorf("another tag uploaded something: %d uploads", n)
		}
	}
}

func TestPushByDigest(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.image(amd64, 10)
	if _, err := newClient(t, Options{}).Push(context.Background(), PushRequest{Repo: f.repo("app"), Descriptor: desc}, have); err != nil {
		t.Fatal(err)
	}
	pulled(t, f, "app", desc.Digest.String(), desc, have, amd64)
}

func TestPushIndex(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.index(amd64, arm64, armV7)
	if _, err := newClient(t, Options{}).Push(context.Background(), PushRequest{Repo: f.repo("app"), Reference: "v1", Descriptor: desc}, have); err != nil {
		t.Fatal(err)
	}
	pulled(t, f, "app", "v1", desc, have, amd64, arm64, armV7)
}

// TestPushPartOfIndex pushes an index of which one or two platforms were pulled.
func TestPushPartOfIndex(t *testing.T) {
	f, all := newFake(t), newStore()
	desc := all.index(amd64, arm64, armV7)
	f.seed("origin", "v1", all, desc)
	pull := func(t *testing.T, platforms ...ocispec.Platform) *memStore {
		have := newStore()
		for _, p := range platforms {
			if _, err := newClient(t, Options{}).Pull(context.Background(), PullRequest{Repo: f.repo("origin"), Reference: "v1", Platforms: only(p)}, have); err != nil {
				t.Fatal(err)
			}
		}
		return have
	}
	resolve := func(t *testing.T, repo string) ocispec.Descriptor {
		got, err := newClient(t, Options{}).Resolve(context.Background(), f.repo(repo), "v1")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}

	t.Run("back where it came from", func(t *testing.T) {
		c := newClient(t, Options{})
		if _, err := c.Push(context.Background(), PushRequest{Repo: f.repo("origin"), Reference: "v2", Descriptor: desc}, pull(t, arm64)); err != nil {
			t.Fatal(err)
		}
		pulled(t, f, "origin", "v2", desc, all, amd64, arm64, armV7)
	})
	t.Run("one", func(t *testing.T) {
		c := newClient(t, Options{})
		pushed, err := c.Push(context.Background(), PushRequest{Repo: f.repo("one"), Reference: "v1", Descriptor: desc}, pull(t, arm64))
		if err != nil {
			t.Fatal(err)
		}
		got := resolve(t, "one")
		if strings.Join(pushed.Without, " ") != "linux/amd64 linux/arm/v7" {
			t.Errorf("without %v", pushed.Without)
		}
		if pushed.Digest != got.Digest {
			t.Errorf("it says that %s was pushed, and the registry has %s", pushed.Digest, got.Digest)
		}
		if got.MediaType != ocispec.MediaTypeImageManifest || !c.noted("without linux/amd64, linux/arm/v7") {
			t.Errorf("got %v, notes %v", got, c.notes)
		}
		pulled(t, f, "one", "v1", got, all, arm64)
	})
	t.Run("two", func(t *testing.T) {
		c, have := newClient(t, Options{}), pull(t, arm64, amd64)
		if _, err := c.Push(context.Background(), PushRequest{Repo: f.repo("two"), Reference: "v1", Descriptor: desc}, have); err != nil {
			t.Fatal(err)
		}
		got, body, err := c.Manifest(context.Background(), f.repo("two"), "v1")
		if err != nil {
			t.Fatal(err)
		}
		doc, err := parseManifest(got.MediaType, body)
		if err != nil || len(doc.Manifests) != 2 || doc.Manifests[0].Platform == nil {
			t.Errorf("%v %s", err, body)
		}
	})
	t.Run("by digest", func(t *testing.T) {
		_, err := newClient(t, Options{}).Push(context.Background(), PushRequest{Repo: f.repo("three"), Descriptor: desc}, pull(t, arm64))
		if e := asError(t, err); !strings.Contains(e.Message, "it lacks linux/amd64, linux/arm/v7") {
			t.Error(err)
		}
	})
}

func TestPushMounts(t *testing.T) {
	for _, test := range []struct {
		name    string
		setup   func(*fakeRegistry)
		uploads int
	}{
		{"mounted", func(*fakeRegistry) {}, 1}, // the config is nowhere yet
		{"refused with a session", func(f *fakeRegistry) { f.noMount = true }, 2},
		{"refused with an error", func(f *fakeRegistry) { f.fault("mount=", -1, status(http.StatusForbidden)) }, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, have := newFake(t), newStore()
			desc := have.image(amd64, 1000)
			layer := have.layers(t, desc)[0]
			f.blobs["base "+layer.Digest.String()] = have.blobs[layer.Digest]
			test.setup(f)
			c := newClient(t, Options{})
			_, err := c.Push(context.Background(), PushRequest{
				Repo: f.repo("app"), Reference: "v1", Descriptor: desc,
				MountFrom: []Repository{{Host: "elsewhere.example", Name: "base"}, f.repo("base"), f.repo("app")},
			}, have)
			if err != nil {
				t.Fatal(err)
			}
			if n := f.count("PUT /v2/app/blobs/uploads/"); n != test.uploads {
				t.Errorf("%d uploads, want %d", n, test.uploads)
			}
			pulled(t, f, "app", "v1", desc, have, amd64)
		})
	}
}

func TestMountBlob(t *testing.T) {
	f, c := newFake(t), newClient(t, Options{})
	body := []byte("layer")
	d := digest.FromBytes(body)
	f.blobs["base "+d.String()] = body
	for _, test := range []struct {
		name string
		from Repository
		want bool
	}{
		{"there", f.repo("base"), true},
		{"not there", f.repo("other"), false},
		{"another host", Repository{Host: "elsewhere.example", Name: "base"}, false},
	} {
		got, err := c.MountBlob(context.Background(), f.repo("app"), test.from, d)
		if err != nil || got != test.want {
			t.Errorf("%s: %v %v", test.name, got, err)
		}
	}
	if there, err := c.BlobExists(context.Background(), f.repo("app"), d); err != nil || !there {
		t.Errorf("after mounting: %v %v", there, err)
	}
	if there, err := c.BlobExists(context.Background(), f.repo("none"), d); err != nil || there {
		t.Errorf("elsewhere: %v %v", there, err)
	}
	if f.count("DELETE") != 1 {
		t.Error("the session that nobody wanted was left open")
	}
}

// TestPushFaults pushes one image to a registry that goes wrong.
func TestPushFaults(t *testing.T) {
	const upload, size = "PUT /v2/app/blobs/uploads/", 2 << 20
	for _, test := range []struct {
		name    string
		match   string
		times   int
		do      func(http.ResponseWriter, *http.Request, http.HandlerFunc)
		wantErr string
		puts    int // of blobs, at most
	}{
		{name: "none", match: "-", puts: 2},
		{name: "upload cut in the middle", match: upload, times: 2, do: cutUpload, puts: 4},
		{name: "503 on upload", match: upload, times: 3, do: status(503), puts: 5},
		{name: "429 on upload", match: upload, times: 1, do: status(429, "Retry-After", "1"), puts: 3},
		{name: "stored but the answer is lost", match: upload, times: 2, do: loseAnswer, puts: 2},
		{name: "the session got lost", match: upload, times: 1, do: func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
			refuse(w, 404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
		}, puts: 3},
		{name: "503 for ever", match: upload, times: -1, do: status(503), wantErr: "503", puts: 2 * (retry.Most + 1)},
		{name: "too large", match: upload, times: -1, do: status(413), wantErr: "limits the size", puts: 2},
		{name: "5xx on beginning", match: "POST", times: 3, do: status(500), puts: 2},
		{name: "5xx on the manifest", match: "PUT /v2/app/manifests", times: 3, do: status(500), puts: 2},
		{name: "manifest refused", match: "PUT /v2/app/manifests", times: -1, do: func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
			refuse(w, 400, "TAG_INVALID", "the tag v1 is immutable")
		}, wantErr: "the tag v1 is immutable (TAG_INVALID, 400 Bad Request)", puts: 2},
		{name: "denied", match: "POST", times: -1, do: func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
			refuse(w, 403, "DENIED", "requested access to the resource is denied")
		}, wantErr: "run `ocibuild login ", puts: 0},
		{name: "other bytes stored", match: upload, times: -1, do: func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
			body, _ := io.ReadAll(r.Body)
			body[0] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(body))
			next(w, r)
		}, wantErr: "DIGEST_INVALID", puts: 2},
		{name: "no place given", match: "POST", times: -1, do: status(202), wantErr: "no place"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, have := newFake(t), newStore()
			desc := have.image(amd64, size)
			f.fault(test.match, test.times, test.do)
			c := newClient(t, Options{})
			_, err := c.Push(context.Background(), PushRequest{Repo: f.repo("app"), Reference: "v1", Descriptor: desc}, have)
			if n := f.count(upload); n > test.puts {
				t.Errorf("%d uploads, more than %d", n, test.puts)
			}
			if test.wantErr != "" {
				if err == nil || !strings.Contains(asError(t, err).Error(), test.wantErr) {
					t.Errorf("got %v, want an error with %q", err, test.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			pulled(t, f, "app", "v1", desc, have, amd64)
		})
	}
}

// cutUpload closes the connection after a part of the body.
func cutUpload(_ http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	_, _ = io.CopyN(io.Discard, r.Body, 100)
	panic(http.ErrAbortHandler)
}

// loseAnswer does what it is asked and says nothing.
func loseAnswer(_ http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	next(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

func TestPushSourceFailures(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*memStore, digest.Digest)
		want  string
		is    error
	}{
		{"missing", func(s *memStore, d digest.Digest) { delete(s.blobs, d) }, "read blob", fs.ErrNotExist},
		{"damaged", func(s *memStore, d digest.Digest) { s.blobs[d] = append([]byte("x"), s.blobs[d][1:]...) }, "the stored blob is damaged", nil},
		{"short", func(s *memStore, d digest.Digest) { s.blobs[d] = s.blobs[d][:10] }, "the stored blob is damaged", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, have := newFake(t), newStore()
			desc := have.image(amd64, 1<<20)
			test.spoil(have, have.layers(t, desc)[0].Digest)
			c := newClient(t, Options{})
			_, err := c.Push(context.Background(), PushRequest{Repo: f.repo("app"), Reference: "v1", Descriptor: desc}, have)
			var e *Error
			if err == nil || errors.As(err, &e) || !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("got %v (%T)", err, err)
			}
			if len(c.pauses) > 0 {
				t.Errorf("tried again: %v", c.notes)
			}
			if _, ok := f.manifests["app v1"]; ok {
				t.Error("the tag was pushed")
			}
		})
	}
}

// TestPushLocationElsewhere sends the bytes to another host, which must see no credential.
func TestPushLocationElsewhere(t *testing.T) {
	f, have := newFake(t), newStore()
	f.auth, f.user, f.password = "basic", "ann", "correct horse"
	desc := have.image(amd64, 1000)
	var leaked string
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked += r.Header.Get("Authorization")
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.blobs["app "+digest.FromBytes(body).String()] = body
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(storage.Close)
	f.fault("POST", -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		w.Header().Set("Location", storage.URL+"/upload?sig=1")
		rec := httptest.NewRecorder()
		if next(rec, r); rec.Code != http.StatusAccepted {
			w.Header().Del("Location")
			w.Header().Set("WWW-Authenticate", rec.Header().Get("WWW-Authenticate"))
		}
		w.WriteHeader(rec.Code)
	})
	c := newClient(t, Options{Credentials: static("ann", "correct horse")})
	if _, err := c.Push(context.Background(), PushRequest{Repo: f.repo("app"), Reference: "v1", Descriptor: desc}, have); err != nil {
		t.Fatal(err)
	}
	if leaked != "" {
		t.Error("a credential went to another host")
	}
}

func TestUploadLocation(t *testing.T) {
	for _, test := range []struct{ name, scheme, host, location, want string }{
		{"relative", "https", "r.example", "/v2/a/blobs/uploads/1?x=y", "https://r.example/v2/a/blobs/uploads/1?x=y"},
		{"absolute", "https", "r.example", "https://r.example/u", "https://r.example/u"},
		{"another host", "https", "r.example", "https://s.example/u", "https://s.example/u"},
		{"behind a TLS proxy", "https", "r.example", "http://r.example/u", "https://r.example/u"},
		{"behind a TLS proxy with a port", "https", "r.example:8443", "http://r.example/u", "https://r.example:8443/u"},
		{"plain elsewhere", "https", "r.example", "http://s.example/u", ""},
		{"plain elsewhere allowed", "https", "r.example", "http://lab.example/u", "http://lab.example/u"},
		{"plain", "http", "r.example", "http://s.example/u", "http://s.example/u"},
		{"to https", "http", "r.example", "https://s.example/u", "https://s.example/u"},
		{"odd scheme", "https", "r.example", "file:///etc/passwd", ""},
		{"none", "https", "r.example", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClient(t, Options{Insecure: []string{"lab.example"}})
			u := &upload{j: job{c: c.Client, op: "push", repo: Repository{Host: test.host, Name: "a"}}}
			req, err := http.NewRequest(http.MethodPost, test.scheme+"://"+test.host+"/v2/a/blobs/uploads/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp := &http.Response{Header: http.Header{}, Request: req}
			if test.location != "" {
				resp.Header.Set("Location", test.location)
			}
			got, err := u.location(&endpoint{scheme: test.scheme, host: test.host}, resp)
			if test.want == "" {
				asError(t, err)
				return
			}
			if err != nil || got.String() != test.want {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestPushBlobAndManifest(t *testing.T) {
	f, c := newFake(t), newClient(t, Options{})
	body := []byte("a blob")
	desc := ocispec.Descriptor{Digest: digest.FromBytes(body), Size: int64(len(body))}
	open := func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	if err := c.PushBlob(context.Background(), f.repo("app"), desc, open); err != nil {
		t.Fatal(err)
	}
	rc, err := c.Blob(context.Background(), f.repo("app"), desc)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(rc)
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("%q %v", got, err)
	}
	rc.Close()
	if _, err := rc.Read(make([]byte, 1)); err == nil {
		t.Error("read after close")
	}

	desc.MediaType = ocispec.MediaTypeImageConfig
	m := newStore()
	manifest := m.addJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: desc})
	if err := c.PushManifest(context.Background(), f.repo("app"), "v1", manifest, m.blobs[manifest.Digest]); err != nil {
		t.Fatal(err)
	}
	if err := c.PushManifest(context.Background(), f.repo("app"), "v1", manifest, []byte("{}")); err == nil {
		t.Error("a manifest with another digest was pushed")
	}
	for _, reference := range []string{"v1", manifest.Digest.String()} {
		resolved, err := c.Resolve(context.Background(), f.repo("app"), reference)
		if err != nil || resolved.Digest != manifest.Digest || resolved.Size != manifest.Size || resolved.MediaType != manifest.MediaType {
			t.Errorf("%s: %v %v", reference, resolved, err)
		}
	}
}

func TestResolveWithoutHead(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.image(amd64, 1)
	f.seed("app", "v1", have, desc)
	f.fault("HEAD", -1, status(http.StatusMethodNotAllowed))
	got, err := newClient(t, Options{}).Resolve(context.Background(), f.repo("app"), "v1")
	if err != nil || got.Digest != desc.Digest {
		t.Errorf("%v %v", got, err)
	}
	_, err = newClient(t, Options{}).Resolve(context.Background(), f.repo("app"), "v2")
	if e := asError(t, err); e.Code != "MANIFEST_UNKNOWN" || e.Status != 404 {
		t.Error(err)
	}
}
