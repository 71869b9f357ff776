package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// server is a registry on this machine, where bases come from and images go.
type server struct {
	p    *place
	host string
}

// registry starts Debian's docker-registry for as long as the benchmark runs.
func (p *place) registry() *server {
	p.b.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		p.b.Skip("docker-registry is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(p.b, err)
	s := &server{p, l.Addr().String()}
	l.Close()
	config := p.write("registry.yml", fmt.Sprintf(
		"version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: %s\n", p.path("registry"), s.host))
	cmd := exec.Command(bin, "serve", config)
	check(p.b, cmd.Start())
	p.b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 100 {
		if resp, err := http.Get("http://" + s.host + "/v2/"); err == nil {
			resp.Body.Close()
			return s
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.b.Fatal("docker-registry does not answer")
	return nil
}

// base makes an image of a directory and leaves it in the registry.
func (s *server) base(name, dir string, env ...string) string {
	s.p.b.Helper()
	ref := s.host + "/" + name + ":v1"
	bin, err := binary()
	check(s.p.b, err)
	root := filepath.Join(s.p.fresh(), "store")
	args := []string{"--root", root, "import"}
	for _, e := range env {
		args = append(args, "--change", "ENV "+e)
	}
	for _, args := range [][]string{append(args, dir, ref), {"--root", root, "push", "-q", ref}} {
		if out, err := exec.Command(bin, args...).CombinedOutput(); err != nil {
			s.p.b.Fatalf("ocibuild %q: %v\n%s", args, err, out)
		}
	}
	return ref
}

// busybox is a root filesystem with little more than a shell.
func (p *place) busybox(name string) string {
	p.b.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		p.b.Skip("busybox is not installed")
	}
	dir := p.path(name)
	check(p.b, os.MkdirAll(filepath.Join(dir, "bin"), 0o755))
	check(p.b, os.MkdirAll(filepath.Join(dir, "tmp"), 0o755))
	text, err := os.ReadFile(busybox)
	check(p.b, err)
	check(p.b, os.WriteFile(filepath.Join(dir, "bin/busybox"), text, 0o755))
	for _, applet := range []string{"sh", "true", "sleep", "tar", "touch", "cat", "ls", "mkdir", "echo"} {
		check(p.b, os.Symlink("busybox", filepath.Join(dir, "bin", applet)))
	}
	return dir
}

// layer is the URL of an image's first layer.
func (s *server) layer(name string) string {
	s.p.b.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+s.host+"/v2/"+name+"/manifests/v1", nil)
	check(s.p.b, err)
	req.Header.Set("Accept", ocispec.MediaTypeImageManifest)
	resp, err := http.DefaultClient.Do(req)
	check(s.p.b, err)
	defer resp.Body.Close()
	var m ocispec.Manifest
	check(s.p.b, json.NewDecoder(resp.Body).Decode(&m))
	return "http://" + s.host + "/v2/" + name + "/blobs/" + m.Layers[0].Digest.String()
}

// upload sends a file as a blob, with no more requests than it takes.
func (s *server) upload(repo, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	d, err := digest.FromReader(f)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	resp, err := http.Post("http://"+s.host+"/v2/"+repo+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	resp.Body.Close()
	to, err := resp.Location()
	if err != nil {
		return err
	}
	q := to.Query()
	q.Set("digest", d.String())
	to.RawQuery = q.Encode()
	req, err := http.NewRequest(http.MethodPut, to.String(), f)
	if err != nil {
		return err
	}
	if fi, err := f.Stat(); err == nil {
		req.ContentLength = fi.Size()
	}
	resp, err = http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("upload: %s\n%s", resp.Status, bytes.TrimSpace(text))
	}
	return err
}

// heads asks n times for a blob, as the least that tells that nothing is new.
func (s *server) heads(url string, n int) error {
	for range n {
		resp, err := http.Head(url)
		if err != nil {
			return err
		}
		resp.Body.Close()
	}
	return nil
}
