package image

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sort"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestMain lets the test binary be the other processes of a test.
func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		os.Exit(worker())
	}
	os.Exit(m.Run())
}

// noFlush takes the waiting for the disk out of tests.
func noFlush(*os.File) error { return nil }

// openTest opens a store that a test may break through the disk.
func openTest(t testing.TB, root string, d disk) *Store {
	t.Helper()
	s, err := open(root, d)
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	return s
}

func newStore(t testing.TB) *Store {
	t.Helper()
	return openTest(t, filepath.Join(t.TempDir(), "store"), disk{flush: noFlush})
}

// file is a member of a layer a test makes.
type file struct{ name, body string }

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	text, err := makeTar(files...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func makeTar(files ...file) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(f.body)), ModTime: time.Unix(1e9, 0)}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(f.body)); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// asLayer makes a layer of a text that is none: a tar with a file of it.
func asLayer(text []byte) ([]byte, error) {
	if _, err := tar.NewReader(bytes.NewReader(text)).Next(); err == nil {
		return text, nil
	}
	return makeTar(file{"data", string(text)})
}

// addLayer stores a layer as a build does.
func addLayer(s *Store, text []byte) (Layer, error) {
	text, err := asLayer(text)
	if err != nil {
		return Layer{}, err
	}
	w, err := s.Create()
	if err != nil {
		return Layer{}, err
	}
	defer w.Abort()
	if _, err := w.Write(text); err != nil {
		return Layer{}, err
	}
	desc, err := w.Commit(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer})
	return Layer{Descriptor: desc, DiffID: desc.Digest}, err
}

func testConfig(cmd string) Config {
	created := time.Unix(1.7e9, 0).UTC()
	cfg := Config{Created: &created, Platform: HostPlatform()}
	cfg.Config.Cmd = []string{cmd}
	cfg.Config.Env = []string{"PATH=/bin"}
	cfg.Config.Labels = map[string]string{"b": "2", "a": "<1>"}
	cfg.Config.Healthcheck = &HealthConfig{Test: []string{"CMD", "true"}, Interval: time.Second, Retries: 3}
	cfg.Config.OnBuild = []string{"RUN true"}
	cfg.Config.Shell = []string{"/bin/sh", "-c"}
	return cfg
}

// build makes an image of layers with one file each and names it.
func build(ctx context.Context, s *Store, name string, layers ...[]byte) (ocispec.Descriptor, error) {
	lease, err := s.Lease(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer lease.Release()
	var list []Layer
	for _, text := range layers {
		l, err := addLayer(s, text)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		list = append(list, l)
	}
	cfg := testConfig(name)
	for range list {
		cfg.History = append(cfg.History, ocispec.History{Created: cfg.Created, CreatedBy: "RUN <make>"})
	}
	desc, err := s.Assemble(ctx, cfg, list)
	if err != nil || name == "" {
		return desc, err
	}
	ref, err := ParseRef(name)
	if err != nil {
		return desc, err
	}
	return desc, s.Tag(ctx, ref, desc)
}

func mustBuild(t testing.TB, s *Store, name string, files ...file) ocispec.Descriptor {
	t.Helper()
	var layers [][]byte
	for _, f := range files {
		layers = append(layers, tarOf(t, f))
	}
	desc, err := build(t.Context(), s, name, layers...)
	if err != nil {
		t.Fatalf("build %s: %v", name, err)
	}
	return desc
}

func mustRef(t testing.TB, name string) Ref {
	t.Helper()
	ref, err := ParseRef(name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// age makes every blob look as if it had been used long ago.
func age(t testing.TB, s *Store) {
	t.Helper()
	if err := makeOld(s); err != nil {
		t.Fatal(err)
	}
}

func makeOld(s *Store) error {
	old := time.Now().Add(-time.Hour)
	return s.eachBlob(func(b blobFile) error { return os.Chtimes(b.path, old, old) })
}

func blobs(t testing.TB, s *Store) []digest.Digest {
	t.Helper()
	var list []digest.Digest
	if err := s.eachBlob(func(b blobFile) error { list = append(list, b.digest); return nil }); err != nil {
		t.Fatal(err)
	}
	return list
}

// mustBeClean fails unless fsck finds nothing.
func mustBeClean(t testing.TB, s *Store) {
	t.Helper()
	faults, err := s.Fsck(context.Background(), FsckOptions{})
	if err != nil {
		t.Fatalf("fsck: %v", err)
	}
	for _, f := range faults {
		t.Errorf("fsck: %s", f)
	}
}

// mustHave reads every image through and checks its layers.
func mustHave(t testing.TB, s *Store, name string) *Image {
	t.Helper()
	desc, err := s.Resolve(context.Background(), name)
	if err != nil {
		t.Fatalf("resolve %s: %v", name, err)
	}
	img, err := s.Image(context.Background(), desc, nil)
	if err != nil {
		t.Fatalf("image %s: %v", name, err)
	}
	for _, l := range img.Layers {
		if err := s.verify(context.Background(), l.Descriptor.Digest); err != nil {
			t.Fatalf("image %s: %v", name, err)
		}
	}
	return img
}

// tree lists the files below a directory, temporary ones and locks left out.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(list)
	return list
}

func needPrivilege(t testing.TB, root bool) {
	t.Helper()
	if isRoot := os.Geteuid() == 0; isRoot != root {
		t.Skipf("needs to run as root: %v", root)
	}
}
