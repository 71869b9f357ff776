package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// slowRegistry has one image, app:v1, of one layer. It stops giving bytes of the layer at some place, until it is told not to.
type slowRegistry struct {
	*httptest.Server
	layer ocispec.Descriptor

	mu     sync.Mutex
	stop   int64
	ranges []string // what was asked of the layer
}

// newSlowRegistry serves a layer of some size.
func newSlowRegistry(t *testing.T, size int, stop int64) *slowRegistry {
	t.Helper()
	body := make([]byte, size)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range body {
		body[i] = byte(random.Uint32())
	}
	add := func(mediaType string, body []byte) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	}
	f := &slowRegistry{stop: stop, layer: add(ocispec.MediaTypeImageLayerGzip, body)}
	cfg, err := json.Marshal(ocispec.Image{Platform: image.HostPlatform(), RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{f.layer.Digest}}})
	if err != nil {
		t.Fatal(err)
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: add(ocispec.MediaTypeImageConfig, cfg), Layers: []ocispec.Descriptor{f.layer},
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, f.layer.Digest.String()):
			f.serve(w, r, body)
		case strings.HasSuffix(r.URL.Path, m.Config.Digest.String()):
			_, _ = w.Write(cfg)
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", m.MediaType)
			_, _ = w.Write(manifest)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *slowRegistry) serve(w http.ResponseWriter, r *http.Request, body []byte) {
	f.mu.Lock()
	stop := f.stop
	f.ranges = append(f.ranges, r.Header.Get("Range"))
	f.mu.Unlock()
	if stop < 0 {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	_, _ = w.Write(body[:stop])
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// goOn lets it give everything.
func (f *slowRegistry) goOn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stop, f.ranges = -1, nil
}

func (f *slowRegistry) name() string { return strings.TrimPrefix(f.URL, "http://") + "/app:v1" }

// startPull begins a pull in a process of its own and waits until it has so many bytes of the layer.
func startPull(t *testing.T, f *slowRegistry, root string, have int64) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "--root", root, "pull", f.name())
	cmd.Args[0] = "ocibuild"
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+t.TempDir(), "CONTAINERS_REGISTRIES_CONF="+os.DevNull)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(time.Minute); partSize(root, f.layer.Digest) < have; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the pull does not get on")
		}
	}
	return cmd
}

func partSize(root string, d digest.Digest) int64 {
	info, err := os.Stat(filepath.Join(root, "ingest", "part-sha256-"+d.Encoded()))
	if err != nil {
		return 0
	}
	return info.Size()
}

func runPull(t *testing.T, f *slowRegistry, root string) {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	var out, errs bytes.Buffer
	s := systemIO()
	s.out, s.err = &out, &errs
	if code := run([]string{"--root", root, "pull", "-q", f.name()}, s); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	st, err := image.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	if size := partSize(root, f.layer.Digest); size > 0 || !st.Use(f.layer.Digest) {
		t.Errorf("the layer is not there, a part of %d bytes is", size)
	}
}

// TestPullKilled kills a pull with a signal that nothing can catch, and pulls again.
func TestPullKilled(t *testing.T) {
	const stop = 4 << 20
	f, root := newSlowRegistry(t, 6<<20, stop), filepath.Join(t.TempDir(), "store")
	cmd := startPull(t, f, root, stop-1<<20)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	kept := partSize(root, f.layer.Digest)
	f.goOn()
	runPull(t, f, root)
	if want := fmt.Sprintf("[bytes=%d-]", kept); fmt.Sprint(f.ranges) != want {
		t.Errorf("asked for %v, want %s", f.ranges, want)
	}
}

// TestPullInterrupted ends a pull that waits for bytes. Time is not measured here but for what nobody would wait for.
func TestPullInterrupted(t *testing.T) {
	const stop = 2 << 20
	f, root := newSlowRegistry(t, 6<<20, stop), filepath.Join(t.TempDir(), "store")
	cmd := startPull(t, f, root, stop-1<<20)
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the pull goes on")
	}
	if code := cmd.ProcessState.ExitCode(); code != exitSignal+int(unix.SIGINT) {
		t.Errorf("exit code %d", code)
	}
	kept := partSize(root, f.layer.Digest)
	if kept < stop-1<<20 || kept > stop {
		t.Errorf("%d bytes were kept of %d", kept, stop)
	}
	f.goOn()
	runPull(t, f, root)
	if want := fmt.Sprintf("[bytes=%d-]", kept); fmt.Sprint(f.ranges) != want {
		t.Errorf("asked for %v, want %s", f.ranges, want)
	}
}
