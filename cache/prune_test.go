package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// fill puts one file of every kind, and a record with that name, into the store, all last used at one time.
func fill(t *testing.T, s *Store, name string, used time.Time) {
	t.Helper()
	put(t, s, &Record{Key: keyOf(name), Name: name})
	if err := errors.Join(s.PutFact("kind-"+name, keyOf(name), nil), s.PutTOC(digest.FromString(name), nil)); err != nil {
		t.Fatal(err)
	}
	f, err := s.Files("/" + name)
	if err != nil {
		t.Fatal(err)
	}
	f.Remember("a", oldStat(s), digest.FromString("x"))
	save(t, f)
	for _, path := range []string{
		s.path(stepsDir, string(keyOf(name))),
		s.path(factsDir, "kind-"+name, string(keyOf(name))),
		s.path(tocDir, digest.FromString(name).Encoded()),
		f.path,
	} {
		if err := os.Chtimes(path, used, used); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPrune(t *testing.T) {
	tests := []struct {
		name string
		drop func(*Store, Item) bool
		want PruneReport // without Bytes
		old  bool        // the old record remains
		new  bool        // the new record remains
	}{
		{"nothing", func(*Store, Item) bool { return false }, PruneReport{}, true, true},
		{"before", func(s *Store, i Item) bool { return i.Used.Before(s.now().Add(-time.Hour)) }, PruneReport{Records: 1, Facts: 1, TOCs: 1, Memos: 1}, false, true},
		{"all", func(*Store, Item) bool { return true }, PruneReport{Records: 2, Facts: 2, TOCs: 2, Memos: 2}, false, false},
		{"one", func(_ *Store, i Item) bool { return i.Kind == KindRecord && i.Key() == keyOf("new") }, PruneReport{Records: 1}, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := openTest(t)
			fill(t, s, "old", s.now().Add(-2*time.Hour))
			fill(t, s, "new", s.now())
			report, err := s.Prune(t.Context(), func(i Item) bool { return tt.drop(s, i) })
			if err != nil {
				t.Fatal(err)
			}
			if (report.Bytes > 0) != (report.Records > 0) {
				t.Errorf("%d bytes", report.Bytes)
			}
			report.Bytes = 0
			if diff := cmp.Diff(tt.want, report); diff != "" {
				t.Error(diff)
			}
			for name, want := range map[string]bool{"old": tt.old, "new": tt.new} {
				_, err := s.Get(keyOf(name))
				if (err == nil) != want || s.HasName(name) != want {
					t.Errorf("%s: get %v, name %t, want them: %t", name, err, s.HasName(name), want)
				}
			}
		})
	}
}

func all(Item) bool { return true }

func TestPruneLeavesNoEmptyDirectories(t *testing.T) {
	s := openTest(t)
	fill(t, s, "a", s.now())
	if _, err := s.Prune(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if left := list(t, s.path(namesDir)); len(left) > 0 {
		t.Errorf("the index still has %v", left)
	}
	fill(t, s, "a", s.now())
	if _, err := s.Get(keyOf("a")); err != nil {
		t.Errorf("the store is of no use after a prune: %v", err)
	}
}

func TestPruneLeftovers(t *testing.T) {
	s := openTest(t)
	put(t, s, testRecord("good"))
	for name, age := range map[string]time.Duration{"live": time.Minute, "dead": 2 * UnfinishedAge} {
		path := s.path(stepsDir, tempPrefix+name)
		write(t, path, nil)
		then := s.now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	report, err := s.Prune(t.Context(), func(Item) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	if report.Unfinished != 1 || report.Records != 0 {
		t.Errorf("%+v", report)
	}
	want := []string{tempPrefix + "live", string(keyOf("good"))}
	if diff := cmp.Diff(want, list(t, s.path(stepsDir))); diff != "" {
		t.Error(diff)
	}
}

func TestItems(t *testing.T) {
	s := openTest(t)
	then := s.now().Add(-time.Hour).Truncate(time.Second)
	fill(t, s, "a", then)
	write(t, s.path(tocDir, tempPrefix+"1"), nil)
	items, err := s.Items(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[Kind]int)
	for _, i := range items {
		kinds[i.Kind]++
		if i.Kind != KindUnfinished && (!i.Used.Equal(then) || i.Bytes == 0) {
			t.Errorf("%+v", i)
		}
		if name, err := s.Context(i); i.Kind == KindFiles && (name != "/a" || err != nil) {
			t.Errorf("memo of %q, %v", name, err)
		}
	}
	want := map[Kind]int{KindRecord: 1, KindFact: 1, KindTOC: 1, KindFiles: 1, KindUnfinished: 1}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Error(diff)
	}
	if r, err := s.Peek(keyOf("a")); err != nil || !r.Used.Equal(then) {
		t.Errorf("peek: %+v, %v", r, err)
	}
	if r, err := s.Peek(keyOf("a")); err != nil || !r.Used.Equal(then) {
		t.Errorf("peek marked the record used: %+v, %v", r, err)
	}
}

func TestRecords(t *testing.T) {
	s := openTest(t)
	put(t, s, testRecord("a"))
	put(t, s, testRecord("b"))
	put(t, s, testRecord("bad"))
	write(t, s.path(stepsDir, string(keyOf("bad"))), []byte("x"))
	write(t, s.path(stepsDir, tempPrefix+"1"), nil)
	used := s.now().Add(-time.Hour)
	if err := os.Chtimes(s.path(stepsDir, string(keyOf("a"))), used, used); err != nil {
		t.Fatal(err)
	}
	got := make(map[Key]time.Time)
	damaged := 0
	for r, err := range s.Records(t.Context()) {
		var miss *MissError
		switch {
		case err == nil:
			got[r.Key] = r.Used
		case errors.As(err, &miss) && miss.Key == keyOf("bad"):
			damaged++
		default:
			t.Error(err)
		}
	}
	if len(got) != 2 || damaged != 1 || !got[keyOf("a")].Equal(used) {
		t.Errorf("records are %v, %d damaged", got, damaged)
	}
	for range s.Records(t.Context()) {
		break
	}
}

func TestCancelled(t *testing.T) {
	s := openTest(t)
	fill(t, s, "a", s.now())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Prune(ctx, all); !errors.Is(err, context.Canceled) {
		t.Errorf("prune: %v", err)
	}
	for _, err := range s.Records(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("records: %v", err)
		}
	}
	if _, err := s.Get(keyOf("a")); err != nil {
		t.Error(err)
	}
}

// list returns the sorted names in a directory.
func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, filepath.Base(e.Name()))
	}
	return names
}
