package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// away is a blob at a place that can break.
type away struct {
	body  []byte
	opens []int64 // the offsets that were asked for
	cut   int     // give so many bytes and break; 0: never
	mu    sync.Mutex
}

var errCut = errors.New("cut")

func newAway(size int) (*away, ocispec.Descriptor) {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(i * i >> 7)
	}
	return &away{body: body}, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(body), Size: int64(size)}
}

func (a *away) open(_ context.Context, offset int64) (io.ReadCloser, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opens = append(a.opens, offset)
	if a.cut > 0 {
		return io.NopCloser(io.MultiReader(bytes.NewReader(a.body[offset:][:a.cut]), failing{})), nil
	}
	return io.NopCloser(bytes.NewReader(a.body[offset:])), nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errCut }

func parts(t *testing.T, s *Store) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(s.path("ingest"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%s %d", e.Name()[:strings.IndexByte(e.Name(), '-')], info.Size()))
	}
	return list
}

func wantParts(t *testing.T, s *Store, want ...string) {
	t.Helper()
	if got := parts(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("ingest/ has %v, want %v", got, want)
	}
}

func wantBlob(t *testing.T, s *Store, desc ocispec.Descriptor) {
	t.Helper()
	if err := s.verify(t.Context(), desc.Digest); err != nil {
		t.Error(err)
	}
}

func TestFetchContinues(t *testing.T) {
	s := newStore(t)
	a, desc := newAway(3 << 20)
	a.cut = 1 << 20
	for range 2 {
		if err := s.Fetch(t.Context(), desc, a.open); !errors.Is(err, errCut) {
			t.Fatalf("got %v", err)
		}
	}
	wantParts(t, s, "part 2097152")
	again := openTest(t, s.root, disk{flush: noFlush}) // another process
	if err := again.Fetch(t.Context(), desc, a.open); err == nil {
		t.Log("the last piece ended where the blob ends")
	}
	a.cut = 0
	if err := again.Fetch(t.Context(), desc, a.open); err != nil {
		t.Fatal(err)
	}
	wantParts(t, s)
	wantBlob(t, s, desc)
	if fmt.Sprint(a.opens[:3]) != "[0 1048576 2097152]" {
		t.Errorf("asked for %v", a.opens)
	}
}

// TestFetchOfLargePartLeavesNothingRunning cuts a blob that the kernel has begun to write to the disk.
func TestFetchOfLargePartLeavesNothingRunning(t *testing.T) {
	s := newStore(t)
	from, desc := newAway(3 * writebackStep)
	from.cut = writebackStep + writebackStep/2
	before := runtime.NumGoroutine()
	if err := s.Fetch(t.Context(), desc, from.open); !errors.Is(err, errCut) {
		t.Fatalf("got %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines more than before", runtime.NumGoroutine()-before)
		}
	}
	from.cut = 0
	if err := s.Fetch(t.Context(), desc, from.open); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, desc)
}

func TestFetchSmallPartIsDropped(t *testing.T) {
	s := newStore(t)
	a, desc := newAway(1 << 20)
	a.cut = 1000
	if err := s.Fetch(t.Context(), desc, a.open); !errors.Is(err, errCut) {
		t.Fatalf("got %v", err)
	}
	wantParts(t, s)
}

func TestFetchWrongPartIsFetchedAnew(t *testing.T) {
	for _, size := range []int{1 << 20, 2 << 20, 5 << 20} {
		s := newStore(t)
		a, desc := newAway(2 << 20)
		if err := os.WriteFile(s.partPath(desc.Digest), bytes.Repeat([]byte("x"), size), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := s.Fetch(t.Context(), desc, a.open); err != nil {
			t.Fatal(err)
		}
		wantParts(t, s)
		wantBlob(t, s, desc)
		if last := a.opens[len(a.opens)-1]; last != 0 {
			t.Errorf("a part of %d bytes: asked for %v", size, a.opens)
		}
	}
}

func TestFetchRefusesWrongContent(t *testing.T) {
	s := newStore(t)
	a, desc := newAway(2 << 20)
	a.body[1<<20]++
	var bad *VerifyError
	if err := s.Fetch(t.Context(), desc, a.open); !errors.As(err, &bad) {
		t.Fatalf("got %v", err)
	}
	wantParts(t, s)
	if s.there(desc.Digest) {
		t.Error("the wrong blob is in the store")
	}
	a.body = append(a.body, "more"...)
	if err := s.Fetch(t.Context(), desc, a.open); !errors.As(err, &bad) {
		t.Fatalf("got %v", err)
	}
	wantParts(t, s)
}

func TestFetchOnce(t *testing.T) {
	s := newStore(t)
	other := openTest(t, s.root, disk{flush: noFlush})
	a, desc := newAway(3 << 20)
	var wg sync.WaitGroup
	for i := range 8 {
		from := s
		if i%2 == 1 {
			from = other
		}
		wg.Go(func() {
			if err := from.Fetch(t.Context(), desc, a.open); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(a.opens) != 1 {
		t.Errorf("fetched %d times", len(a.opens))
	}
	wantParts(t, s)
	wantBlob(t, s, desc)
}

func TestFetchEmptyBlob(t *testing.T) {
	s := newStore(t)
	a, desc := newAway(0)
	if err := s.Fetch(t.Context(), desc, a.open); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, desc)
}

func TestFetchFullDisk(t *testing.T) {
	full := errors.New("disk full")
	var on atomic.Bool
	s := openTest(t, t.TempDir()+"/store", disk{flush: noFlush, before: func(op operation, _ ...string) error {
		if on.Load() && op == opWrite {
			return full
		}
		return nil
	}})
	a, desc := newAway(1 << 20)
	on.Store(true)
	if err := s.Fetch(t.Context(), desc, a.open); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	wantParts(t, s)
}

func TestPruneRemovesParts(t *testing.T) {
	s := newStore(t)
	a, desc := newAway(1 << 20)
	a.cut = 1 << 19
	_ = s.Fetch(t.Context(), desc, a.open)
	wantParts(t, s, "part 524288")
	lease, err := s.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Fetch(t.Context(), desc, func(context.Context, int64) (io.ReadCloser, error) {
		if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
			t.Error(err)
		}
		wantParts(t, s, "part 524288") // somebody has it
		return nil, errCut
	})
	lease.Release()
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	wantParts(t, s)
}

// bringer is a Remote.
type bringer struct {
	blobs map[digest.Digest]*away
	err   error
	asked atomic.Int32
}

func (b *bringer) Bring(ctx context.Context, desc ocispec.Descriptor, at []Place, into Fetcher) error {
	b.asked.Add(1)
	if b.err != nil {
		return b.err
	}
	return into.Fetch(ctx, desc, b.blobs[desc.Digest].open)
}

// lazyImage is an image whose layer is at a registry.
func lazyImage(t *testing.T, s *Store, name string) (*bringer, ocispec.Descriptor, ocispec.Descriptor) {
	t.Helper()
	tar := tarOf(t, file{"hello", strings.Repeat("hello ", 1<<18)})
	diffID := digest.FromBytes(tar)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: diffID, Size: int64(len(tar))}
	if err := s.Seen(desc, "registry.example", "app"); err != nil {
		t.Fatal(err)
	}
	var cfg Config
	cfg.Platform = HostPlatform()
	m, err := s.Assemble(t.Context(), cfg, []Layer{{Descriptor: desc, DiffID: diffID}})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := ParseRef(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), ref, m); err != nil {
		t.Fatal(err)
	}
	b := &bringer{blobs: map[digest.Digest]*away{diffID: {body: tar}}}
	s.SetRemote(b)
	return b, m, desc
}

func clean(t *testing.T, s *Store) {
	t.Helper()
	faults, err := s.Fsck(t.Context(), FsckOptions{})
	if err != nil || len(faults) > 0 {
		t.Errorf("fsck: %v %v", faults, err)
	}
}

func layoutNames(t *testing.T, s *Store) (names []string) {
	t.Helper()
	index, err := s.readIndex()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range index.Manifests {
		names = append(names, m.Annotations[ocispec.AnnotationRefName])
	}
	return names
}

func TestLazyImage(t *testing.T) {
	s := newStore(t)
	b, desc, layer := lazyImage(t, s, "app:v1")
	clean(t, s)
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	clean(t, s)
	if got := layoutNames(t, s); fmt.Sprint(got) != "[]" {
		t.Errorf("the layout offers %v to other programs", got)
	}
	v, err := s.Verify(t.Context(), desc, nil)
	if err != nil || v.Away != 1 || len(v.Faults) > 0 {
		t.Errorf("verify: %+v %v", v, err)
	}
	if b.asked.Load() != 0 || s.there(layer.Digest) {
		t.Fatal("something fetched the layer")
	}
	if err := s.Complete(t.Context(), desc); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, layer)
	clean(t, s)
	if got := layoutNames(t, s); fmt.Sprint(got) != "[app:v1]" {
		t.Errorf("the layout offers %v to other programs", got)
	}
}

func TestLazyImageIsRead(t *testing.T) {
	for _, kept := range []int{0, 1 << 20} { // what an earlier attempt left
		s := newStore(t)
		b, _, layer := lazyImage(t, s, "app:v1")
		body := b.blobs[layer.Digest].body
		if kept > 0 {
			if err := os.WriteFile(s.partPath(layer.Digest), body[:kept], 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				r, err := s.Blob(t.Context(), layer)
				if err != nil {
					t.Error(err)
					return
				}
				defer r.Close()
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, body) {
					t.Errorf("got %d bytes, %v", len(got), err)
				}
			})
		}
		wg.Wait()
		wantBlob(t, s, layer)
		wantParts(t, s)
		if n := len(b.blobs[layer.Digest].opens); n != 1 {
			t.Errorf("fetched %d times", n)
		}
	}
}

func TestLazyReaderGoesAway(t *testing.T) {
	s := newStore(t)
	b, _, layer := lazyImage(t, s, "app:v1")
	r, err := s.Blob(t.Context(), layer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	r.Close() // less than nearEnd is missing
	wantBlob(t, s, layer)
	if n := b.asked.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

func TestLazyImageFails(t *testing.T) {
	s := newStore(t)
	b, desc, layer := lazyImage(t, s, "app:v1")
	b.err = errCut
	r, err := s.Blob(t.Context(), layer)
	if err == nil {
		_, err = io.ReadAll(r)
		r.Close()
	}
	var e *AwayError
	if !errors.As(err, &e) || !errors.Is(err, errCut) {
		t.Errorf("got %v", err)
	}
	s.SetRemote(nil)
	if err := s.Complete(t.Context(), desc); !errors.As(err, &e) || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "registry.example/app") {
		t.Errorf("got %v", err)
	}
	clean(t, s)
}

func TestPlaces(t *testing.T) {
	s := newStore(t)
	_, desc := newAway(100)
	for _, at := range []string{"a", "b", "a", "c", "a"} {
		if err := s.Seen(desc, "host", at); err != nil {
			t.Fatal(err)
		}
	}
	list := func() (got []string) {
		for host, repo := range s.Places(desc.Digest) {
			got = append(got, host+"/"+repo)
		}
		return got
	}
	if got := list(); fmt.Sprint(got) != "[host/a host/c host/b]" {
		t.Errorf("got %v", got)
	}
	f, err := os.OpenFile(s.placesPath(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("sha256:torn") // by a power failure
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Seen(desc, "host", "d"); err != nil {
		t.Fatal(err)
	}
	other := openTest(t, s.root, disk{flush: noFlush})
	for _, at := range []*Store{s, other} {
		var got []string
		for host, repo := range at.Places(desc.Digest) {
			got = append(got, host+"/"+repo)
		}
		if fmt.Sprint(got) != "[host/d host/a host/c host/b]" {
			t.Errorf("got %v", got)
		}
	}
	if err := other.Seen(desc, "host", "e"); err != nil {
		t.Fatal(err)
	}
	if got := list(); fmt.Sprint(got) != "[host/e host/d host/a host/c host/b]" {
		t.Errorf("another process has written, and this one reads %v", got)
	}
	if !s.UseAnywhere(desc.Digest) || s.Use(desc.Digest) {
		t.Error("the blob is away, and not here")
	}
	if _, err := s.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if !s.away(desc.Digest) {
		t.Error("what was heard of a moment ago is forgotten")
	}
	if err := s.prunePlaces(t.Context(), nil, time.Now().Add(2*placesAge)); err != nil {
		t.Fatal(err)
	}
	if s.away(desc.Digest) || other.away(desc.Digest) {
		t.Error("what nothing needs is remembered for ever")
	}
}
