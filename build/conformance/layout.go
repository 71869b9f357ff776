package conformance

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Base is the image that FROM base means: busybox as every program, a user
// app with the ids 1000, and a PATH.
func Base() (Tree, string, error) {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return nil, "", fmt.Errorf("%s (package busybox-static): %w", busybox, errNeeds)
	}
	var b strings.Builder
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "root", "sys"} {
		fmt.Fprintf(&b, "%s dir\n", d)
	}
	b.WriteString("tmp dir 1777\nhome/app dir 1000:1000\n")
	fmt.Fprintf(&b, "etc/passwd file %q\n", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
	fmt.Fprintf(&b, "etc/group file %q\n", "root:x:0:\napp:x:1000:\n")
	for _, name := range strings.Fields(applets) {
		fmt.Fprintf(&b, "bin/%s link -> busybox\n", name)
	}
	t, err := ParseTree(b.String())
	if err != nil {
		return nil, "", err
	}
	t = append(t, Entry{Path: "bin/busybox", Type: "file", Mode: 0o755, Data: program})
	return t, `{"config":{"Env":["PATH=/bin"]}}`, nil
}

const (
	busybox = "/bin/busybox"
	applets = "sh cat chmod chown cp date echo env grep head id kill ln ls mkdir mkfifo mknod mv pwd printf readlink rm rmdir sed sleep sort stat tail tar test touch tr true false wc"
)

// writeLayout writes an image of one layer as an OCI layout.
func writeLayout(dir, name string, t Tree, text string) (digest.Digest, error) {
	for _, d := range []string{"blobs", "blobs/sha256"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return "", err
		}
	}
	var layer bytes.Buffer
	if err := t.WriteTar(&layer); err != nil {
		return "", err
	}
	l := layoutWriter{dir: dir}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Versioned: specs.Versioned{SchemaVersion: 2}}
	m.Layers = []ocispec.Descriptor{l.blob(ocispec.MediaTypeImageLayer, layer.Bytes())}
	m.Config = l.blob(ocispec.MediaTypeImageConfig, l.config(text, m.Layers[0].Digest))
	desc := l.json(ocispec.MediaTypeImageManifest, m)
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: name, "io.containerd.image.name": "docker.io/library/" + name + ":latest"}
	desc.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	index := ocispec.Index{Versioned: m.Versioned, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{desc}}
	l.file("index.json", marshal(index))
	l.file(ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return desc.Digest, l.err
}

// layoutWriter writes the files of a layout; the first error stays.
type layoutWriter struct {
	dir string
	err error
}

func (l *layoutWriter) file(name string, data []byte) {
	if l.err == nil {
		l.err = os.WriteFile(filepath.Join(l.dir, name), data, 0o644)
	}
}

func (l *layoutWriter) blob(mediaType string, data []byte) ocispec.Descriptor {
	d := digest.FromBytes(data)
	l.file("blobs/sha256/"+d.Encoded(), data)
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func (l *layoutWriter) json(mediaType string, v any) ocispec.Descriptor {
	return l.blob(mediaType, marshal(v))
}

// config completes a case's config with what every image has.
func (l *layoutWriter) config(text string, diffID digest.Digest) []byte {
	c := map[string]any{"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{}}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &c); err != nil && l.err == nil {
			l.err = fmt.Errorf("read config: %w", err)
		}
	}
	c["rootfs"] = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}}
	if c["history"] == nil {
		c["history"] = []ocispec.History{{CreatedBy: "base"}}
	}
	return marshal(c)
}

func marshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return data
}

// archiveDir makes a tar of a directory of plain files.
func archiveDir(dir, to string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}
