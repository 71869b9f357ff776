package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// kept is a client that keeps a file, a repository and a checkout.
func kept(t *testing.T) *Client {
	h := newHistory(t)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/r.git") {
			backend(t, w, r, map[string]*repository{"r.git": h.repository})
			return
		}
		fmt.Fprint(w, "content")
	})
	c := newClient(t, Options{})
	fetch(t, c, s.URL+"/x", "")
	checkout(t, c, s.URL+"/r.git#v1")
	checkout(t, c, s.URL+"/r.git?branch=main&keep-git-dir=true")
	return c
}

// faults lists what Check finds wrong.
func faults(t *testing.T, c *Client) (list []string) {
	t.Helper()
	n := 0
	err := Check(context.Background(), c.o, func(k Kept, err error) {
		n++
		if err != nil {
			list = append(list, filepath.Dir(k.Path)+": "+err.Error())
		}
	})
	if err != nil || n != 4 {
		t.Fatalf("looked at %d: %v", n, err)
	}
	return list
}

// each does something to every file that a pattern finds.
func each(t *testing.T, pattern string, do func(path string) error) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	for _, f := range files {
		if err := errors.Join(os.Chmod(f, 0o600), do(f)); err != nil {
			t.Fatal(err)
		}
	}
}

// flip changes a byte in the middle of a file.
func flip(path string) error {
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 {
		return err
	}
	text[len(text)/2] ^= 4
	return os.WriteFile(path, text, 0o600)
}

func TestCheck(t *testing.T) {
	for _, test := range []struct {
		name    string
		pattern string
		do      func(path string) error
		want    string // "" is no fault
	}{
		{"nothing", "http/*/info", func(string) error { return nil }, ""},
		{"part of a download", "http/*", func(p string) error {
			return errors.Join(os.Chmod(p, 0o700), os.WriteFile(filepath.Join(p, "part-1"), []byte("x"), 0o600))
		}, ""},
		{"a byte of a file", "http/*/[0-9a-f]*[0-9a-f]", flip, "http: damaged: the content has digest "},
		{"the end of a file", "http/*/[0-9a-f]*[0-9a-f]", func(p string) error { return os.Truncate(p, 3) }, "http: damaged"},
		{"what is said of a file", "http/*/info", func(p string) error { return os.Truncate(p, 3) }, "http: damaged"},
		{"objects", "repositories/*/objects/??/*", flip, "repositories: damaged: git: "},
		{"objects that are gone", "repositories/*/objects/??/*", os.Remove, "repositories: damaged: git: "},
		{"what a killed git leaves", "repositories/*", func(p string) error {
			return errors.Join(os.Chmod(p, 0o700), os.WriteFile(filepath.Join(p, "shallow.lock"), nil, 0o600))
		}, ""},
		{"a byte of a checkout", "trees/*/files/foo", flip, "trees: damaged"},
		{"a file of a checkout that is gone", "trees/*/files/foo", os.Remove, "trees: damaged"},
		{"a file too many", "trees/*/files/foo", func(p string) error { return os.WriteFile(p+"2", nil, 0o600) }, "trees: damaged"},
		{"a mode", "trees/*/files/foo", func(p string) error { return os.Chmod(p, 0o755) }, "trees: damaged"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := kept(t)
			each(t, filepath.Join(c.o.Dir, test.pattern), test.do)
			got := strings.Join(faults(t, c), "\n")
			if test.want == "" && got != "" || !strings.HasPrefix(got, test.want) {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}

// What somebody works with is not looked at while he does.
func TestCheckPassesOver(t *testing.T) {
	c := kept(t)
	each(t, filepath.Join(c.o.Dir, "http/*/[0-9a-f]*[0-9a-f]"), flip)
	places, _ := filepath.Glob(filepath.Join(c.o.Dir, "http/*"))
	unlock, _ := c.o.Locks.TryLock(placeOf(c.o.Dir, httpDir, filepath.Base(places[0])).lock, false)
	if got := faults(t, c); len(got) != 0 {
		t.Errorf("found %q", got)
	}
	unlock()
	if got := faults(t, c); len(got) != 1 {
		t.Errorf("found %q", got)
	}
}
