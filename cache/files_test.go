package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// oldStat is the stat of a file that changed an hour before the test store's clock, at a broken second.
func oldStat(s *Store) Stat {
	ns := s.now().Add(-time.Hour).UnixNano() + 1
	return Stat{Ino: 1, Dev: 2, Size: 3, Mode: 0o100644, MTimeNs: ns, CTimeNs: ns}
}

func openFiles(t testing.TB, s *Store) *Files {
	t.Helper()
	f, err := s.Files("/context")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func save(t testing.TB, f *Files) {
	t.Helper()
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
}

// len returns how many files the memo knows.
func (f *Files) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.entries)
}

func TestFilesRoundTrip(t *testing.T) {
	s := openTest(t)
	f := openFiles(t, s)
	st := oldStat(s)
	want := digest.FromString("content")
	paths := []string{"a", "a/b", "\xff\n", "main.go"}
	for _, p := range paths {
		f.Remember(p, st, want)
	}
	save(t, f)
	f = openFiles(t, s)
	if f.len() != len(paths) {
		t.Errorf("memo has %d entries, want %d", f.len(), len(paths))
	}
	for _, p := range paths {
		if got, ok := f.Digest(p, st); !ok || got != want {
			t.Errorf("digest of %q is %q, %t", p, got, ok)
		}
	}
	if _, ok := f.Digest("other", st); ok {
		t.Error("a file that was never remembered is known")
	}
}

func TestFilesStatDecides(t *testing.T) {
	s := openTest(t)
	f := openFiles(t, s)
	f.Remember("a", oldStat(s), digest.FromString("x"))
	changes := map[string]func(*Stat){
		"ino":   func(st *Stat) { st.Ino++ },
		"dev":   func(st *Stat) { st.Dev++ },
		"size":  func(st *Stat) { st.Size++ },
		"mode":  func(st *Stat) { st.Mode++ },
		"mtime": func(st *Stat) { st.MTimeNs++ },
		"ctime": func(st *Stat) { st.CTimeNs++ },
	}
	for name, change := range changes {
		st := oldStat(s)
		change(&st)
		if _, ok := f.Digest("a", st); ok {
			t.Errorf("another %s -> known", name)
		}
	}
	if _, ok := f.Digest("a", oldStat(s)); !ok {
		t.Error("the same stat -> not known")
	}
}

func TestFilesRacy(t *testing.T) {
	s := openTest(t)
	opened := s.now().UnixNano()
	tests := []struct {
		name  string
		ctime int64
		known bool
	}{
		{"an hour before", opened - int64(time.Hour) + 1, true},
		{"just outside the window", opened - int64(racyWindow) - 1, true},
		{"just inside the window", opened - int64(racyWindow) + 1, false},
		{"at the opening", opened + 1, false},
		{"after the opening", opened + int64(time.Minute) + 1, false},
		{"whole second, two seconds before", opened - 2*int64(time.Second), false},
		{"whole second, an hour before", opened - int64(time.Hour), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := openFiles(t, s)
			f.Remember("a", oldStat(s), digest.FromString("old"))
			st := oldStat(s)
			st.CTimeNs = tt.ctime
			f.Remember("a", st, digest.FromString("new"))
			if _, ok := f.Digest("a", st); ok != tt.known {
				t.Errorf("known: %t, want %t", ok, tt.known)
			}
			if got, ok := f.Digest("a", oldStat(s)); ok && tt.ctime != oldStat(s).CTimeNs {
				t.Errorf("the old stat still gives %s", got)
			}
		})
	}
}

func TestFilesRealFile(t *testing.T) {
	s := openTest(t)
	s.now = func() time.Time { return time.Now().Add(time.Hour) } // the memo is opened long after the file changed
	path := filepath.Join(t.TempDir(), "a")
	write(t, path, []byte("one"))
	stat := func() Stat {
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		return Stat{Ino: st.Ino, Dev: st.Dev, Size: st.Size, Mode: st.Mode, MTimeNs: st.Mtim.Nano(), CTimeNs: st.Ctim.Nano()}
	}
	f := openFiles(t, s)
	f.Remember("a", stat(), digest.FromString("one"))
	if _, ok := f.Digest("a", stat()); !ok {
		t.Error("unchanged file -> not known")
	}
	write(t, path, []byte("three"))
	if _, ok := f.Digest("a", stat()); ok {
		t.Error("changed file -> known")
	}
}

func TestFilesSaveOnlyWhenChanged(t *testing.T) {
	s := openTest(t)
	f := openFiles(t, s)
	save(t, f)
	if _, err := os.Lstat(f.path); !os.IsNotExist(err) {
		t.Errorf("an empty memo is written: %v", err)
	}
	f.Remember("a", oldStat(s), digest.FromString("x"))
	save(t, f)
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	f.Digest("a", oldStat(s))
	save(t, f)
	if _, err := os.Lstat(f.path); !os.IsNotExist(err) {
		t.Errorf("an unchanged memo is written: %v", err)
	}
}

func TestFilesDropsWhatNobodyAsksFor(t *testing.T) {
	s := openTest(t)
	st := oldStat(s)
	f := openFiles(t, s)
	for _, p := range []string{"kept", "asked once", "gone"} {
		f.Remember(p, st, digest.FromString("x"))
	}
	save(t, f)
	for i := range maxAge + 1 {
		f = openFiles(t, s)
		if _, ok := f.Digest("kept", st); !ok {
			t.Fatalf("build %d: an entry that every build asks for is dropped", i)
		}
		if i == 2 {
			f.Digest("asked once", st)
		}
		st.MTimeNs-- // another file changes every time
		f.Remember("new", st, digest.FromString("x"))
		st.MTimeNs++
		save(t, f)
	}
	f = openFiles(t, s)
	if _, ok := f.Digest("gone", st); ok {
		t.Error("an entry that no build asked for is kept")
	}
	if _, ok := f.Digest("asked once", st); !ok {
		t.Error("an entry that a build asked for lately is dropped")
	}
}

func TestFilesRefuses(t *testing.T) {
	s := openTest(t)
	f := openFiles(t, s)
	f.Remember("", oldStat(s), digest.FromString("x"))
	f.Remember(string(make([]byte, maxPath+1)), oldStat(s), digest.FromString("x"))
	f.Remember("a", oldStat(s), "sha512:00")
	if f.len() != 0 {
		t.Errorf("memo has %d entries, want none", f.len())
	}
	if _, err := s.Files(""); err == nil {
		t.Error("a context without a name has a memo")
	}
}

func TestFilesDamageIsAnEmptyMemo(t *testing.T) {
	s := openTest(t)
	f := openFiles(t, s)
	f.Remember("a", oldStat(s), digest.FromString("x"))
	f.Remember("b", oldStat(s), digest.FromString("y"))
	save(t, f)
	good := read(t, f.path)
	body, err := unseal("files", good)
	if err != nil {
		t.Fatal(err)
	}
	reseal := func(b []byte) []byte { return append(header("files", b), b...) }
	one := appendText(nil, "/context")
	tests := map[string][]byte{
		"empty file":      {},
		"cut short":       good[:len(good)-1],
		"cut and resaid":  reseal(body[:len(body)-1]),
		"other context":   reseal(append(appendText(nil, "/other"), body[len(one):]...)),
		"no context":      reseal(nil),
		"path twice":      reseal(append(append([]byte{}, body...), body[len(one):]...)),
		"empty path":      reseal(append(append([]byte{}, one...), make([]byte, entrySize+1)...)),
		"endless varint":  reseal(append(append([]byte{}, one...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)),
		"path past end":   reseal(append(append([]byte{}, one...), 0xff, 0x7f)),
		"record in place": append(header("record", body), body...),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			write(t, f.path, data)
			damaged := openFiles(t, s)
			if damaged.len() != 0 {
				t.Errorf("memo has %d entries", damaged.len())
			}
			damaged.Remember("a", oldStat(s), digest.FromString("x"))
			save(t, damaged)
			if openFiles(t, s).len() != 1 {
				t.Error("the memo does not recover")
			}
		})
	}
}

func TestFilesConcurrentUse(t *testing.T) {
	s := openTest(t)
	f := openFiles(t, s)
	st := oldStat(s)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				path := fmt.Sprintf("%d", (i+g*50)%300)
				if _, ok := f.Digest(path, st); !ok {
					f.Remember(path, st, digest.FromString(path))
				}
				if i%100 == 0 {
					if err := f.Save(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	save(t, f)
	f = openFiles(t, s)
	for i := range 300 {
		path := fmt.Sprintf("%d", i)
		if got, ok := f.Digest(path, st); !ok || got != digest.FromString(path) {
			t.Errorf("digest of %s is %s, %t", path, got, ok)
		}
	}
}

func BenchmarkFilesLoad10000(b *testing.B) {
	s := openTest(b)
	f := openFiles(b, s)
	st := oldStat(s)
	for i := range 10_000 {
		f.Remember(fmt.Sprintf("node_modules/package-%d/lib/source-file-%d.js", i/20, i), st, digest.FromString(fmt.Sprint(i)))
	}
	save(b, f)
	b.ReportAllocs()
	for b.Loop() {
		if f := openFiles(b, s); f.len() != 10_000 {
			b.Fatal("entries are missing")
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := openTest(b)
	r := testRecord("a")
	put(b, s, r)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get(r.Key); err != nil {
			b.Fatal(err)
		}
	}
}
