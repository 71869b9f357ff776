package main

import (
	"os"
	"runtime/debug"

	"github.com/ocibuild/ocibuild/executor"
)

// gcPercent trades a little time for memory: builds of large contexts stay
// under 100 MiB with it.
const gcPercent = 50

func main() {
	executor.Init()
	debug.SetGCPercent(gcPercent)
	os.Exit(run(os.Args[1:], systemIO()))
}
