package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
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

	"golang.org/x/sys/unix"
)

// patientRegistry takes uploads as the specification has it, and keeps what has come of one that breaks off. It stops taking bytes of
// an upload at some place until it is told not to.
type patientRegistry struct {
	*httptest.Server

	mu       sync.Mutex
	stop     int // -1: nowhere
	reached  chan struct{}
	goOn     chan struct{}
	sessions map[string][]byte
	blobs    map[string][]byte
	tags     []string
	log      []string // the starts of chunks
}

func newPatientRegistry(t *testing.T, stop int) *patientRegistry {
	t.Helper()
	f := &patientRegistry{
		stop: stop, reached: make(chan struct{}), goOn: make(chan struct{}), sessions: map[string][]byte{}, blobs: map[string][]byte{},
	}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *patientRegistry) serve(w http.ResponseWriter, r *http.Request) {
	_, session, upload := strings.Cut(r.URL.Path, "/blobs/uploads/")
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/v2/":
	case upload && r.Method == http.MethodPost:
		f.mu.Lock()
		defer f.mu.Unlock()
		name := fmt.Sprint(len(f.sessions))
		f.sessions[name] = nil
		f.answer(w, r.URL.Path+name, name, http.StatusAccepted)
	case upload && r.Method == http.MethodGet:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.answer(w, r.URL.Path, session, http.StatusNoContent)
	case upload:
		f.take(w, r, session)
	case strings.Contains(r.URL.Path, "/manifests/") && r.Method == http.MethodPut:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.tags = append(f.tags, filepath.Base(r.URL.Path))
		w.WriteHeader(http.StatusCreated)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (f *patientRegistry) answer(w http.ResponseWriter, path, session string, status int) {
	w.Header().Set("Location", path)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, len(f.sessions[session])-1)))
	w.WriteHeader(status)
}

// take appends a body to a session, and ends it if that is wanted.
func (f *patientRegistry) take(w http.ResponseWriter, r *http.Request, session string) {
	if r.Method == http.MethodPatch {
		f.mu.Lock()
		f.log = append(f.log, "PATCH "+r.Header.Get("Content-Range"))
		f.mu.Unlock()
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Body.Read(buf)
		f.mu.Lock()
		have := append(f.sessions[session], buf[:n]...)
		f.sessions[session] = have
		stop := f.stop >= 0 && len(have) >= f.stop
		if stop {
			f.stop = -1
		}
		f.mu.Unlock()
		if stop {
			close(f.reached)
			<-f.goOn
			panic(http.ErrAbortHandler)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Method == http.MethodPatch {
		f.answer(w, r.URL.Path, session, http.StatusAccepted)
		return
	}
	got := fmt.Sprintf("sha256:%x", sha256.Sum256(f.sessions[session]))
	if got != r.URL.Query().Get("digest") {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	f.blobs[got] = f.sessions[session]
	w.WriteHeader(http.StatusCreated)
}

// incompressible imports an image of one file that no compression makes smaller.
func incompressible(t *testing.T, root, name string, size int) {
	t.Helper()
	body := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(body)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o644, Size: int64(size)}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(body)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file.tar")
	if err := os.WriteFile(file, archive.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "--root", root, "import", file, name)
}

func mustRun(t *testing.T, args ...string) {
	t.Helper()
	if out, err := program(t, args...).CombinedOutput(); err != nil {
		t.Fatalf("ocibuild %v: %v\n%s", args, err, out)
	}
}

// program is ocibuild as a process: a verb that enters a user namespace runs its whole program again, which must not be the tests.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Args[0] = "ocibuild"
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+t.TempDir(), "CONTAINERS_REGISTRIES_CONF="+os.DevNull)
	return cmd
}

// TestPushKilled ends pushes in the middle of a chunk, with a signal that nothing can catch and with one that is caught, and pushes
// again: what the registry has is not sent again.
func TestPushKilled(t *testing.T) {
	const size, stop = 40 << 20, 20 << 20
	for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGINT} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			f, root := newPatientRegistry(t, stop), filepath.Join(t.TempDir(), "store")
			name := strings.TrimPrefix(f.URL, "http://") + "/app:v1"
			incompressible(t, root, name, size)
			cmd := program(t, "--root", root, "push", name)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			select {
			case <-f.reached:
			case <-time.After(2 * time.Minute):
				t.Fatal("the push does not get on")
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			close(f.goOn)
			f.mu.Lock()
			kept := len(f.sessions["0"])
			if len(f.tags) > 0 {
				t.Errorf("tagged %v", f.tags)
			}
			f.log = nil
			f.mu.Unlock()

			mustRun(t, "--root", root, "push", "-q", name)
			if want := fmt.Sprintf("PATCH %d-", kept); !strings.HasPrefix(fmt.Sprint(f.log), "["+want) {
				t.Errorf("it went on with %v, not %s", f.log, want)
			}
			if fmt.Sprint(f.tags) != "[v1]" {
				t.Errorf("tagged %v", f.tags)
			}
			if notes, _ := filepath.Glob(filepath.Join(root, "ingest", "note-*")); len(notes) > 0 {
				t.Errorf("notes are left: %v", notes)
			}
			mustRun(t, "--root", root, "fsck")
		})
	}
}
