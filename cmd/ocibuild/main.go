package main

import (
	"os"

	"github.com/ocibuild/ocibuild/executor"
)

func main() {
	executor.Init()
	os.Exit(run(os.Args[1:], systemIO()))
}
