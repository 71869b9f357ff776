package main

import (
	"fmt"
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
	wall, cpu time.Duration
	peak      int64 // KiB
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
	return sample{time.Since(began), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), usage.Maxrss}
}

// measure runs work and its floor b.N times and reports medians' worth: means
// over the iterations, and the largest memory.
func measure(b *testing.B, floor func(), work func(i int) sample) {
	b.Helper()
	var floors, walls, cpu time.Duration
	var peak int64
	for i := range b.N {
		began := time.Now()
		floor()
		floors += time.Since(began)
		s := work(i)
		walls += s.wall
		cpu += s.cpu
		peak = max(peak, s.peak)
	}
	n := float64(b.N)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(walls.Seconds()*1000/n, "ms")
	b.ReportMetric(cpu.Seconds()*1000/n, "cpu-ms")
	b.ReportMetric(floors.Seconds()*1000/n, "floor-ms")
	b.ReportMetric(walls.Seconds()/floors.Seconds(), "x-floor")
	b.ReportMetric(float64(peak)/1024, "peak-MiB")
}

func writeBenchFile(b *testing.B, path, text string) {
	b.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}
