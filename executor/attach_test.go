package executor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAttach(t *testing.T) {
	needsMounts(t)
	s := newStore(t)
	makeLayer(t, s, "low", func(dir string) { (tree{"a": "low", "b": "low"}).make(t, dir) })
	makeLayer(t, s, "high", func(dir string) { (tree{"a": "high"}).make(t, dir) })
	dir := t.TempDir()
	if err := s.Attach(t.Context(), Attachment{Dir: dir, Layers: []string{"low", "high"}, Labels: map[string]string{"image": "x"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Detach(dir) })
	for name, want := range map[string]string{"a": "high", "b": "low"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "c"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("written: %v", err)
	}
	list, err := s.Attachments()
	if err != nil || len(list) != 1 || list[0].Dir != dir || list[0].Labels["image"] != "x" {
		t.Errorf("%+v, %v", list, err)
	}
	none := func(string, time.Time) bool { return false }
	if _, err := s.Prune(context.Background(), none); err != nil || !s.Use("low") || !s.Use("high") {
		t.Errorf("pruned below a mount: %v", err)
	}
	open, err := os.Open(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Detach(dir); !errors.Is(err, unix.EBUSY) {
		t.Errorf("in use: %v", err)
	}
	open.Close()
	if err := s.Detach(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Detach(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("again: %v", err)
	}
	if _, err := s.Prune(context.Background(), none); err != nil || s.Use("low") || s.Use("high") {
		t.Errorf("not pruned: %v", err)
	}
}

func TestAttachFails(t *testing.T) {
	needsMounts(t)
	s := newStore(t)
	makeLayer(t, s, "one", func(string) {})
	if err := s.Attach(t.Context(), Attachment{Dir: filepath.Join(t.TempDir(), "absent"), Layers: []string{"one"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := s.Attach(t.Context(), Attachment{Dir: t.TempDir(), Layers: []string{"absent"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	// What somebody else has unmounted is forgotten.
	dir := t.TempDir()
	if err := s.Attach(t.Context(), Attachment{Dir: dir, Layers: []string{"one"}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Attachments(); err != nil || len(list) > 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if names, err := readNames(s.path(attachedDir)); err != nil || len(names) > 0 {
		t.Errorf("notes are left: %v, %v", names, err)
	}
}
