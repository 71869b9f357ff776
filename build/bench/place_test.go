package bench

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// place is where one scenario has its inputs, stores and outputs.
type place struct {
	b   *testing.B
	dir string
	n   int // directories made
}

// newPlace makes a fresh filesystem, where root may, or a directory.
func newPlace(b *testing.B) *place {
	b.Helper()
	if dir := os.Getenv("BENCH_DIR"); dir != "" {
		dir, err := os.MkdirTemp(dir, "ocibuild-bench-")
		check(b, err)
		b.Cleanup(func() { os.RemoveAll(dir) })
		return &place{b: b, dir: dir}
	}
	work, err := os.MkdirTemp("/var/tmp", "ocibuild-bench-")
	check(b, err)
	b.Cleanup(func() { os.RemoveAll(work) })
	if os.Getuid() != 0 {
		return &place{b: b, dir: work}
	}
	return &place{b: b, dir: mountFresh(b, work)}
}

// mountFresh makes an ext4 of 30 GiB in a sparse file and mounts it.
func mountFresh(b *testing.B, work string) string {
	b.Helper()
	file, dir := filepath.Join(work, "disk"), filepath.Join(work, "fs")
	check(b, os.WriteFile(file, nil, 0o600))
	check(b, os.Truncate(file, 30<<30))
	check(b, os.Mkdir(dir, 0o755))
	for _, argv := range [][]string{{"mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", file}, {"mount", "-o", "loop", file, dir}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			b.Logf("no fresh filesystem: %v\n%s", err, out)
			return b.TempDir()
		}
	}
	b.Cleanup(func() {
		if out, err := exec.Command("umount", "-R", dir).CombinedOutput(); err != nil {
			b.Errorf("umount: %v\n%s", err, out)
		}
	})
	return dir
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// path names something in the place.
func (p *place) path(elems ...string) string {
	return filepath.Join(append([]string{p.dir}, elems...)...)
}

// fresh makes a new, empty directory. Its path is short: daemons have sockets there.
func (p *place) fresh() string {
	p.b.Helper()
	p.n++
	dir := p.path(fmt.Sprintf("%d", p.n))
	check(p.b, os.Mkdir(dir, 0o755))
	return dir
}

// write writes a file, and the directories above it.
func (p *place) write(name, text string) string {
	p.b.Helper()
	name = p.path(name)
	check(p.b, os.MkdirAll(filepath.Dir(name), 0o755))
	check(p.b, os.WriteFile(name, []byte(text), 0o644))
	return name
}

// tree makes files of that size, 100 to a directory; random bytes do not compress.
func (p *place) tree(name string, files, size int) string {
	return p.files(name, files, size, func(r *rand.ChaCha8, data []byte) { _, _ = r.Read(data) })
}

// textTree makes files that compress to about half.
func (p *place) textTree(name string, files, size int) string {
	raw := make([]byte, size/2)
	return p.files(name, files, size, func(r *rand.ChaCha8, data []byte) {
		_, _ = r.Read(raw)
		hex.Encode(data, raw)
	})
}

func (p *place) files(name string, files, size int, fill func(*rand.ChaCha8, []byte)) string {
	p.b.Helper()
	dir, r := p.path(name), rand.NewChaCha8([32]byte{1})
	data := make([]byte, size)
	for i := range files {
		d := filepath.Join(dir, fmt.Sprintf("d%04d", i/100))
		if i%100 == 0 {
			check(p.b, os.MkdirAll(d, 0o755))
		}
		fill(r, data)
		check(p.b, os.WriteFile(filepath.Join(d, fmt.Sprintf("f%06d", i)), data, 0o644))
	}
	return dir
}

// file makes one large file of random bytes, or of lines that compress as
// a log does.
func (p *place) file(name string, size int64, random bool) string {
	p.b.Helper()
	name = p.path(name)
	check(p.b, os.MkdirAll(filepath.Dir(name), 0o755))
	f, err := os.Create(name)
	check(p.b, err)
	w := bufio.NewWriterSize(f, 1<<20)
	r := rand.NewChaCha8([32]byte{2})
	chunk := make([]byte, 1<<16)
	for size > 0 {
		if random {
			_, _ = r.Read(chunk)
		} else {
			chunk = lines(chunk[:0], r.Uint64)
		}
		n := min(size, int64(len(chunk)))
		_, err := w.Write(chunk[:n])
		check(p.b, err)
		size -= n
	}
	check(p.b, w.Flush())
	check(p.b, f.Close())
	return name
}

// lines fills a buffer with lines of a log.
func lines(b []byte, random func() uint64) []byte {
	for len(b) < 1<<16-200 {
		n := random()
		b = fmt.Appendf(b, "2026-01-01T00:%02d:%02d level=info msg=%q request=%016x bytes=%d\n", n%60, n/60%60, strings.Repeat("served ", int(n%5)), n, n%100000)
	}
	return b
}
