package layer

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func sumOf(data []byte) digest.Digest { return digest.FromBytes(data) }

// run runs a program, which the test is skipped without, and returns its output.
func run(t testing.TB, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.Stdin = bytes.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, errs.Bytes())
	}
	return out
}

// GNU tar makes the same of our tars as Apply does.
func TestGNUTarReads(t *testing.T) {
	needRoot(t)
	for seed := range seeds(6) {
		in, ours, theirs := t.TempDir(), t.TempDir(), t.TempDir()
		randomTree(t, in, rand.New(rand.NewPCG(seed, 3)))
		dropMarkers(t, in)
		data, _, _ := diff(t, in)
		apply(t, data, ours, ApplyOptions{})
		run(t, data, "tar", "-C", theirs, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-")
		if d := cmp.Diff(describe(t, ours, what{times: true}), describe(t, theirs, what{times: true})); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}

// Apply makes the same of GNU tar's archives as GNU tar does.
func TestReadsGNUTar(t *testing.T) {
	for _, format := range []string{"gnu", "posix", "ustar", "oldgnu"} {
		t.Run(format, func(t *testing.T) {
			in, out := t.TempDir(), t.TempDir()
			sub := filepath.Join(in, "some directory with a name that is quite long", "and another one below it")
			check(t, os.MkdirAll(sub, 0o750))
			check(t, os.WriteFile(filepath.Join(sub, "file"), []byte("text"), 0o604))
			check(t, os.Link(filepath.Join(sub, "file"), filepath.Join(in, "link")))
			check(t, os.Symlink("some/where", filepath.Join(in, "symlink")))
			if format != "ustar" {
				check(t, os.Symlink(strings.Repeat("long", 40), filepath.Join(in, strings.Repeat("name", 60))))
			}
			data := run(t, nil, "tar", "-C", in, "--format="+format, "-cf", "-", ".")
			apply(t, data, out, ApplyOptions{})
			if d := cmp.Diff(describe(t, in, what{times: true}), describe(t, out, what{times: true})); d != "" {
				t.Error(d)
			}
		})
	}
}

// umoci makes the same of our layers as Apply does.
func TestUmociReads(t *testing.T) {
	needRoot(t)
	for seed := range seeds(3) {
		in, ours := t.TempDir(), t.TempDir()
		randomTree(t, in, rand.New(rand.NewPCG(seed, 4)))
		dropMarkers(t, in)
		data, _, _ := diff(t, in)
		apply(t, data, ours, ApplyOptions{})
		layout, bundle := t.TempDir(), filepath.Join(t.TempDir(), "bundle")
		writeLayout(t, layout, data)
		run(t, nil, "umoci", "unpack", "--image", layout+":latest", bundle)
		if d := cmp.Diff(describe(t, ours, what{times: true}), describe(t, filepath.Join(bundle, "rootfs"), what{times: true})); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}

// dropMarkers removes what would be a whiteout or an opaque marker: nothing is below.
func dropMarkers(t *testing.T, dir string) {
	check(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		check(t, err)
		var st unix.Stat_t
		check(t, unix.Lstat(path, &st))
		if isWhiteout(&st) {
			return os.Remove(path)
		}
		if err := unix.Lremovexattr(path, "trusted.overlay.opaque"); err != nil && err != unix.ENODATA {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Mtim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	}))
}

// writeLayout writes an OCI layout with one image of one layer.
func writeLayout(t *testing.T, dir string, layer []byte) {
	check(t, os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755))
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		d := digest.FromBytes(data)
		check(t, os.WriteFile(filepath.Join(dir, "blobs/sha256", d.Encoded()), data, 0o644))
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
	}
	encode := func(v any) []byte {
		data, err := json.Marshal(v)
		check(t, err)
		return data
	}
	blob := put(ocispec.MediaTypeImageLayer, layer)
	config := put(ocispec.MediaTypeImageConfig, encode(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{blob.Digest}},
	}))
	version := specs.Versioned{SchemaVersion: 2}
	manifest := put(ocispec.MediaTypeImageManifest, encode(ocispec.Manifest{
		Versioned: version, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{blob},
	}))
	manifest.Annotations = map[string]string{ocispec.AnnotationRefName: "latest"}
	check(t, os.WriteFile(filepath.Join(dir, "index.json"), encode(ocispec.Index{Versioned: version, Manifests: []ocispec.Descriptor{manifest}}), 0o644))
	check(t, os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
}
