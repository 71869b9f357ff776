package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layoutWriter writes an image layout file by file, as fast as the disk goes.
type layoutWriter struct {
	b    *testing.B
	root string
}

func (w layoutWriter) blob(mediaType string, text []byte) ocispec.Descriptor {
	w.b.Helper()
	d := digest.FromBytes(text)
	if err := os.WriteFile(filepath.Join(w.root, "blobs/sha256", d.Encoded()), text, 0o644); err != nil {
		w.b.Fatal(err)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(text))}
}

func (w layoutWriter) json(mediaType string, v any) ocispec.Descriptor {
	w.b.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		w.b.Fatal(err)
	}
	return w.blob(mediaType, text)
}

// image writes an image as builds make them: three layers of a base that all
// share, two of its own, labels and a history.
func (w layoutWriter) image(i int) ocispec.Descriptor {
	created := time.Unix(1.7e9+int64(i), 0).UTC()
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	cfg := image.Config{Created: &created, Platform: image.HostPlatform(), RootFS: ocispec.RootFS{Type: "layers"}}
	cfg.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cfg.Config.Labels = map[string]string{
		"org.opencontainers.image.source":   "https://git.example.org/team/app",
		"org.opencontainers.image.revision": digest.FromString(fmt.Sprint(i)).Encoded()[:40],
		"org.opencontainers.image.version":  fmt.Sprintf("1.%d.0", i),
	}
	for n := range 5 {
		text := fmt.Sprintf("layer %d", n)
		if n > 2 {
			text = fmt.Sprintf("layer %d of image %d", n, i)
		}
		l := w.blob(ocispec.MediaTypeImageLayerGzip, []byte(text))
		m.Layers, cfg.RootFS.DiffIDs = append(m.Layers, l), append(cfg.RootFS.DiffIDs, l.Digest)
		cfg.History = append(cfg.History,
			ocispec.History{Created: &created, CreatedBy: "RUN /bin/sh -c apt-get update && apt-get install -y --no-install-recommends something # buildkit"},
			ocispec.History{Created: &created, CreatedBy: "ENV A=1", EmptyLayer: true})
	}
	m.Config = w.json(ocispec.MediaTypeImageConfig, cfg)
	return w.json(ocispec.MediaTypeImageManifest, m)
}

// makeManyImages makes a store of that many images, each with a name.
func makeManyImages(b *testing.B, root string, images int) {
	b.Helper()
	if err := os.MkdirAll(filepath.Join(root, "blobs/sha256"), 0o755); err != nil {
		b.Fatal(err)
	}
	w := layoutWriter{b, root}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for i := range images {
		desc := w.image(i)
		desc.Annotations = map[string]string{
			ocispec.AnnotationRefName:  fmt.Sprintf("ghcr.io/team/app%d:v%d", i%50, i),
			"io.containerd.image.name": fmt.Sprintf("ghcr.io/team/app%d:v%d", i%50, i),
		}
		index.Manifests = append(index.Manifests, desc)
	}
	for name, v := range map[string]any{"index.json": index, "oci-layout": ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}} {
		text, err := json.Marshal(v)
		if err != nil {
			b.Fatal(err)
		}
		writeBenchFile(b, filepath.Join(root, name), string(text))
	}
}

// benchmarkStore runs a verb over a store of 1,000 images. Floor: the program
// started and ended. Aim: 50 ms.
func benchmarkStore(b *testing.B, args ...string) {
	root := filepath.Join(b.TempDir(), "store")
	makeManyImages(b, root, 1000)
	args = append([]string{"--root", root}, args...)
	ocibuild(b, args...)
	b.ResetTimer()
	measure(b, func() { ocibuild(b, "version") }, func(int) sample { return ocibuild(b, args...) })
}

// BenchmarkImages1000 lists all images.
func BenchmarkImages1000(b *testing.B) { benchmarkStore(b, "images") }

// BenchmarkImagesAll1000 looks for images without a name too.
func BenchmarkImagesAll1000(b *testing.B) { benchmarkStore(b, "images", "-a") }

// BenchmarkInspect1000 inspects one image by its name.
func BenchmarkInspect1000(b *testing.B) { benchmarkStore(b, "inspect", "ghcr.io/team/app7:v507") }

// BenchmarkInspectByID1000 inspects an image by the beginning of its id.
func BenchmarkInspectByID1000(b *testing.B) {
	id := layoutWriter{b, b.TempDir()}.prefix(507)
	benchmarkStore(b, "inspect", id)
}

// prefix is the beginning of the id of image i.
func (w layoutWriter) prefix(i int) string {
	if err := os.MkdirAll(filepath.Join(w.root, "blobs/sha256"), 0o755); err != nil {
		w.b.Fatal(err)
	}
	desc := w.image(i)
	text, err := os.ReadFile(filepath.Join(w.root, "blobs/sha256", desc.Digest.Encoded()))
	if err != nil {
		w.b.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		w.b.Fatal(err)
	}
	return m.Config.Digest.Encoded()[:16]
}

// BenchmarkPrune10000 prunes a store of 10,000 blobs most of which nothing needs.
// Floor: as many files removed.
func BenchmarkPrune10000(b *testing.B) {
	const kept = 4003 // two layers, config and manifest of each image, and three layers of all
	dir := b.TempDir()
	full, root, loose := filepath.Join(dir, "full"), filepath.Join(dir, "store"), filepath.Join(dir, "loose")
	makeManyImages(b, full, 1000)
	makeLooseBlobs(b, full, 10_000-kept)
	ocibuild(b, "--root", full, "images")
	ready := func() {
		makeLooseBlobs(b, loose, 10_000-kept)
		if out, err := exec.Command("sh", "-c", `rm -rf "$2" && cp -a "$1" "$2"`, "sh", full, root).CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	ready()
	b.ResetTimer()
	measure(b, func() {
		if err := os.RemoveAll(loose); err != nil {
			b.Fatal(err)
		}
	}, func(int) sample {
		s := ocibuild(b, "--root", root, "prune", "-f")
		if left, err := os.ReadDir(filepath.Join(root, "blobs/sha256")); err != nil || len(left) != kept {
			b.Fatalf("%d blobs are left, %v", len(left), err)
		}
		ready()
		return s
	})
}

// makeLooseBlobs adds blobs that nothing names and nobody has used for long.
func makeLooseBlobs(b *testing.B, root string, n int) {
	b.Helper()
	if err := os.MkdirAll(filepath.Join(root, "blobs/sha256"), 0o755); err != nil {
		b.Fatal(err)
	}
	w, old := layoutWriter{b, root}, time.Now().Add(-time.Hour)
	for i := range n {
		d := w.blob(ocispec.MediaTypeImageLayer, fmt.Appendf(nil, "loose %d", i)).Digest
		if err := os.Chtimes(filepath.Join(root, "blobs/sha256", d.Encoded()), old, old); err != nil {
			b.Fatal(err)
		}
	}
}
