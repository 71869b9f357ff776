package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// memStore is a Store in memory that notes the order in which things come.
type memStore struct {
	mu    sync.Mutex
	blobs map[digest.Digest][]byte
	parts map[digest.Digest][]byte
	seen  map[digest.Digest][]string // "host/repository"
	order []digest.Digest
	fail  error // what Put returns
	notes map[string][]byte
	locks map[string]bool
	when  time.Time // of everything seen; the zero time is now
}

func newStore() *memStore {
	return &memStore{blobs: map[digest.Digest][]byte{}, parts: map[digest.Digest][]byte{}, seen: map[digest.Digest][]string{}, notes: map[string][]byte{}, locks: map[string]bool{}}
}

func (s *memStore) Seen(desc ocispec.Descriptor, host, repository string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[desc.Digest] = append(s.seen[desc.Digest], host+"/"+repository)
	return nil
}

func (s *memStore) SeenAt(d digest.Digest, host, repository string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !slices.Contains(s.seen[d], host+"/"+repository):
		return time.Time{}
	case s.when.IsZero():
		return time.Now()
	}
	return s.when
}

func (s *memStore) Places(d digest.Digest) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		s.mu.Lock()
		list := slices.Clone(s.seen[d])
		s.mu.Unlock()
		for _, at := range list {
			if host, name, _ := strings.Cut(at, "/"); !yield(host, name) {
				return
			}
		}
	}
}

func (s *memStore) Lost(d digest.Digest, host, repository string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[d] = slices.DeleteFunc(s.seen[d], func(at string) bool { return at == host+"/"+repository })
	return nil
}

func (s *memStore) Note(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.notes[name]
}

func (s *memStore) PutNote(name string, text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notes[name] = text; text == nil {
		delete(s.notes, name)
	}
	return nil
}

func (s *memStore) TryLock(name string, _ bool) (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locks[name] {
		return nil, nil
	}
	s.locks[name] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.locks, name)
	}, nil
}

func (s *memStore) UseAnywhere(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blobs[d] != nil || len(s.seen[d]) > 0
}

// mismatch is the error for other content.
type mismatch struct{}

func (mismatch) Error() string  { return "fetch: other content" }
func (mismatch) Mismatch() bool { return true }

// Fetch continues parts as the real store does.
func (s *memStore) Fetch(ctx context.Context, want ocispec.Descriptor, open func(context.Context, int64) (io.ReadCloser, error)) error {
	if s.Use(want.Digest) {
		return nil
	}
	if s.fail != nil {
		return s.fail
	}
	s.mu.Lock()
	part := s.parts[want.Digest]
	delete(s.parts, want.Digest)
	s.mu.Unlock()
	r, err := open(ctx, int64(len(part)))
	if err != nil {
		return err
	}
	defer r.Close()
	body, err := io.ReadAll(io.LimitReader(r, want.Size+1))
	body = append(part, body...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.parts[want.Digest] = body
		return err
	}
	if want.Digest.Algorithm().FromBytes(body) != want.Digest || int64(len(body)) != want.Size {
		return mismatch{}
	}
	s.blobs[want.Digest] = body
	s.order = append(s.order, want.Digest)
	return nil
}

func (s *memStore) Use(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.blobs[d]
	return ok
}

func (s *memStore) Blob(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ok := s.blobs[desc.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &checkedReader{r: bytes.NewReader(body), verify: desc.Digest.Verifier()}, nil
}

// checkedReader fails at its end, as the real store's does.
type checkedReader struct {
	r      io.Reader
	verify digest.Verifier
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	_, _ = c.verify.Write(p[:n])
	if err == io.EOF && !c.verify.Verified() {
		return n, fmt.Errorf("the stored blob is damaged")
	}
	return n, err
}

func (c *checkedReader) Close() error { return nil }

func (s *memStore) Put(_ context.Context, want ocispec.Descriptor, r io.Reader) (ocispec.Descriptor, error) {
	if s.fail != nil {
		return want, s.fail
	}
	body, err := io.ReadAll(r)
	if err != nil {
		return want, err
	}
	if want.Digest.Algorithm().FromBytes(body) != want.Digest || int64(len(body)) != want.Size {
		return want, fmt.Errorf("put: other content")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[want.Digest] = body
	s.order = append(s.order, want.Digest)
	return want, nil
}

// add stores bytes and describes them.
func (s *memStore) add(mediaType string, body []byte) ocispec.Descriptor {
	d := digest.FromBytes(body)
	s.blobs[d] = body
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
}

func (s *memStore) addJSON(mediaType string, v any) ocispec.Descriptor {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return s.add(mediaType, body)
}

// image stores an image of a platform with layers of the given sizes.
func (s *memStore) image(p ocispec.Platform, sizes ...int) ocispec.Descriptor {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	m.Config = s.addJSON(ocispec.MediaTypeImageConfig, ocispec.Image{Platform: p})
	for i, size := range sizes {
		m.Layers = append(m.Layers, s.add(ocispec.MediaTypeImageLayerGzip, content(p.Architecture+p.Variant+strconv.Itoa(i), size)))
	}
	return s.addJSON(ocispec.MediaTypeImageManifest, m)
}

// index stores an index of images, each with its platform.
func (s *memStore) index(platforms ...ocispec.Platform) ocispec.Descriptor {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, p := range platforms {
		desc := s.image(p, 1000)
		desc.Platform = &p
		index.Manifests = append(index.Manifests, desc)
	}
	return s.addJSON(ocispec.MediaTypeImageIndex, index)
}

// content returns size bytes that depend on the seed.
func content(seed string, size int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		b.WriteString(digest.FromString(seed + strconv.Itoa(i)).Encoded())
	}
	return b.Bytes()[:size]
}

// layers returns the layers of a stored image.
func (s *memStore) layers(t *testing.T, desc ocispec.Descriptor) []ocispec.Descriptor {
	t.Helper()
	doc, err := parseManifest(desc.MediaType, s.blobs[desc.Digest])
	if err != nil {
		t.Fatal(err)
	}
	return doc.Layers
}

var (
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	armV7 = ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
)

// only is the one platform that a pull wants.
func only(p ocispec.Platform) []ocispec.Platform { return []ocispec.Platform{p} }

// nest stores an index of documents as they are.
func (s *memStore) nest(entries ...ocispec.Descriptor) ocispec.Descriptor {
	return s.addJSON(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries,
	})
}

// artifact stores an artifact about a subject.
func (s *memStore) artifact(subject ocispec.Descriptor) ocispec.Descriptor {
	return s.addJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.test.note",
		Config: s.add(ocispec.MediaTypeEmptyJSON, []byte("{}")), Layers: []ocispec.Descriptor{s.add("text/plain", []byte("a note"))},
		Subject: &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	})
}

// attestation stores what BuildKit says of an image, as an entry of an index.
func (s *memStore) attestation(image ocispec.Descriptor) ocispec.Descriptor {
	desc := s.addJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: s.addJSON(ocispec.MediaTypeImageConfig, ocispec.Image{Platform: ocispec.Platform{OS: "unknown", Architecture: "unknown"}}),
		Layers: []ocispec.Descriptor{s.add("application/vnd.in-toto+json", []byte(`{"_type":"`+image.Digest.String()+`"}`))},
	})
	desc.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	desc.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.Digest.String()}
	return desc
}
