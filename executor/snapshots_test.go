package executor

import (
	"fmt"
	"testing"
)

// manyLayers commits n layers, each with a file of its own and one of all.
func manyLayers(t testing.TB, s *Snapshots, n int) []string {
	t.Helper()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("layer-%03d", i)
		makeLayer(t, s, names[i], func(dir string) {
			tree{"all": names[i] + "\n", "d/" + names[i]: ""}.make(t, dir)
		})
	}
	return names
}
