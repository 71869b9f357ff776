package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"github.com/ocibuild/ocibuild/executor"
)

// The collector: builds of large contexts stay under 100 MiB because it runs
// when the heap has grown by half, and small ones do not pay for that because
// ballast, which is never touched and takes no memory, counts as heap.
const (
	gcPercent = 50
	ballast   = 8 << 20
)

func main() {
	executor.Init()
	debug.SetGCPercent(gcPercent)
	heap := make([]byte, ballast)
	code := run(os.Args[1:], systemIO())
	runtime.KeepAlive(heap)
	os.Exit(code)
}
