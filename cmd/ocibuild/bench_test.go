package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The benchmarks measure the whole program, started as a user starts it, and
// report its time as a ratio to a floor: the same bytes moved with no builder
// at all, measured in the same iteration so that both see the same machine.
// Peak memory is the kernel's figure for the process.

// binary builds the program once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ocibuild-bench-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "ocibuild")
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return bin, nil
})

// sample is what one run of the program cost.
type sample struct {
	wall time.Duration
	peak int64 // KiB
}

// ocibuild runs the program and gives its cost.
func ocibuild(b *testing.B, args ...string) sample {
	b.Helper()
	bin, err := binary()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("ocibuild %v: %v\n%s", args, err, out)
	}
	usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return sample{time.Since(began), usage.Maxrss}
}

// measure runs work and its floor b.N times and reports medians' worth: means
// over the iterations, and the largest memory.
func measure(b *testing.B, floor func(), work func(i int) sample) {
	b.Helper()
	var floors, walls time.Duration
	var peak int64
	for i := range b.N {
		began := time.Now()
		floor()
		floors += time.Since(began)
		s := work(i)
		walls += s.wall
		peak = max(peak, s.peak)
	}
	n := float64(b.N)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(walls.Seconds()*1000/n, "ms")
	b.ReportMetric(floors.Seconds()*1000/n, "floor-ms")
	b.ReportMetric(walls.Seconds()/floors.Seconds(), "x-floor")
	b.ReportMetric(float64(peak)/1024, "peak-MiB")
}

// makeTree writes files of the given size, 100 to a directory.
func makeTree(b *testing.B, dir string, files, size int) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, size)
	for i := range files {
		d := filepath.Join(dir, fmt.Sprintf("d%03d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(d, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		for j := range data {
			data[j] = byte(r.UintN(256))
		}
		if err := os.WriteFile(filepath.Join(d, fmt.Sprintf("f%05d", i)), data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

func writeBenchFile(b *testing.B, path, text string) {
	b.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkNoopRebuild20Steps10kFiles rebuilds with everything cached. Floor:
// a walk of the context with an lstat of each file. Aim: 2 times that and 10 ms.
func BenchmarkNoopRebuild20Steps10kFiles(b *testing.B) {
	work := b.TempDir()
	context, root := filepath.Join(work, "context"), filepath.Join(work, "root")
	makeTree(b, context, 10000, 512)
	text := "FROM scratch\nARG V=1\nENV A=1 B=2\nLABEL x=y\nWORKDIR /app\n"
	for i := range 12 {
		text += fmt.Sprintf("COPY d%03d /app/d%03d\n", i, i)
	}
	text += "COPY . /all\nEXPOSE 80\nCMD [\"/app/run\"]\n"
	file := filepath.Join(work, "Dockerfile")
	writeBenchFile(b, file, text)
	args := []string{"--root", root, "build", "-q", "-t", "bench", "-f", file, context}
	ocibuild(b, args...)
	time.Sleep(4 * time.Second) // files changed just now are not remembered
	ocibuild(b, args...)
	b.ResetTimer()
	measure(b, func() {
		err := filepath.WalkDir(context, func(p string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Lstat(p)
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}, func(int) sample { return ocibuild(b, args...) })
}

// BenchmarkCopy50kFiles copies 50,000 files, 400 MB, into scratch with an empty
// store. Floor: tar piped through sha256 into a file. Aim: 1.5 times that.
func BenchmarkCopy50kFiles(b *testing.B) {
	work := b.TempDir()
	context := filepath.Join(work, "context")
	makeTree(b, context, 50000, 8000)
	file := filepath.Join(work, "Dockerfile")
	writeBenchFile(b, file, "FROM scratch\nCOPY . /\n")
	b.ResetTimer()
	measure(b, func() { tarToFile(b, context, filepath.Join(work, "floor.tar")) }, func(i int) sample {
		return ocibuild(b, "--root", filepath.Join(work, fmt.Sprintf("root%d", i)), "build", "-q", "-f", file, context)
	})
}

// tarToFile is the floor of making a layer: tar, hash, file.
func tarToFile(b *testing.B, dir, to string) {
	b.Helper()
	f, err := os.Create(to)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("tar", "-C", dir, "-cf", "-", ".")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if _, err := io.CopyBuffer(io.MultiWriter(f, sha256.New()), out, make([]byte, 1<<20)); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}
