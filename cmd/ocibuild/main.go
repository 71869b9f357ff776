package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"github.com/ocibuild/ocibuild/executor"
)

// The collector: builds of large contexts stay under 100 MiB because it runs
// when the heap has grown by half, and small ones do not pay for that because
// ballast, which is never touched and takes no memory, counts as heap. It goes
// when there is more that lives, for then it only delays the collector.
const (
	gcPercent = 50
	ballast   = 8 << 20
	lightenAt = 4 * ballast
)

func main() {
	executor.Init()
	debug.SetGCPercent(gcPercent)
	lighten(new(make([]byte, ballast)))
	os.Exit(run(os.Args[1:], systemIO()))
}

// lighten keeps the ballast until a collection finds much beside it.
func lighten(held *[]byte) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	var after func(int)
	after = func(int) {
		if metrics.Read(live); live[0].Value.Uint64() < lightenAt {
			runtime.AddCleanup(new([32]byte), after, 0) // runs when the next collection has found it
			return
		}
		*held = nil
	}
	after(0)
}
