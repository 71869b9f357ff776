package registry

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// program returns the path of a program that stands beside ours, or skips the test.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// implementation is a registry of others: its name and where its program is.
type implementation struct {
	name string
	find func(t *testing.T) string
}

// implementations are Debian's docker-registry, which is distribution 2.8, and distribution 3 as `make bin/distribution-v3` builds it of
// its Go module, which wants a minute and the module proxy.
func implementations() []implementation {
	return []implementation{
		{"docker-registry", func(t *testing.T) string { return program(t, "docker-registry") }},
		{"distribution-v3", func(t *testing.T) string {
			path, err := filepath.Abs("../bin/distribution-v3")
			if _, statErr := os.Stat(path); err != nil || statErr != nil {
				t.Skip("distribution 3 is not there: make bin/distribution-v3")
			}
			return path
		}},
	}
}

// eachRegistry runs a test with every implementation that is there.
func eachRegistry(t *testing.T, test func(t *testing.T, impl implementation)) {
	for _, impl := range implementations() {
		t.Run(impl.name, func(t *testing.T) {
			impl.find(t)
			test(t, impl)
		})
	}
}

// startRegistry runs Debian's docker-registry on a free loopback port and returns its host. With a user it wants a password.
func startRegistry(t *testing.T, user, password string) string {
	t.Helper()
	return implementations()[0].start(t, user, password)
}

// start runs the registry on a free loopback port and returns its host. With a user it wants a password.
func (impl implementation) start(t *testing.T, user, password string) string {
	t.Helper()
	if user == "" {
		return impl.startWith(t, "")
	}
	out, err := exec.Command(program(t, "htpasswd"), "-Bbn", user, password).Output()
	if err != nil {
		t.Fatalf("run htpasswd: %v", err)
	}
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return impl.startWith(t, "auth:\n  htpasswd:\n    realm: test\n    path: "+file+"\n")
}

// startWith runs the registry with more in its configuration, which may begin with more about http.
func (impl implementation) startWith(t *testing.T, more string) string {
	t.Helper()
	bin, dir := impl.find(t), t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	config := fmt.Sprintf("version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: %s/data\nhttp:\n  addr: %s\n%s", dir, host, more)
	if err := os.WriteFile(filepath.Join(dir, "config.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(bin, "serve", filepath.Join(dir, "config.yml"))
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(gone)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-gone
		if t.Failed() {
			t.Logf("%s: ...%s", impl.name, log.Bytes()[max(0, log.Len()-2000):])
		}
	})
	for range 500 {
		resp, err := http.Get("http://" + host + "/v2/")
		if err == nil {
			resp.Body.Close()
			return host
		}
		select {
		case <-gone:
			t.Fatalf("%s ended: %s", impl.name, log.String())
		case <-time.After(20 * time.Millisecond): // until it listens
		}
	}
	t.Fatalf("%s does not listen", impl.name)
	return ""
}

func skopeo(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(program(t, "skopeo"), append([]string{"--insecure-policy", "--tmpdir", t.TempDir()}, args...)...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir()) // where it looks for credentials, and the caller may not
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("skopeo %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// sameBlobs checks that two stores hold the same.
func sameBlobs(t *testing.T, got, want *memStore) {
	t.Helper()
	for d, body := range want.blobs {
		if !bytes.Equal(got.blobs[d], body) {
			t.Errorf("%s is missing or differs", d)
		}
	}
	if len(got.blobs) != len(want.blobs) {
		t.Errorf("%d blobs, want %d", len(got.blobs), len(want.blobs))
	}
}

func TestRegistries(t *testing.T) { eachRegistry(t, testRegistry) }

func testRegistry(t *testing.T, impl implementation) {
	host, ctx, have := impl.start(t, "", ""), context.Background(), newStore()
	desc := have.index(amd64, arm64, armV7)
	c := newClient(t, Options{})
	repo := Repository{Host: host, Name: "team/app"}
	if _, err := c.Push(ctx, PushRequest{Repo: repo, Reference: "v1", Descriptor: desc}, have); err != nil {
		t.Fatal(err)
	}
	into := newStore()
	for _, p := range []ocispec.Platform{amd64, arm64, armV7} {
		got, err := c.Pull(ctx, PullRequest{Repo: repo, Reference: "v1", Platforms: only(p)}, into)
		if err != nil || got.Digest != desc.Digest {
			t.Fatalf("%v %v", got, err)
		}
	}
	sameBlobs(t, into, have)

	image := have.image(amd64, 3<<20, 0, 1)
	if _, err := c.Push(ctx, PushRequest{Repo: repo, Reference: "big", Descriptor: image}, have); err != nil {
		t.Fatal(err)
	}
	other := Repository{Host: host, Name: "other"}
	c = newClient(t, Options{})
	if _, err := c.Push(ctx, PushRequest{Repo: other, Reference: "big", Descriptor: image, MountFrom: []Repository{repo}}, have); err != nil {
		t.Fatal(err)
	}
	if !c.noted(NoteMounted) {
		t.Error("nothing was mounted")
	}
	if got, err := c.Resolve(ctx, other, "big"); err != nil || got.Digest != image.Digest || got.Size != image.Size {
		t.Errorf("%v %v", got, err)
	}

	_, err := c.Resolve(ctx, repo, "v2")
	if e := asError(t, err); e.Code != "MANIFEST_UNKNOWN" || e.Status != 404 || !strings.Contains(e.Hint, "check the name") {
		t.Errorf("%v", err)
	}
	_, err = c.Resolve(ctx, Repository{Host: host, Name: "nothing/here"}, "v2")
	if e := asError(t, err); e.Status != 404 || !strings.Contains(e.Hint, "check the name") {
		t.Errorf("%v", err)
	}
	missing := ocispec.Descriptor{Digest: digest.FromString("missing"), Size: 7}
	_, err = c.Blob(ctx, repo, missing)
	if e := asError(t, err); e.Code != "BLOB_UNKNOWN" {
		t.Errorf("%v", err)
	}
	if there, err := c.BlobExists(ctx, repo, missing.Digest); err != nil || there {
		t.Errorf("%v %v", there, err)
	}
}

// TestRegistriesWithTLS pulls in pieces, and goes on with what is there, over HTTP/2.
func TestRegistriesWithTLS(t *testing.T) {
	eachRegistry(t, func(t *testing.T, impl implementation) {
		cert, key := writeCertificate(t)
		host, have := impl.startWith(t, "  tls:\n    certificate: "+cert+"\n    key: "+key+"\n"), newStore()
		desc := have.image(amd64, 1<<20, 5)
		c := newClient(t, Options{Insecure: []string{host}})
		c.pieceSize = 64 << 10
		repo := Repository{Host: host, Name: "app"}
		if _, err := c.Push(t.Context(), PushRequest{Repo: repo, Reference: "v1", Descriptor: desc}, have); err != nil {
			t.Fatal(err)
		}
		for _, kept := range []int{0, 300_000, 1<<20 - 10} {
			into, layer := newStore(), have.layers(t, desc)[0].Digest
			into.parts[layer] = have.blobs[layer][:kept:kept]
			if _, err := c.Pull(t.Context(), PullRequest{Repo: repo, Reference: "v1", Platforms: only(amd64)}, into); err != nil {
				t.Fatal(err)
			}
			sameBlobs(t, into, have)
		}
		if _, no := c.noRanges.Load(host); no {
			t.Error("the registry knows ranges, and was not asked for them")
		}
		_, err := newClient(t, Options{Credentials: static("ann", secret)}).Resolve(t.Context(), repo, "v1")
		if err == nil || !strings.Contains(err.Error(), "--insecure "+host) {
			t.Errorf("a certificate that nobody vouches for: %v", err)
		}
	})
}

// writeCertificate makes a certificate for loopback that vouches for itself.
func writeCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	text, err := x509.CreateCertificate(rand.Reader, about, about, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: text}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestRegistriesWithPassword(t *testing.T) { eachRegistry(t, testRegistryWithPassword) }

func testRegistryWithPassword(t *testing.T, impl implementation) {
	host, ctx, have, dir := impl.start(t, "ann", secret), context.Background(), newStore(), t.TempDir()
	desc := have.image(amd64, 100<<10)
	repo := Repository{Host: host, Name: "app"}
	c := newClient(t, Options{ConfigDir: dir})
	_, err := c.Push(ctx, PushRequest{Repo: repo, Reference: "v1", Descriptor: desc}, have)
	if e := asError(t, err); e.Status != 401 || !strings.Contains(e.Hint, "run `ocibuild login "+host+"`") {
		t.Errorf("%v", err)
	}
	_, err = c.Login(ctx, host, "ann", "wrong-secret")
	if e := asError(t, err); e.Status != 401 || strings.Contains(err.Error(), "wrong-secret") {
		t.Errorf("%v", err)
	}
	if _, err := c.Login(ctx, host, "ann", secret); err != nil {
		t.Fatal(err)
	}
	c = newClient(t, Options{ConfigDir: dir})
	if _, err := c.Push(ctx, PushRequest{Repo: repo, Reference: "v1", Descriptor: desc}, have); err != nil {
		t.Fatal(err)
	}
	into := newStore()
	if _, err := c.Pull(ctx, PullRequest{Repo: repo, Reference: "v1", Platforms: only(amd64)}, into); err != nil {
		t.Fatal(err)
	}
	sameBlobs(t, into, have)

	// skopeo reads the file that the login has written.
	raw := skopeo(t, "inspect", "--raw", "--tls-verify=false", "--authfile", filepath.Join(dir, "config.json"), "docker://"+host+"/app:v1")
	if digest.FromString(raw) != desc.Digest {
		t.Errorf("skopeo sees %s", raw)
	}
	if _, err := c.Logout(ctx, host); err != nil {
		t.Error(err)
	}
	if err := newClient(t, Options{ConfigDir: dir}).Ping(ctx, host); err == nil {
		t.Error("still logged in")
	}
}

// writeLayout writes a store as an OCI image layout with one tag.
func writeLayout(t *testing.T, from *memStore, desc ocispec.Descriptor, tag string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	index, err := json.Marshal(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{desc}})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json": append([]byte(`{"schemaVersion":2,`), index[len(`{"schemaVersion":0,`):]...),
	}
	for d, body := range from.blobs {
		files["blobs/sha256/"+d.Encoded()] = body
	}
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestSkopeo lets skopeo pull what we pushed, and pulls what skopeo pushed, in both formats.
func TestSkopeo(t *testing.T) {
	program(t, "skopeo")
	host, ctx := startRegistry(t, "", ""), context.Background()
	t.Run("pulls ours", func(t *testing.T) {
		have := newStore()
		desc := have.index(amd64, arm64)
		_, err := newClient(t, Options{}).Push(ctx, PushRequest{Repo: Repository{Host: host, Name: "ours"}, Reference: "v1", Descriptor: desc}, have)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		skopeo(t, "copy", "--all", "--src-tls-verify=false", "docker://"+host+"/ours:v1", "dir:"+dir)
		for d, body := range have.blobs {
			name := filepath.Join(dir, d.Encoded())
			switch d {
			case desc.Digest:
				name = filepath.Join(dir, "manifest.json")
			default:
				if _, err := os.Stat(name); err != nil {
					name += ".manifest.json"
				}
			}
			if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s: %v", d, err)
			}
		}
	})
	t.Run("pushes for us", func(t *testing.T) {
		have := newStore()
		desc := have.image(amd64, 200<<10, 10)
		layout := writeLayout(t, have, desc, "v1")
		skopeo(t, "copy", "--preserve-digests", "--dest-tls-verify=false", "oci:"+layout+":v1", "docker://"+host+"/theirs:v1")
		into := newStore()
		got, err := newClient(t, Options{}).Pull(ctx, PullRequest{Repo: Repository{Host: host, Name: "theirs"}, Reference: "v1", Platforms: only(amd64)}, into)
		if err != nil || got.Digest != desc.Digest {
			t.Fatalf("%v %v", got, err)
		}
		sameBlobs(t, into, have)
	})
	t.Run("docker's format", func(t *testing.T) {
		have := newStore()
		desc := have.dockerImage(t)
		_, err := newClient(t, Options{}).Push(ctx, PushRequest{Repo: Repository{Host: host, Name: "docker"}, Reference: "v1", Descriptor: desc}, have)
		if err != nil {
			t.Fatal(err)
		}
		skopeo(t, "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+host+"/docker:v1", "docker://"+host+"/docker:v2")
		into := newStore()
		got, err := newClient(t, Options{}).Pull(ctx, PullRequest{Repo: Repository{Host: host, Name: "docker"}, Reference: "v2", Platforms: only(amd64)}, into)
		if err != nil || got.MediaType != mediaTypeDockerManifest || got.Digest != desc.Digest {
			t.Fatalf("%v %v", got, err)
		}
		sameBlobs(t, into, have)
	})
}

// dockerImage stores an image of Docker's schema 2.
func (s *memStore) dockerImage(t *testing.T) ocispec.Descriptor {
	t.Helper()
	layer := s.add("application/vnd.docker.image.rootfs.diff.tar.gzip", content("docker", 1000))
	config := s.addJSON(mediaTypeDockerConfig, map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest.FromString("x").String()}},
	})
	return s.addJSON(mediaTypeDockerManifest, map[string]any{
		"schemaVersion": 2, "mediaType": mediaTypeDockerManifest, "config": config, "layers": []any{layer},
	})
}

// A blob goes to docker-registry in chunks, while it is made, with a password and without; what was sent by a client that died between
// two chunks is not sent again.
func TestDockerRegistryChunks(t *testing.T) {
	for _, user := range []string{"", "ann"} {
		host, dir, have := startRegistry(t, user, secret), t.TempDir(), newStore()
		if user != "" {
			if _, err := newClient(t, Options{ConfigDir: dir}).Login(t.Context(), host, user, secret); err != nil {
				t.Fatal(err)
			}
		}
		repo := Repository{Host: host, Name: "chunks"}
		data := content("chunks", 6*testChunk+5)
		m := newMaking()
		m.add(data[:3*testChunk], false, nil)
		ctx, die := context.WithCancel(t.Context())
		first := chunkClient(t, Options{ConfigDir: dir})
		dead := make(chan error, 1)
		go func() {
			_, err := first.PushStream(ctx, repo, Stream{Growing: m, Key: "layer"}, have)
			dead <- err
		}()
		for m.wanted() < 4*testChunk { // then three are taken
			time.Sleep(time.Millisecond)
		}
		die()
		if err := <-dead; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		m.add(data[3*testChunk:], true, nil)
		second := chunkClient(t, Options{ConfigDir: dir})
		desc, err := second.PushStream(t.Context(), repo, Stream{Growing: m, Key: "layer"}, have)
		if err != nil || desc.Digest != digest.FromBytes(data) {
			t.Fatal(err)
		}
		if second.at(testChunk) {
			t.Error("it began anew")
		}
		rc, err := second.Blob(t.Context(), repo, desc)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(rc)
		rc.Close()
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
}

// at reports whether a transfer was reported at exactly that offset.
func (tc *testClient) at(offset int64) bool {
	tc.mu.Lock()
	defer tc.mu.Unlock()
	return slices.ContainsFunc(tc.notes, func(p Progress) bool { return p.Note == NotePushing && p.Offset == offset })
}
