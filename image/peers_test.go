package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// peer runs a real program, or skips the test where it is not installed.
func peer(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skipf("%s is not installed", args[0])
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// skopeo trusts every image: the machine may have no policy, or another.
func skopeo(t *testing.T, args ...string) string {
	t.Helper()
	policy := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	return peer(t, append([]string{"skopeo", "--policy", policy}, args...)...)
}

func TestSkopeoReadsTheStore(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"app:v1", "team/app:v2", "localhost:5000/a/b:v3"} {
		desc := mustBuild(t, s, name, file{"a", name}, file{"b", "2"})
		var got struct {
			Digest string
			Layers []string
			Labels map[string]string
		}
		if err := json.Unmarshal([]byte(skopeo(t, "inspect", "oci:"+s.Root()+":"+name)), &got); err != nil {
			t.Fatal(err)
		}
		if got.Digest != desc.Digest.String() || len(got.Layers) != 2 || got.Labels["a"] != "<1>" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestSkopeoWritesTheStore(t *testing.T) {
	s := newStore(t)
	desc := mustBuild(t, s, "app:v1", file{"a", "1"})
	skopeo(t, "copy", "oci:"+s.Root()+":app:v1", "oci:"+s.Root()+":app:v2")
	skopeo(t, "copy", "oci:"+s.Root()+":app:v1", "oci:"+s.Root()+":other.io/x:v3")
	mustBeClean(t, s)
	refs, err := s.References(t.Context())
	if err != nil || len(refs) != 3 {
		t.Fatalf("%v, %v", refs, err)
	}
	for _, name := range []string{"app:v1", "app:v2", "other.io/x:v3"} {
		if got := mustHave(t, s, name); got.Config.Config.Cmd[0] != "app:v1" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// A name that skopeo wrote moves and goes like ours.
	if err := s.Tag(t.Context(), mustRef(t, "app:v2"), desc); err != nil {
		t.Fatal(err)
	}
	if err := s.Untag(t.Context(), mustRef(t, "other.io/x:v3")); err != nil {
		t.Fatal(err)
	}
	skopeo(t, "inspect", "oci:"+s.Root()+":app:v2")
}

func TestSkopeoReadsArchives(t *testing.T) {
	s := newStore(t)
	desc := mustBuild(t, s, "app:v1", file{"a", "1"}, file{"b", "2"})
	mustBuild(t, s, "other:v1", file{"a", "3"})
	portable, err := s.Portable(t.Context(), desc, testGzip())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, f ArchiveFormat, images ...Reference) string {
		path := filepath.Join(dir, name)
		out, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if err := s.SaveReferences(t.Context(), out, images, SaveOptions{Format: f}); err != nil {
			t.Fatal(err)
		}
		return path
	}
	refs, err := s.References(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	zipped := Reference{mustRef(t, "app:v1"), portable}
	sources := []string{
		"docker-archive:" + write("two.tar", DockerArchive, refs...) + ":app:v1",
		"docker-archive:" + write("gz.tar", DockerArchive, zipped),
		"oci-archive:" + write("oci.tar", OCIArchive, refs...) + ":app:v1",
		"oci-archive:" + write("ocigz.tar", OCIArchive, zipped),
	}
	for i, source := range sources {
		to := filepath.Join(dir, fmt.Sprint("out", i))
		skopeo(t, "copy", source, "oci:"+to+":x:v1")
		got := openTest(t, to, disk{flush: noFlush})
		a, b := mustHave(t, got, "x:v1"), mustHave(t, s, "app:v1")
		if a.Config.RootFS.DiffIDs[1] != b.Config.RootFS.DiffIDs[1] {
			t.Errorf("%s: other layers: %+v", source, a)
		}
	}
}

func TestLoadReadsWhatSkopeoWrites(t *testing.T) {
	s := newStore(t)
	mustBuild(t, s, "app:v1", file{"a", "1"}, file{"b", "2"})
	dir := t.TempDir()
	for _, kind := range []string{"docker-archive", "oci-archive"} {
		path := filepath.Join(dir, kind+".tar")
		skopeo(t, "copy", "oci:"+s.Root()+":app:v1", kind+":"+path+":loaded:v1")
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		y := newStore(t)
		loaded, err := y.Load(t.Context(), in, LoadOptions{})
		if err != nil || len(loaded) != 1 || loaded[0].Ref.Familiar() != "loaded:v1" {
			t.Fatalf("%s: %+v, %v", kind, loaded, err)
		}
		mustBeClean(t, y)
		if got := mustHave(t, y, "loaded:v1"); got.Layers[0].DiffID != mustHave(t, s, "app:v1").Layers[0].DiffID {
			t.Errorf("%s: %+v", kind, got)
		}
	}
}

func TestSkopeoDocker2Images(t *testing.T) {
	s := newStore(t)
	mustBuild(t, s, "app:v1", file{"a", "1"})
	dir := filepath.Join(t.TempDir(), "v2s2")
	skopeo(t, "copy", "--format", "v2s2", "--dest-compress", "oci:"+s.Root()+":app:v1", "dir:"+dir)
	// dir: has the manifest and the blobs as files of their own.
	y := newStore(t)
	var desc ocispec.Descriptor
	for _, name := range tree(t, dir) {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := y.Put(t.Context(), ocispec.Descriptor{}, f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if name == "manifest.json" {
			desc = got
		}
	}
	desc.MediaType = dockerManifest
	if err := y.Tag(t.Context(), mustRef(t, "app:v1"), desc); err != nil {
		t.Fatal(err)
	}
	img := mustHave(t, y, "app:v1")
	if img.Manifest.Config.MediaType != dockerConfig || len(img.Layers) != 1 {
		t.Errorf("%+v", img)
	}
	// On it, an image of ours has OCI types throughout.
	top, err := addLayer(y, tarOf(t, file{"top", "1"}))
	if err != nil {
		t.Fatal(err)
	}
	next, err := y.Assemble(t.Context(), img.Config, append(img.Layers, top))
	if err != nil {
		t.Fatal(err)
	}
	child, err := y.Image(t.Context(), next, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := child.Layers[0].Descriptor; got.MediaType != ocispec.MediaTypeImageLayerGzip || got.Digest != img.Layers[0].Descriptor.Digest {
		t.Errorf("%+v", got)
	}
	validate(t, y, next)
	mustBeClean(t, y)
}

func TestUmociUnpacks(t *testing.T) {
	s := newStore(t)
	mustBuild(t, s, "app:v1", file{"a", "one"}, file{"b", "two"}, file{"a", "three"})
	bundle := filepath.Join(t.TempDir(), "bundle")
	args := []string{"umoci", "unpack", "--image", s.Root() + ":app:v1"}
	if os.Geteuid() != 0 {
		args = append(args, "--rootless")
	}
	peer(t, append(args, bundle)...)
	for name, want := range map[string]string{"a": "three", "b": "two"} {
		got, err := os.ReadFile(filepath.Join(bundle, "rootfs", name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestBuildahReadsArchives(t *testing.T) {
	needPrivilege(t, true)
	s := newStore(t)
	mustBuild(t, s, "app:v1", file{"a", "1"})
	path := filepath.Join(t.TempDir(), "docker.tar")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := s.Save(t.Context(), out, []string{"app:v1"}, SaveOptions{Format: DockerArchive}); err != nil {
		t.Fatal(err)
	}
	storage := t.TempDir()
	args := []string{"buildah", "--root", storage + "/root", "--runroot", storage + "/run", "--storage-driver", "vfs"}
	id := strings.TrimSpace(peer(t, append(args, "pull", "docker-archive:"+path)...))
	if want := mustHave(t, s, "app:v1").ID().Encoded(); id != want {
		t.Errorf("image id %s, want %s", id, want)
	}
}
