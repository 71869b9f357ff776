package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Refused is the error of a builder that does not make an image.
type Refused struct{ Output string }

// Error is all that the builder has said.
func (e *Refused) Error() string { return "refused:\n" + e.Output }

// program runs a program in a directory; a failure is a *Refused.
func program(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if _, ok := errors.AsType[*exec.ExitError](err); ok && !bytes.Contains(out, []byte("\ngoroutine ")) {
		return &Refused{string(out)}
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// Ocibuild builds with the program ocibuild of the PATH, with a store of its own
// in dir. It builds twice: from the cache must come the same image.
func Ocibuild(ctx context.Context, f *Fixture, dir string) (*Image, error) {
	store := filepath.Join(dir, "store")
	for _, img := range f.Images {
		if err := program(ctx, "", "ocibuild", "--root", store, "load", "-q", "-i", img.Archive); err != nil {
			return nil, fmt.Errorf("load %s: %w", img.Name, err)
		}
	}
	for _, name := range []string{"result", "again"} {
		args := append([]string{"--root", store, "build", "--progress=plain", "-t", name, "--file", f.Dockerfile}, f.Args...)
		if err := program(ctx, "", "ocibuild", append(args, f.Context)...); err != nil {
			return nil, err
		}
	}
	first, err := ReadLayout(store, "result:latest")
	if err != nil {
		return nil, err
	}
	again, err := ReadLayout(store, "again:latest")
	if err != nil {
		return nil, err
	}
	if d := f.Compare(first, again, "want", "config", "history"); d != "" {
		return nil, fmt.Errorf("from the cache comes another image (- from the build, + from the cache):\n%s", d)
	}
	return first, nil
}

// BuildKit builds with buildctl and the daemon that BUILDKIT_HOST names.
func BuildKit(ctx context.Context, f *Fixture, dir string) (*Image, error) {
	out := filepath.Join(dir, "out")
	args := []string{
		"build", "--progress=plain", "--no-cache", "--frontend=dockerfile.v0",
		"--local=context=" + f.Context, "--output=type=oci,tar=false,dest=" + out,
	}
	for _, img := range f.Images {
		args = append(args, "--oci-layout="+img.Name+"="+img.Dir, fmt.Sprintf("--opt=context:%s=oci-layout://%s@%s", img.Name, img.Name, img.Digest))
	}
	for _, a := range f.Args {
		name, value, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		sep := "="
		if name == "build-arg" || name == "label" {
			sep = ":"
		}
		args = append(args, "--opt="+name+sep+value)
	}
	args = append(args, "--local=dockerfile="+filepath.Dir(f.Dockerfile), "--opt=filename="+filepath.Base(f.Dockerfile))
	if err := program(ctx, "", "buildctl", args...); err != nil {
		return nil, err
	}
	return ReadLayout(out, "")
}

// BuildKitMissing tells why there is no BuildKit here.
func BuildKitMissing(ctx context.Context) error {
	if _, err := exec.LookPath("buildctl"); err != nil {
		return errors.New("buildctl is not in the PATH")
	}
	if err := program(ctx, "", "buildctl", "--timeout=5", "debug", "workers"); err != nil {
		return fmt.Errorf("no buildkitd answers at BUILDKIT_HOST=%s", os.Getenv("BUILDKIT_HOST"))
	}
	return nil
}

// Buildah builds with buildah, with a storage of its own in dir.
func Buildah(ctx context.Context, f *Fixture, dir string) (*Image, error) {
	b := buildah{ctx, f.dir, []string{"--root", filepath.Join(dir, "storage"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}}
	for _, img := range f.Images {
		name := filepath.Base(img.Dir) // a relative path, for it becomes the image's name
		err := errors.Join(b.run("pull", "oci:"+name+":"+img.Name), b.run("tag", "localhost/"+name, "localhost/"+img.Name))
		if err != nil {
			return nil, fmt.Errorf("pull %s: %v", img.Name, err) //nolint:errorlint // not a refusal of the case
		}
	}
	args := []string{"bud", "--isolation=chroot", "--format=docker", "--pull-never", "--tag=result", "--file", f.Dockerfile}
	args = append(append(args, f.Args...), f.Context)
	if err := b.run(args...); err != nil {
		return nil, err
	}
	out := filepath.Join(dir, "out")
	if err := b.run("push", "--disable-compression", "localhost/result", "dir:"+out); err != nil {
		return nil, err
	}
	return readDir(out)
}

// buildah runs the program buildah in a directory, with flags for all its commands.
type buildah struct {
	ctx    context.Context
	dir    string
	global []string
}

// patience is how long buildah may take; it waits for ever on some images.
const patience = 30 * time.Second

func (b buildah) run(args ...string) error {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	err := program(ctx, b.dir, "buildah", append(b.global, args...)...)
	if err != nil && ctx.Err() != nil && b.ctx.Err() == nil {
		return &Refused{"no end of it in " + patience.String()}
	}
	if err != nil && strings.Contains(err.Error(), "\ngoroutine ") {
		return &Refused{"it crashes"}
	}
	return err
}

// BuildahMissing tells why there is no buildah here.
func BuildahMissing(context.Context) error {
	if _, err := exec.LookPath("buildah"); err != nil {
		return errors.New("buildah is not in the PATH")
	}
	if os.Geteuid() != 0 {
		return errors.New("buildah is asked as root only")
	}
	return nil
}
