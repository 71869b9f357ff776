package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/registry/hosts"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fakeRegistry is a registry in memory that goes wrong as its faults say.
type fakeRegistry struct {
	*httptest.Server
	t *testing.T

	mu        sync.Mutex
	blobs     map[string][]byte // "repo digest"
	manifests map[string]stored // "repo tag-or-digest"
	sessions  int
	partial   map[string][]byte // what uploads in chunks have brought, by "repo session"
	noChunks  bool
	faults    []*fault
	log       []string // "GET /v2/..."
	noMount   bool
	noRange   bool
	absolute  bool   // Location headers are whole URLs
	referrers bool   // it lists manifests by their subjects
	deletes   string // "tags": it deletes tags and manifests; "digests": manifests; "": neither

	// auth is "", "basic" or "bearer".
	auth           string
	user, password string
	tokenUses      int // how many requests a token is good for; 0: any number
	tokens         map[string]*token
	realm          string
}

type stored struct {
	mediaType string
	body      []byte
}

type token struct {
	scopes []string
	uses   int
}

// fault happens to the requests whose "METHOD path" contains match, times times (-1: always) after skip of them went well.
type fault struct {
	match       string
	skip, times int
	do          func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc)
}

func newFake(t *testing.T) *fakeRegistry {
	t.Helper()
	f := &fakeRegistry{t: t, blobs: map[string][]byte{}, partial: map[string][]byte{}, manifests: map[string]stored{}, tokens: map[string]*token{}}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeRegistry) host() string {
	return strings.TrimPrefix(strings.TrimPrefix(f.URL, "http://"), "https://")
}

func (f *fakeRegistry) repo(name string) Repository { return Repository{Host: f.host(), Name: name} }

func (f *fakeRegistry) fault(match string, times int, do func(http.ResponseWriter, *http.Request, http.HandlerFunc)) *fault {
	ft := &fault{match: match, times: times, do: do}
	f.faults = append(f.faults, ft)
	return ft
}

// count returns how many requests contain a text.
func (f *fakeRegistry) count(text string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, line := range f.log {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (f *fakeRegistry) serve(w http.ResponseWriter, r *http.Request) {
	line := r.Method + " " + r.URL.RequestURI()
	f.mu.Lock()
	f.log = append(f.log, line)
	var do func(http.ResponseWriter, *http.Request, http.HandlerFunc)
	for _, ft := range f.faults {
		if ft.times == 0 || !strings.Contains(line, ft.match) {
			continue
		}
		if ft.skip > 0 {
			ft.skip--
			continue
		}
		ft.times--
		do = ft.do
		break
	}
	f.mu.Unlock()
	if do != nil {
		do(w, r, f.route)
		return
	}
	f.route(w, r)
}

func (f *fakeRegistry) route(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		f.giveToken(w, r)
		return
	}
	if !f.allowed(w, r) {
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	switch {
	case path == "":
		w.WriteHeader(http.StatusOK)
	case strings.Contains(path, "/blobs/uploads/"):
		name, session, _ := strings.Cut(path, "/blobs/uploads/")
		f.upload(w, r, name, session)
	case strings.Contains(path, "/blobs/"):
		name, d, _ := strings.Cut(path, "/blobs/")
		f.blob(w, r, name, d)
	case strings.Contains(path, "/manifests/"):
		name, ref, _ := strings.Cut(path, "/manifests/")
		f.manifest(w, r, name, ref)
	case strings.Contains(path, "/referrers/") && f.referrers:
		name, d, _ := strings.Cut(path, "/referrers/")
		f.listReferrers(w, name, d)
	case path == "_catalog":
		f.list(w, r, "repositories", f.repositories())
	case strings.HasSuffix(path, "/tags/list"):
		f.list(w, r, "tags", f.tags(strings.TrimSuffix(path, "/tags/list")))
	default:
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	}
}

// listReferrers answers as the specification wants it.
func (f *fakeRegistry) listReferrers(w http.ResponseWriter, repo, subject string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	index.SchemaVersion = 2
	for key, m := range f.manifests {
		name, ref, _ := strings.Cut(key, " ")
		desc := ocispec.Descriptor{MediaType: m.mediaType, Digest: digest.Digest(ref), Size: int64(len(m.body))}
		of, entry := aboutSubject(desc, m.body)
		if name == repo && strings.Contains(ref, ":") && of != nil && of.Digest.String() == subject {
			index.Manifests = append(index.Manifests, entry)
		}
	}
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	_ = json.NewEncoder(w).Encode(index)
}

func (f *fakeRegistry) repositories() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for key := range f.manifests {
		name, _, _ := strings.Cut(key, " ")
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (f *fakeRegistry) tags(repo string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var tags []string
	for key := range f.manifests {
		if name, ref, _ := strings.Cut(key, " "); name == repo && !strings.Contains(ref, ":") {
			tags = append(tags, ref)
		}
	}
	slices.Sort(tags)
	return tags
}

// list answers with a page of names, two of them at most.
func (f *fakeRegistry) list(w http.ResponseWriter, r *http.Request, key string, names []string) {
	last := r.URL.Query().Get("last")
	names = slices.DeleteFunc(names, func(n string) bool { return n <= last })
	if len(names) == 0 && last == "" {
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	if len(names) > 2 {
		names = names[:2]
		w.Header().Set("Link", fmt.Sprintf(`<%s?n=2&last=%s>; rel="next"`, r.URL.Path, names[1]))
	}
	_ = json.NewEncoder(w).Encode(map[string][]string{key: names})
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

func (f *fakeRegistry) allowed(w http.ResponseWriter, r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	header := r.Header.Get("Authorization")
	switch f.auth {
	case "":
		return true
	case "basic":
		if user, password, ok := r.BasicAuth(); ok && user == f.user && password == f.password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="fake"`)
	case "bearer":
		scope := "repository:" + repoOf(r.URL.Path) + ":pull"
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			scope += ",push"
		}
		if tk := f.tokens[strings.TrimPrefix(header, "Bearer ")]; tk != nil && tk.uses != 0 {
			tk.uses--
			return true
		}
		realm := f.realm
		if realm == "" {
			realm = f.URL + "/token"
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="fake",scope=%q`, realm, scope))
	}
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

func repoOf(path string) string {
	path = strings.TrimPrefix(path, "/v2/")
	for _, sep := range []string{"/blobs/", "/manifests/"} {
		if name, _, ok := strings.Cut(path, sep); ok {
			return name
		}
	}
	return ""
}

func (f *fakeRegistry) giveToken(w http.ResponseWriter, r *http.Request) {
	user, password, ok := r.BasicAuth()
	if f.user != "" && (!ok || user != f.user || password != f.password) {
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	name := "token-" + strconv.Itoa(len(f.tokens))
	uses := f.tokenUses
	if uses == 0 {
		uses = -1
	}
	f.tokens[name] = &token{scopes: r.URL.Query()["scope"], uses: uses}
	_ = json.NewEncoder(w).Encode(map[string]string{"token": name})
}

func (f *fakeRegistry) upload(w http.ResponseWriter, r *http.Request, name, session string) {
	body, err := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	query := r.URL.Query()
	switch r.Method {
	case http.MethodPost:
		from, ok := f.blobs[query.Get("from")+" "+query.Get("mount")]
		if ok && !f.noMount {
			f.blobs[name+" "+query.Get("mount")] = from
			w.WriteHeader(http.StatusCreated)
			return
		}
		f.sessions++
		location := fmt.Sprintf("/v2/%s/blobs/uploads/%d?state=a%%2Bb", name, f.sessions)
		if f.absolute {
			location = f.URL + location
		}
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPatch:
		f.patch(w, r, name+" "+session, body, err)
	case http.MethodGet:
		if part, ok := f.partial[name+" "+session]; ok {
			w.Header().Set("Location", r.URL.RequestURI())
			w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, len(part)-1)))
			w.WriteHeader(http.StatusNoContent)
			return
		}
		refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
	case http.MethodPut:
		d := digest.Digest(query.Get("digest"))
		body = append(f.partial[name+" "+session], body...)
		switch {
		case err != nil:
			panic(http.ErrAbortHandler)
		case query.Get("state") != "a+b":
			refuse(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "the state is lost")
		case digest.FromBytes(body) != d:
			refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
		default:
			f.blobs[name+" "+d.String()] = body
			w.WriteHeader(http.StatusCreated)
		}
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// patch takes a chunk. What has come of one that breaks off is kept, as the specification wants it.
func (f *fakeRegistry) patch(w http.ResponseWriter, r *http.Request, session string, body []byte, err error) {
	var from, to int
	part := f.partial[session]
	if _, scanErr := fmt.Sscanf(r.Header.Get("Content-Range"), "%d-%d", &from, &to); f.noChunks || scanErr != nil {
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "the operation is unsupported")
		return
	}
	if from != len(part) || err == nil && to-from+1 != len(body) {
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", "the range is invalid")
		return
	}
	f.partial[session] = append(part, body...)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Location", r.URL.RequestURI())
	w.Header().Set("Range", fmt.Sprintf("0-%d", len(f.partial[session])-1))
	w.WriteHeader(http.StatusAccepted)
}

func (f *fakeRegistry) blob(w http.ResponseWriter, r *http.Request, name, d string) {
	f.mu.Lock()
	body, ok := f.blobs[name+" "+d]
	f.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if f.noRange {
		r.Header.Del("Range")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func (f *fakeRegistry) manifest(w http.ResponseWriter, r *http.Request, name, ref string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Method == http.MethodPut {
		body, _ := io.ReadAll(r.Body)
		f.putManifest(w, name, ref, stored{r.Header.Get("Content-Type"), body})
		return
	}
	m, ok := f.manifests[name+" "+ref]
	if r.Method == http.MethodDelete && (ok || f.deletes != "tags") {
		f.deleteManifest(w, name, ref)
		return
	}
	if !ok {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(m.body).String())
	w.Header().Set("Content-Length", strconv.Itoa(len(m.body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(m.body)
	}
}

// deleteManifest deletes a tag, or a manifest with all its tags, if it is set up for that.
func (f *fakeRegistry) deleteManifest(w http.ResponseWriter, name, ref string) {
	byDigest := strings.Contains(ref, ":")
	switch {
	case f.deletes == "", f.deletes == "digests" && !byDigest:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "The operation is unsupported.")
		return
	case byDigest:
		for key, m := range f.manifests {
			if strings.HasPrefix(key, name+" ") && digest.FromBytes(m.body).String() == ref {
				delete(f.manifests, key)
			}
		}
	default:
		delete(f.manifests, name+" "+ref)
	}
	w.WriteHeader(http.StatusAccepted)
}

// putManifest stores a manifest whose children are all there.
func (f *fakeRegistry) putManifest(w http.ResponseWriter, name, ref string, m stored) {
	doc, err := parseManifest(m.mediaType, m.body)
	if err != nil {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	for _, child := range doc.children() {
		_, isBlob := f.blobs[name+" "+child.Digest.String()]
		_, isManifest := f.manifests[name+" "+child.Digest.String()]
		if !isBlob && !isManifest {
			refuse(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "manifest references unknown "+child.Digest.String())
			return
		}
	}
	d := digest.FromBytes(m.body).String()
	f.manifests[name+" "+ref], f.manifests[name+" "+d] = m, m
	w.Header().Set("Docker-Content-Digest", d)
	if subject, _ := aboutSubject(ocispec.Descriptor{}, m.body); subject != nil && f.referrers {
		w.Header().Set("OCI-Subject", subject.Digest.String())
	}
	w.WriteHeader(http.StatusCreated)
}

// seed puts all that a store has into a repository, and tags desc.
func (f *fakeRegistry) seed(name, tag string, from *memStore, desc ocispec.Descriptor) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for d, body := range from.blobs {
		f.blobs[name+" "+d.String()] = body
		if doc, err := parseManifest("", body); err == nil {
			f.manifests[name+" "+d.String()] = stored{doc.MediaType, body}
		}
	}
	f.manifests[name+" "+tag] = stored{desc.MediaType, from.blobs[desc.Digest]}
}

// cut gives a complete header and only the first n bytes of the body.
func cut(n int) func(http.ResponseWriter, *http.Request, http.HandlerFunc) {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		rec := httptest.NewRecorder()
		next(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.Header().Set("Content-Length", strconv.Itoa(rec.Body.Len()))
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:min(n, rec.Body.Len())])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// status answers with a status alone.
func status(code int, header ...string) func(http.ResponseWriter, *http.Request, http.HandlerFunc) {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// hangUp closes the connection without an answer.
func hangUp(http.ResponseWriter, *http.Request, http.HandlerFunc) { panic(http.ErrAbortHandler) }

// flip changes one bit of the body.
func flip(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	rec := httptest.NewRecorder()
	next(rec, r)
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	body := rec.Body.Bytes()
	body[len(body)/2] ^= 1
	_, _ = w.Write(body)
}

// testClient is a client whose pauses take no time and are written down.
type testClient struct {
	*Client
	mu     sync.Mutex
	pauses []time.Duration
	notes  []Progress
}

func newClient(t *testing.T, o Options) *testClient {
	t.Helper()
	tc := &testClient{}
	if o.Credentials == nil && o.ConfigDir == "" {
		o.ConfigDir = t.TempDir()
	}
	if o.Hosts == nil {
		o.Hosts = new(hosts.Config)
	}
	o.Progress = func(p Progress) {
		tc.mu.Lock()
		defer tc.mu.Unlock()
		tc.notes = append(tc.notes, p)
	}
	tc.Client = New(o)
	tc.retry.random = func() float64 { return 0 }
	tc.retry.sleep = func(ctx context.Context, d time.Duration) error {
		tc.mu.Lock()
		defer tc.mu.Unlock()
		tc.pauses = append(tc.pauses, d)
		return ctx.Err()
	}
	t.Cleanup(func() {
		for _, transport := range tc.transports {
			transport.CloseIdleConnections()
		}
	})
	return tc
}

// noted reports whether a note contains a text.
func (tc *testClient) noted(text string) bool {
	tc.mu.Lock()
	defer tc.mu.Unlock()
	for _, p := range tc.notes {
		if strings.Contains(p.Note, text) {
			return true
		}
	}
	return false
}

func static(user, password string) CredentialFunc {
	return func(context.Context, string) (Credential, error) {
		return Credential{Username: user, Password: password}, nil
	}
}
