package cache

import (
	"context"
	"errors"
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
			dir, err := s.Mount("a", func(dir string) error {
				return errors.Join(os.WriteFile(filepath.Join(dir, "first"), nil, 0o644), os.Chmod(dir, os.ModeSticky|0o750))
			})
			if err != nil {
				t.Error(err)
				return
			}
			_ = os.WriteFile(filepath.Join(dir, "kept"), nil, 0o644)
		})
	}
	wg.Wait()
	dir, err := s.Mount("a", func(string) error { return errors.New("it is there") })
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode() != os.ModeDir|os.ModeSticky|0o750 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	for _, name := range []string{"first", "kept"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestMountBeginFails(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var half string
	full := errors.New("disk is full")
	_, err = s.Mount("a", func(dir string) error {
		half = dir
		return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o644), full)
	})
	if !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(half)); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func begin(string) error { return nil }

func TestMountNames(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "a/b", ".tmp"} {
		if dir, err := s.Mount(name, begin); err == nil {
			t.Errorf("%q gives %s", name, dir)
		}
	}
}

func TestPruneMounts(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	old, err := s.Mount("old", begin)
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
	used, err := s.Mount("used", begin)
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
