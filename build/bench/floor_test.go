package bench

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"
)

// The floors: the same bytes moved with no builder at all.

// walk looks at every file of a directory.
func walk(dir string) error {
	return filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err == nil {
			_, err = os.Lstat(p)
		}
		return err
	})
}

// copyHashed writes what it reads to a file, hashes it, and sees it to the disk.
func copyHashed(r io.Reader, to string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(io.MultiWriter(f, sha256.New()), struct{ io.Reader }{r}, make([]byte, 1<<20))
	return errors.Join(err, f.Sync(), f.Close())
}

// tarTo makes a tar of a directory, hashed, through a filter into a file.
func tarTo(dir, to string, filter func(io.Writer) io.WriteCloser) error {
	cmd := exec.Command("tar", "-C", dir, "-cf", "-", ".")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if filter == nil {
		return errors.Join(copyHashed(out, to), cmd.Wait())
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	z := filter(io.MultiWriter(f, sha256.New()))
	_, err = io.CopyBuffer(z, out, make([]byte, 1<<20))
	return errors.Join(err, z.Close(), f.Close(), cmd.Wait())
}

func parallelGzip(w io.Writer) io.WriteCloser { return pgzip.NewWriter(w) }

// fileTo copies a file, hashed.
func fileTo(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return copyHashed(f, to)
}

// steps runs a program in a bare container on a root filesystem, n times.
func (p *place) steps(n int, lower, program string) (cost, error) {
	floor := p.path("floor")
	if _, err := os.Stat(floor); err != nil {
		source, err := filepath.Abs("testdata/floor.c")
		check(p.b, err)
		if out, err := exec.Command("cc", "-O2", "-static", "-o", floor, source).CombinedOutput(); err != nil {
			p.b.Skipf("the floor needs a C compiler: %v\n%s", err, out)
		}
	}
	return command{argv: []string{floor, fmt.Sprint(n), lower, p.fresh(), program}}.run()
}

// sleep is what a build can not be faster than.
func sleep(d time.Duration) func(int) (cost, error) {
	return func(int) (cost, error) {
		return here(func() error { time.Sleep(d); return nil })
	}
}

// download fetches a compressed layer and unpacks it with tar.
func (p *place) download(url string) (cost, error) {
	dir := p.fresh()
	return here(func() error {
		resp, err := http.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		z, err := gzip.NewReader(io.TeeReader(resp.Body, sha256.New()))
		if err != nil {
			return err
		}
		cmd := exec.Command("tar", "-C", dir, "-xf", "-")
		cmd.Stdin = z
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("tar: %w\n%s", err, out)
		}
		return nil
	})
}

// command measures a program as a floor.
func commandFloor(argv []string, env ...string) (cost, error) {
	return command{argv: argv, env: env}.run()
}
