package cache

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func TestMountIsMadeOnce(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			dir, err := s.Mount("a", MountOwner{Mode: 0o1750, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())})
			if err != nil {
				t.Error(err)
				return
			}
			_ = os.WriteFile(filepath.Join(dir, "kept"), nil, 0o644)
		})
	}
	wg.Wait()
	dir, err := s.Mount("a", MountOwner{Mode: 0o700})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode() != os.ModeDir|os.ModeSticky|0o750 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(filepath.Join(dir, "kept")); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestMountNames(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "a/b", ".tmp"} {
		if dir, err := s.Mount(name, MountOwner{}); err == nil {
			t.Errorf("%q gives %s", name, dir)
		}
	}
}

func TestPruneMounts(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	owner := MountOwner{Mode: 0o755, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	old, err := s.Mount("old", owner)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(old, then, then); err != nil {
		t.Fatal(err)
	}
	used, err := s.Mount("used", owner)
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.PruneMounts(context.Background(), time.Now().Add(-time.Minute))
	if err != nil || n != 1 {
		t.Errorf("pruned %d, %v", n, err)
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the old one is there: %v", err)
	}
	if _, err := os.Stat(used); err != nil {
		t.Error(err)
	}
}
