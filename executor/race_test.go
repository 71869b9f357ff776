//go:build race

package executor

// raceDetector says that this binary needs more memory than any limit leaves it.
const raceDetector = true
