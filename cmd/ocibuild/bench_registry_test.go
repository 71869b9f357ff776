package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/image/layer"
	"github.com/ocibuild/ocibuild/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// benchRegistry is Debian's docker-registry with one image, app:v1.
type benchRegistry struct {
	b      *testing.B
	host   string
	client *registry.Client
	blobs  []ocispec.Descriptor // the image's layers
}

// newBenchRegistry starts a registry.
func newBenchRegistry(b *testing.B) *benchRegistry {
	b.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		b.Skip("docker-registry is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	r := &benchRegistry{b: b, host: l.Addr().String()}
	l.Close()
	dir := b.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: %s/data\nhttp:\n  addr: %s\n", dir, r.host)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", config)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	b.Setenv("DOCKER_CONFIG", dir)
	b.Setenv("CONTAINERS_REGISTRIES_CONF", os.DevNull)
	r.client = registry.New(registry.Options{ConfigDir: dir})
	for range 200 {
		if r.client.Ping(b.Context(), r.host) == nil {
			return r
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.Fatal("docker-registry does not answer")
	return nil
}

func (r *benchRegistry) repo() registry.Repository {
	return registry.Repository{Host: r.host, Name: "app"}
}

// noise gives bytes that do not compress, the same for a seed.
func noise(seed, size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}), size)
}

// blob uploads a blob of noise.
func (r *benchRegistry) blob(mediaType string, seed, size int64) ocispec.Descriptor {
	r.b.Helper()
	d, err := digest.FromReader(noise(seed, size))
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: size}
	if err == nil {
		err = r.client.PushBlob(r.b.Context(), r.repo(), desc, func(context.Context) (io.ReadCloser, error) { return io.NopCloser(noise(seed, size)), nil })
	}
	if err != nil {
		r.b.Fatal(err)
	}
	return desc
}

// image uploads an image of so many layers of a size.
func (r *benchRegistry) image(layers int, size int64) {
	r.b.Helper()
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	cfg := ocispec.Image{Platform: image.HostPlatform(), RootFS: ocispec.RootFS{Type: "layers"}}
	for i := range layers {
		l := r.blob(ocispec.MediaTypeImageLayerGzip, int64(i), size)
		m.Layers, cfg.RootFS.DiffIDs = append(m.Layers, l), append(cfg.RootFS.DiffIDs, l.Digest)
	}
	r.blobs = m.Layers
	text, err := json.Marshal(cfg)
	if err != nil {
		r.b.Fatal(err)
	}
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(text), Size: int64(len(text))}
	err = r.client.PushBlob(r.b.Context(), r.repo(), m.Config, func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil })
	if err != nil {
		r.b.Fatal(err)
	}
	if text, err = json.Marshal(m); err != nil {
		r.b.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(text), Size: int64(len(text))}
	if err := r.client.PushManifest(r.b.Context(), r.repo(), "v1", desc, text); err != nil {
		r.b.Fatal(err)
	}
}

// bare downloads the layers to files as the simplest program would that fetches six at a time, and verifies nothing. As a pull
// does, it ends when they are on the disk.
func (r *benchRegistry) bare(dir string) time.Duration {
	r.b.Helper()
	begin := time.Now()
	var g errgroup.Group
	g.SetLimit(6)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 6, DisableCompression: true}}
	defer client.CloseIdleConnections()
	for _, l := range r.blobs {
		g.Go(func() error {
			resp, err := client.Get("http://" + r.host + "/v2/app/blobs/" + l.Digest.String())
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			f, err := os.Create(filepath.Join(dir, l.Digest.Encoded()))
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(f, resp.Body)
			return errors.Join(err, f.Sync())
		})
	}
	if err := g.Wait(); err != nil {
		r.b.Fatal(err)
	}
	return time.Since(begin)
}

// pull pulls into a new store.
func (r *benchRegistry) pull(root string) time.Duration {
	r.b.Helper()
	begin := time.Now()
	var out, errs bytes.Buffer
	s := systemIO()
	s.out, s.err = &out, &errs
	if code := run([]string{"--root", root, "pull", "-q", r.host + "/app:v1"}, s); code != 0 {
		r.b.Fatalf("exit code %d: %s", code, errs.String())
	}
	return time.Since(begin)
}

// compare tells how long a pull takes beside a bare download of the same bytes from the same registry, in turns.
func (r *benchRegistry) compare() {
	r.b.Helper()
	var bare, pull time.Duration
	r.bare(r.b.TempDir()) // what the registry reads is in memory from here on
	for b := r.b; b.Loop(); {
		dir, err := os.MkdirTemp(b.TempDir(), "turn")
		if err != nil {
			b.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "bare"), 0o755); err != nil {
			b.Fatal(err)
		}
		bare += r.bare(filepath.Join(dir, "bare"))
		pull += r.pull(filepath.Join(dir, "store"))
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
	}
	n := float64(r.b.N)
	r.b.ReportMetric(bare.Seconds()/n, "bare-s/op")
	r.b.ReportMetric(pull.Seconds()/n, "pull-s/op")
	r.b.ReportMetric(float64(pull)/float64(bare), "ratio")
}

// BenchmarkPullLarge pulls an image of one layer of 1 GiB.
func BenchmarkPullLarge(b *testing.B) {
	r := newBenchRegistry(b)
	r.image(1, 1<<30)
	r.compare()
}

// BenchmarkPullMany pulls an image of 200 layers of 64 KiB.
func BenchmarkPullMany(b *testing.B) {
	r := newBenchRegistry(b)
	r.image(200, 64<<10)
	r.compare()
}

// stored makes an image of so many layers of noise of a size in a new store, as a build leaves them: not compressed.
func (r *benchRegistry) stored(layers int, size int64) (root string) {
	r.b.Helper()
	root = filepath.Join(r.b.TempDir(), "store")
	st, err := image.Open(root)
	if err != nil {
		r.b.Fatal(err)
	}
	var made []image.Layer
	for i := range layers {
		w, err := st.Create()
		if err != nil {
			r.b.Fatal(err)
		}
		t := tar.NewWriter(w)
		err = t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Mode: 0o644, Size: size})
		if err == nil {
			_, err = io.Copy(t, noise(int64(i), size))
		}
		if err == nil {
			err = t.Close()
		}
		if err != nil {
			r.b.Fatal(err)
		}
		desc, err := w.Commit(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer})
		if err != nil {
			r.b.Fatal(err)
		}
		made = append(made, image.Layer{Descriptor: desc, DiffID: desc.Digest})
	}
	desc, err := st.Assemble(r.b.Context(), image.Config{Platform: image.HostPlatform()}, made)
	if err == nil {
		var ref image.Ref
		if ref, err = image.ParseRef("app:v1"); err == nil {
			err = st.Tag(r.b.Context(), ref, desc)
		}
	}
	if err == nil {
		// The compressed layers are what the bare upload sends.
		desc, err = st.Portable(r.b.Context(), desc, image.Compression{Algorithm: layer.Gzip})
	}
	if err == nil {
		var list []image.Layer
		list, err = st.ImageLayers(r.b.Context(), desc)
		for _, l := range list {
			r.blobs = append(r.blobs, l.Descriptor)
		}
	}
	if err != nil {
		r.b.Fatal(err)
	}
	return root
}

// bareUpload uploads the compressed layers as the simplest program would that sends six at a time.
func (r *benchRegistry) bareUpload(root, repo string) time.Duration {
	r.b.Helper()
	begin := time.Now()
	var g errgroup.Group
	g.SetLimit(6)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 6}}
	defer client.CloseIdleConnections()
	for _, l := range r.blobs {
		g.Go(func() error {
			resp, err := client.Post("http://"+r.host+"/v2/"+repo+"/blobs/uploads/", "", nil)
			if err != nil {
				return err
			}
			resp.Body.Close()
			f, err := os.Open(filepath.Join(root, "blobs", "sha256", l.Digest.Encoded()))
			if err != nil {
				return err
			}
			defer f.Close()
			req, err := http.NewRequest(http.MethodPut, resp.Header.Get("Location")+"&digest="+l.Digest.String(), f)
			if err != nil {
				return err
			}
			req.ContentLength = l.Size
			if resp, err = client.Do(req); err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusCreated {
				return fmt.Errorf("bare upload: %s", resp.Status)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		r.b.Fatal(err)
	}
	return time.Since(begin)
}

// forget drops what the store remembers of compressions and of places.
func (r *benchRegistry) forget(root string) {
	r.b.Helper()
	files, err := filepath.Glob(filepath.Join(root, "cache", "blobs", "*"))
	for _, f := range files {
		if err == nil {
			err = os.Remove(f)
		}
	}
	if err != nil {
		r.b.Fatal(err)
	}
}

// push pushes to a repository, and tells the processor time too.
func (r *benchRegistry) push(root, repo string) (wall, cpu time.Duration) {
	r.b.Helper()
	begin, before := time.Now(), processorTime()
	var out, errs bytes.Buffer
	s := systemIO()
	s.out, s.err = &out, &errs
	if code := run([]string{"--root", root, "push", "-q", "app:v1", r.host + "/" + repo + ":v1"}, s); code != 0 {
		r.b.Fatalf("exit code %d: %s", code, errs.String())
	}
	return time.Since(begin), processorTime() - before
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// comparePush tells how long a push takes, compression included, beside a bare upload of the same compressed bytes to the same registry,
// in turns; and how long the push takes that follows.
func (r *benchRegistry) comparePush(root string) {
	r.b.Helper()
	var bare, push, cpu, again time.Duration
	turn := 0
	r.bareUpload(root, "warm") // what it reads is in memory from here on
	for b := r.b; b.Loop(); turn++ {
		r.forget(root)
		bare += r.bareUpload(root, fmt.Sprint("bare", turn))
		wall, used := r.push(root, fmt.Sprint("push", turn))
		push, cpu = push+wall, cpu+used
		wall, _ = r.push(root, fmt.Sprint("push", turn))
		again += wall
	}
	n := float64(r.b.N)
	r.b.ReportMetric(bare.Seconds()/n, "bare-s/op")
	r.b.ReportMetric(push.Seconds()/n, "push-s/op")
	r.b.ReportMetric(cpu.Seconds()/n, "push-cpu-s/op")
	r.b.ReportMetric(float64(push)/float64(bare), "ratio")
	r.b.ReportMetric(again.Seconds()*1000/n, "again-ms/op")
}

// BenchmarkPushLarge pushes an image of one layer of 1 GiB that does not compress.
func BenchmarkPushLarge(b *testing.B) {
	r := newBenchRegistry(b)
	r.comparePush(r.stored(1, 1<<30))
}

// BenchmarkPushMany pushes an image of 200 layers of 64 KiB.
func BenchmarkPushMany(b *testing.B) {
	r := newBenchRegistry(b)
	r.comparePush(r.stored(200, 64<<10))
}
