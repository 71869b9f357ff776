package executor

import (
	"os"
	"syscall"
	"time"
)

// Usage is what a step has taken of the machine.
type Usage struct {
	// PeakMemory is the most memory in use at once: of all processes together, file
	// cache included, where there was a cgroup, else of the largest one.
	PeakMemory int64
	// CPUTime is the time of all processes on processors.
	CPUTime time.Duration
	// Written is how many bytes were written to files on disk.
	Written int64
}

// blockSize is the unit of rusage's blocks.
const blockSize = 512

// usageOf tells what the init process and all that it has outlived took. Processes
// that it has not, the kernel reaps in its name.
func usageOf(state *os.ProcessState, g *cgroup) Usage {
	var u Usage
	if r, ok := state.SysUsage().(*syscall.Rusage); ok {
		u.PeakMemory = int64(r.Maxrss) << 10
		u.Written = int64(r.Oublock) * blockSize
	}
	u.CPUTime = state.UserTime() + state.SystemTime()
	if peak := g.peak(); peak > 0 {
		u.PeakMemory = peak
	}
	return u
}
