package remote

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPrune(t *testing.T) {
	h := newHistory(t)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/r.git") {
			backend(t, w, r, map[string]*repository{"r.git": h.repository})
			return
		}
		fmt.Fprint(w, "content")
	})
	lock := &locks{}
	c := newClient(t, Options{Locks: lock})
	begin := time.Now().Add(-time.Second)
	f := fetch(t, c, s.URL+"/x", "")
	checkout(t, c, s.URL+"/r.git#v1")
	prune := func(before time.Time) PruneReport {
		t.Helper()
		r, err := Prune(context.Background(), c.o.Dir, lock, func(k Kept) bool { return k.Used.Before(before) })
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := prune(begin); r != (PruneReport{}) {
		t.Errorf("what was used since is pruned: %+v", r)
	}
	w, err := c.newWork()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(c.o.Dir, "work/dead/x"), 0o700); err != nil {
		t.Fatal(err)
	}
	kept, err := List(c.o.Dir)
	if err != nil || len(kept) != 3 || kept[0].Used.Before(begin) {
		t.Errorf("kept: %+v, %v", kept, err)
	}
	working, err := ListWork(c.o.Dir)
	if err != nil || len(working) != 2 || working[0].Live == working[1].Live {
		t.Errorf("working: %+v, %v", working, err)
	}
	places, _ := filepath.Glob(filepath.Join(c.o.Dir, "trees/*"))
	unlock, _ := lock.TryLock(placeOf(c.o.Dir, treesDir, filepath.Base(places[0])).lock, false)
	later := time.Now().Add(time.Hour)
	if r := prune(later); r.Files != 1 || r.Repositories != 1 || r.Trees != 0 || r.Bytes == 0 {
		t.Errorf("pruned: %+v", r)
	}
	unlock()
	if got := read(t, f); got != "content" {
		t.Errorf("what is being read becomes %q", got)
	}
	if _, err := os.Stat(w.dir); err != nil {
		t.Errorf("work that goes on is removed: %v", err)
	}
	if err := w.remove(); err != nil {
		t.Fatal(err)
	}
	if r := prune(later); r.Trees != 1 {
		t.Errorf("pruned: %+v", r)
	}
	if files, _ := filepath.Glob(filepath.Join(c.o.Dir, "*/*")); len(files) != 0 {
		t.Errorf("left: %v", files)
	}
	if r := prune(later); r != (PruneReport{}) {
		t.Errorf("pruned from nothing: %+v", r)
	}
	checkout(t, again(t, c), s.URL+"/r.git#v1")
}
