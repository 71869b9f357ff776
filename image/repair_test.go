package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// wound damages a layer of ill:v1, a part of multi:v1, and a remembered compression.
func wound(ctx context.Context, s *Store) error {
	l, err := addLayer(s, []byte("ill"))
	if err != nil {
		return err
	}
	var entries []ocispec.Descriptor
	for i, layers := range [][]Layer{{l}, nil} {
		cfg := testConfig(fmt.Sprint("ill", i))
		cfg.Platform = linux([]string{"arm64", "amd64"}[i])
		if layers == nil {
			healthy, err := addLayer(s, []byte("healthy"))
			if err != nil {
				return err
			}
			layers = []Layer{healthy}
		}
		desc, err := s.Assemble(ctx, cfg, layers)
		if err != nil {
			return err
		}
		entries = append(entries, desc)
	}
	index, err := s.AssembleIndex(ctx, entries, nil)
	if err != nil {
		return err
	}
	for name, desc := range map[string]ocispec.Descriptor{"ill:v1": entries[0], "multi:v1": index} {
		if err := s.Tag(ctx, mustParse(name), desc); err != nil {
			return err
		}
	}
	if _, err := s.Portable(ctx, entries[1], testGzip()); err != nil {
		return err
	}
	return os.Truncate(s.blobPath(l.Descriptor.Digest), 100)
}

// A repair that is killed, or fails, anywhere leaves a store that another repair
// mends, and loses no good blob.
func TestRepairCutAtEveryPoint(t *testing.T) {
	atEveryPoint(t, []string{killed, namesLost, "failure"}, 1, cutRepair)
}

func cutRepair(t *testing.T, root, kind string, n int) (done bool) {
	p := &tape{once: kind == "failure"}
	s := openTest(t, root, p.disk())
	if _, err := build(t.Context(), s, "old:v1", []byte("layer 0")); err != nil {
		t.Fatal(err)
	}
	if err := wound(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	good := len(blobs(t, s)) - 1
	faults, err := s.Fsck(t.Context(), FsckOptions{})
	if err != nil || len(faults) == 0 {
		t.Fatalf("%v, %v", faults, err)
	}
	p.mu.Lock()
	p.count, p.stopAt, p.renames, p.unsynced = 0, n, nil, nil
	p.mu.Unlock()
	_, err = s.Repair(t.Context(), faults, RepairOptions{})
	if p.stopped == "" {
		if err != nil {
			t.Fatalf("without a cut: %v", err)
		}
	}
	after := openTest(t, root, p.diskAfter(t, kind))
	faults, err = after.Fsck(t.Context(), FsckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := after.Repair(t.Context(), faults, RepairOptions{}); err != nil {
		t.Fatalf("the repair after a cut at %d (%s): %v", n, p.stopped, err)
	}
	mustBeClean(t, after)
	mustHave(t, after, "old:v1")
	mustHave(t, after, "multi:v1")
	if kept := countGood(t, root); kept < good {
		t.Errorf("%d good blobs of %d are left", kept, good)
	}
	if t.Failed() {
		t.Fatalf("after a cut at %d (%s)", n, p.stopped)
	}
	os.RemoveAll(root)
	return p.stopped == ""
}

// countGood counts the blobs in the store and its quarantine.
func countGood(t *testing.T, root string) int {
	t.Helper()
	found := make(map[string]bool)
	for _, pattern := range []string{"blobs/*/*", "quarantine/*/blobs/*/*"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if info, err := os.Stat(f); err == nil && info.Size() != 100 {
				found[filepath.Base(f)] = true
			}
		}
	}
	return len(found)
}
