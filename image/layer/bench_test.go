package layer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// hashing is where the benchmarks' tars go: SHA-256 in another goroutine, as the
// store does it.
type hashing struct {
	full, free chan []byte
	done       chan struct{}
}

func newHashing() *hashing {
	h := &hashing{full: make(chan []byte, 4), free: make(chan []byte, 4), done: make(chan struct{})}
	for range 4 {
		h.free <- make([]byte, 0, 1<<20)
	}
	go func() {
		defer close(h.done)
		sum := sha256.New()
		for b := range h.full {
			sum.Write(b)
			h.free <- b[:0]
		}
	}()
	return h
}

func (h *hashing) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		b := <-h.free
		n := min(len(rest), cap(b))
		h.full <- append(b, rest[:n]...)
		rest = rest[n:]
	}
	return len(p), nil
}

func (h *hashing) Close() {
	close(h.full)
	<-h.done
}

// manyFiles makes n small files, 100 in a directory.
func manyFiles(b *testing.B, n int) (dir string, size int64) {
	dir = b.TempDir()
	rnd := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, 16<<10)
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprint("d", i/2500), fmt.Sprint("s", i/100))
		if i%100 == 0 {
			check(b, os.MkdirAll(sub, 0o755))
		}
		body := data[:rnd.IntN(8<<10)]
		check(b, os.WriteFile(filepath.Join(sub, fmt.Sprint("file", i)), body, 0o644))
		size += int64(len(body))
	}
	return dir, size
}

func bigFile(b *testing.B) (dir string, size int64) {
	dir, size = b.TempDir(), 256<<20
	check(b, os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat([]byte("0123456789abcdef"), int(size)/16), 0o644))
	return dir, size
}

func benchmarkDiff(b *testing.B, dir string, size int64) {
	b.Run("Diff", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			out := newHashing()
			w := NewWriter(out)
			check(b, Diff(context.Background(), dir, w))
			_, _, err := w.Close()
			check(b, err)
			out.Close()
		}
	})
	b.Run("floor tar+sha256", func(b *testing.B) { // GNU tar into the same hash
		b.SetBytes(size)
		for b.Loop() {
			out := newHashing()
			cmd := exec.Command("tar", "-C", dir, "--sort=name", "-cf", "-", ".")
			pipe, err := cmd.StdoutPipe()
			check(b, err)
			check(b, cmd.Start())
			_, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{pipe}, make([]byte, 256<<10))
			check(b, err)
			check(b, cmd.Wait())
			out.Close()
		}
	})
}

func BenchmarkDiffManyFiles(b *testing.B) {
	dir, size := manyFiles(b, 10_000)
	benchmarkDiff(b, dir, size)
}

func BenchmarkDiffBigFile(b *testing.B) {
	dir, size := bigFile(b)
	benchmarkDiff(b, dir, size)
}

func BenchmarkApplyManyFiles(b *testing.B) {
	dir, size := manyFiles(b, 10_000)
	var buf bytes.Buffer
	w := NewWriter(&buf)
	check(b, Diff(context.Background(), dir, w))
	_, _, err := w.Close()
	check(b, err)
	b.Run("Apply", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			apply(b, buf.Bytes(), b.TempDir(), ApplyOptions{})
		}
	})
	b.Run("floor tar", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			run(b, buf.Bytes(), "tar", "-C", b.TempDir(), "-xpf", "-")
		}
	})
}

func BenchmarkTOC(b *testing.B) {
	toc := &TOC{}
	for i := range 50_000 {
		e := sampleTOC().Entries[1]
		e.Name = fmt.Sprintf("usr/share/doc/package%d/file%d", i/20, i)
		e.Xattrs = nil
		toc.Entries = append(toc.Entries, e)
	}
	data := toc.Marshal()
	b.Run("Marshal", func(b *testing.B) {
		for b.Loop() {
			toc.Marshal()
		}
	})
	b.Run("Unmarshal", func(b *testing.B) {
		for b.Loop() {
			_, err := UnmarshalTOC(data)
			check(b, err)
		}
	})
	b.Run("NewTree", func(b *testing.B) {
		for b.Loop() {
			NewTree(toc)
		}
	})
}
