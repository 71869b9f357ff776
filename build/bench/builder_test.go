package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// source is what is built.
type source struct {
	context, file string
}

// store is a builder with its images and its cache, empty at first.
type store interface {
	pull(ref string) error
	build(s source, tag string) (cost, error)
	push(tag string) (cost, error)
	close() error
}

// streamer is a store that pushes while it builds.
type streamer interface {
	buildAndPush(s source, tag string) (cost, error)
}

// builder is a program that builds images.
type builder struct {
	name string
	need []string // programs
	open func(dir string) (store, error)
}

// builders are ours and, with BENCH_PEERS=1, those of the others that are here.
func builders(b *testing.B) []builder {
	b.Helper()
	all := ours()
	if os.Getenv("BENCH_PEERS") == "" {
		return all
	}
	for _, peer := range []builder{
		{"buildkit", []string{"buildkitd", "buildctl"}, openBuildkit},
		{"buildah", []string{"buildah"}, func(dir string) (store, error) { return containersTool{"buildah", dir}, nil }},
		{"podman", []string{"podman"}, func(dir string) (store, error) { return containersTool{"podman", dir}, nil }},
		{"docker", []string{"dockerd", "docker"}, openDocker},
	} {
		if missing := firstMissing(peer.need); missing != "" {
			b.Logf("%s is not measured: %s is not in the PATH", peer.name, missing)
			continue
		}
		all = append(all, peer)
	}
	return all
}

// ours is this project's program alone.
func ours() []builder { return []builder{{name: "ocibuild", open: openOcibuild}} }

func firstMissing(programs []string) string {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return p
		}
	}
	return ""
}

// binary builds the program once.
var binary = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("BENCH_OCIBUILD"); bin != "" {
		return filepath.Abs(bin)
	}
	dir, err := os.MkdirTemp("", "ocibuild-bench-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "ocibuild")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "../../cmd/ocibuild")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return bin, nil
})

// ocibuild is this project's program with a store.
type ocibuild struct{ bin, root string }

func openOcibuild(dir string) (store, error) {
	bin, err := binary()
	return ocibuild{bin, filepath.Join(dir, "store")}, err
}

func (o ocibuild) run(args ...string) (cost, error) {
	return command{argv: append([]string{o.bin, "--root", o.root}, args...)}.run()
}

func (o ocibuild) pull(ref string) error {
	_, err := o.run("pull", "-q", ref)
	return err
}

func (o ocibuild) build(s source, tag string) (cost, error) {
	return o.run("build", "-q", "-t", tag, "-f", s.file, s.context)
}

func (o ocibuild) buildAndPush(s source, tag string) (cost, error) {
	return o.run("build", "-q", "--push", "-t", tag, "-f", s.file, s.context)
}

func (o ocibuild) push(tag string) (cost, error) { return o.run("push", "-q", tag) }

func (o ocibuild) close() error { return nil }

// containersTool is buildah or podman, with a storage of its own.
type containersTool struct{ bin, dir string }

func (c containersTool) run(args ...string) (cost, error) {
	argv := []string{c.bin, "--root", filepath.Join(c.dir, "storage"), "--runroot", filepath.Join(c.dir, "run"), "--storage-driver", "overlay"}
	return command{argv: append(argv, args...)}.run()
}

func (c containersTool) pull(ref string) error {
	_, err := c.run("pull", "-q", "--tls-verify=false", ref)
	return err
}

func (c containersTool) build(s source, tag string) (cost, error) {
	return c.run("build", "--layers", "--isolation=chroot", "--pull=missing", "--tls-verify=false", "-q", "-t", tag, "-f", s.file, s.context)
}

func (c containersTool) push(tag string) (cost, error) {
	return c.run("push", "-q", "--tls-verify=false", tag, "docker://"+tag)
}

func (c containersTool) close() error { return nil }

// daemon is a builder's process that stays.
type daemon struct {
	cmd *exec.Cmd
	log *bytes.Buffer
}

// startDaemon starts one and waits until the answer command succeeds.
func startDaemon(answer []string, argv ...string) (*daemon, error) {
	d := &daemon{exec.Command(argv[0], argv[1:]...), new(bytes.Buffer)}
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	for range 100 {
		if exec.Command(answer[0], answer[1:]...).Run() == nil {
			return d, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, errors.Join(fmt.Errorf("%s does not answer", argv[0]), d.stop())
}

func (d *daemon) stop() error {
	_ = d.cmd.Process.Signal(os.Interrupt)
	_ = d.cmd.Wait()
	return nil
}

// also is the cost of a client's command with what the daemon spent on it.
func (d *daemon) also(c command) (cost, error) {
	before := d.spent()
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", d.cmd.Process.Pid), []byte("5"), 0) // the peak begins anew
	took, err := c.run()
	if err != nil {
		return took, err
	}
	after := d.spent()
	return cost{took.Wall, took.CPU + after.CPU - before.CPU, max(took.Peak, after.Peak)}, nil
}

// spent reads what the daemon, and what it has waited for, took until now.
func (d *daemon) spent() cost {
	var c cost
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	if _, rest, ok := bytes.Cut(stat, []byte(") ")); ok {
		fields := strings.Fields(string(rest))
		for _, ticks := range fields[11:15] { // utime, stime, and the same of children
			var n int64
			_, _ = fmt.Sscan(ticks, &n)
			c.CPU += time.Duration(n) * 10 * time.Millisecond
		}
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
		_, _ = fmt.Sscan(rest, &c.Peak)
		c.Peak <<= 10
	}
	return c
}

// buildkit is buildctl with a daemon of its own.
type buildkit struct {
	*daemon
	host string
	last source
}

func openBuildkit(dir string) (store, error) {
	config := filepath.Join(dir, "buildkitd.toml")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		return nil, err
	}
	host := "unix://" + filepath.Join(dir, "socket")
	d, err := startDaemon([]string{"buildctl", "--addr", host, "--timeout=2", "debug", "workers"},
		"buildkitd", "--config", config, "--root", filepath.Join(dir, "root"), "--addr", host, "--otel-socket-path", filepath.Join(dir, "otel"),
		"--oci-worker=true", "--containerd-worker=false", "--oci-worker-gc=false")
	return &buildkit{daemon: d, host: host}, err
}

func (k *buildkit) run(s source, output string) (cost, error) {
	return k.also(command{argv: []string{
		"buildctl", "--addr", k.host, "build", "--progress=plain", "--frontend=dockerfile.v0", "--local=context=" + s.context,
		"--local=dockerfile=" + filepath.Dir(s.file), "--opt=filename=" + filepath.Base(s.file), "--output=" + output,
	}})
}

// pull: BuildKit pulls what a build reads.
func (k *buildkit) pull(ref string) error {
	dir, err := os.MkdirTemp("", "ocibuild-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "Dockerfile")
	if err := os.WriteFile(file, []byte("FROM "+ref+"\nCOPY Dockerfile /\n"), 0o600); err != nil {
		return err
	}
	_, err = k.run(source{dir, file}, "type=image,name=warm")
	return err
}

func (k *buildkit) build(s source, tag string) (cost, error) {
	k.last = s
	return k.run(s, "type=image,name="+tag)
}

// push is a build that ends in a push: BuildKit has no other.
func (k *buildkit) push(tag string) (cost, error) {
	return k.run(k.last, "type=image,name="+tag+",push=true,registry.insecure=true")
}

func (k *buildkit) close() error { return k.stop() }

// docker is the docker command with a daemon of its own.
type docker struct {
	*daemon
	host string
}

func openDocker(dir string) (store, error) {
	host := "unix://" + filepath.Join(dir, "socket")
	d, err := startDaemon([]string{"docker", "--host", host, "version"},
		"dockerd", "--host", host, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--bridge=none", "--iptables=false", "--ip6tables=false")
	return docker{d, host}, err
}

func (k docker) run(args ...string) (cost, error) {
	return k.also(command{argv: append([]string{"docker", "--host", k.host}, args...)})
}

func (k docker) pull(ref string) error {
	_, err := k.run("pull", "-q", ref)
	return err
}

func (k docker) build(s source, tag string) (cost, error) {
	return k.run("build", "-q", "--network=none", "-t", tag, "-f", s.file, s.context)
}

func (k docker) push(tag string) (cost, error) { return k.run("push", "-q", tag) }

func (k docker) close() error { return k.stop() }
