package cache

import (
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

func TestDropMount(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		dir, err := s.Mount(name, begin)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.DropMount("a"), s.DropMount("a")); err != nil {
		t.Fatal(err)
	}
	names := func() string {
		list, err := s.Mounts()
		if err != nil {
			t.Fatal(err)
		}
		names := ""
		for _, m := range list {
			names += m.Name + " "
			if time.Since(m.Used) > time.Minute {
				t.Errorf("%+v", m)
			}
		}
		return names
	}
	if got := names(); got != "b " {
		t.Errorf("mounts are %s", got)
	}
	dir, err := s.Mount("a", begin)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the new one has %v, %v", entries, err)
	}
}

func TestCleanMounts(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.CleanMounts(t.Context(), time.Now()); n != 0 || err != nil {
		t.Errorf("without mounts: %d, %v", n, err)
	}
	if _, err := s.Mount("a", begin); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for name, used := range map[string]time.Time{goneMount + "1": now, tempPrefix + "dead": now.Add(-time.Hour), tempPrefix + "live": now} {
		dir := s.path(mountsDir, name)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chtimes(dir, used, used)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.CleanMounts(t.Context(), now.Add(-time.Minute)); n != 1 || err != nil {
		t.Errorf("cleaned %d, %v", n, err)
	}
	left, err := s.UnfinishedMounts()
	if err != nil || len(left) != 1 || left[0].Name != tempPrefix+"live" {
		t.Errorf("left %+v, %v", left, err)
	}
}
