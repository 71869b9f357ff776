package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"testing"

	"github.com/opencontainers/go-digest"
)

// childEnv tells the test's own binary to be one of several processes that use the store in that directory.
const childEnv = "OCIBUILD_CACHE_TEST_CHILD"

// TestMain becomes such a process when it is told to.
func TestMain(m *testing.M) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := child(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child puts, gets and prunes the same few things as its siblings do at the same time.
func child(dir string) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	for i := range 60 {
		name := fmt.Sprint(i % 10)
		value, err := json.Marshal(name)
		if err != nil {
			return err
		}
		r := &Record{Key: keyOf(name), Name: name, Trail: Trail{{"name", name}}, Value: value}
		if err := errors.Join(s.Put(r), s.PutFact("test", r.Key, value), childMemo(s, name)); err != nil {
			return err
		}
		got, err := s.Get(r.Key)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && string(got.Value) != string(value) {
			return fmt.Errorf("value of %s is %s", name, got.Value)
		}
		if fact, ok := s.GetFact("test", r.Key); ok && string(fact) != string(value) {
			return fmt.Errorf("fact of %s is %s", name, fact)
		}
		if _, _, err := s.Nearest(name, r.Trail); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// childMemo uses the memo that all siblings share.
func childMemo(s *Store, name string) error {
	f, err := s.Files("/shared")
	if err != nil {
		return err
	}
	st := Stat{Ino: 1, CTimeNs: 1}
	if d, ok := f.Digest(name, st); ok && d != digest.FromString(name) {
		return fmt.Errorf("digest of %s is %s", name, d)
	}
	f.Remember(name, st, digest.FromString(name))
	return f.Save()
}

func TestProcessesShareAStore(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	const children = 4
	for range children {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		go func() {
			out, err := cmd.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			done <- err
		}()
	}
	for left := children; left > 0; {
		select {
		case err := <-done:
			left--
			if err != nil {
				t.Error(err)
			}
		default:
			if _, err := s.Prune(t.Context(), all); err != nil {
				t.Fatal(err)
			}
		}
	}
	for r, err := range s.Records(t.Context()) {
		if err != nil {
			t.Error(err)
		} else if !s.HasName(r.Name) {
			t.Errorf("record %s is not in the index", r.Name)
		}
	}
}
