package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// openTest returns a store whose clock stands at a whole hour.
func openTest(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC) }
	return s
}

// keyOf is the key of a test's step.
func keyOf(name string) Key {
	h := NewHasher("test")
	h.String("name", name)
	key, _ := h.Sum()
	return key
}

// testRecord returns a record with every field set.
func testRecord(name string) *Record {
	return &Record{
		Key:      keyOf(name),
		Name:     "build/3: RUN make\x00\xff",
		Trail:    Trail{{"command", name}, {"env", `["A=<&>\u2028"]`}},
		Value:    json.RawMessage(`{"layer":1}`),
		Blobs:    []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("x"), Size: 1}},
		Created:  time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Duration: 1500 * time.Millisecond,
	}
}

func put(t testing.TB, s *Store, r *Record) {
	t.Helper()
	if err := s.Put(r); err != nil {
		t.Fatal(err)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	s := openTest(t)
	want := testRecord("a")
	put(t, s, want)
	got, err := s.Get(want.Key)
	if err != nil {
		t.Fatal(err)
	}
	want.Used = s.now()
	want.Name = "build/3: RUN make\x00\ufffd" // JSON holds no other bytes; the index goes by the real name
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLastPutWins(t *testing.T) {
	s := openTest(t)
	r := testRecord("a")
	put(t, s, r)
	r.Value = json.RawMessage(`{"layer":2}`)
	put(t, s, r)
	got, err := s.Get(r.Key)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Value) != `{"layer":2}` {
		t.Errorf("value is %s", got.Value)
	}
}

func TestMiss(t *testing.T) {
	tests := []struct {
		name   string
		key    Key
		damage func(t *testing.T, s *Store, path string, data []byte)
		reason string
		is     error
	}{
		{"absent", keyOf("b"), nil, "no record", fs.ErrNotExist},
		{"not a key", "../../etc/passwd", nil, "not a key", ErrDamaged},
		{"empty key", "", nil, "not a key", ErrDamaged},
		{"empty file", keyOf("a"), rewrite(func([]byte) []byte { return nil }), "not a record file", ErrDamaged},
		{"zeros", keyOf("a"), rewrite(func(b []byte) []byte { return make([]byte, len(b)) }), "not a record file", ErrDamaged},
		{"cut short", keyOf("a"), rewrite(func(b []byte) []byte { return b[:len(b)-1] }), "header says", ErrDamaged},
		{"too long", keyOf("a"), rewrite(func(b []byte) []byte { return append(b, ' ') }), "header says", ErrDamaged},
		{"flipped bit", keyOf("a"), rewrite(func(b []byte) []byte { b[len(b)-3] ^= 4; return b }), "checksum differs", ErrDamaged},
		{"header cut", keyOf("a"), rewrite(func(b []byte) []byte { return b[:16] }), "not a record file", ErrDamaged},
		{"short header", keyOf("a"), rewrite(func([]byte) []byte { return []byte("ocibuild record 1\n{}") }), "malformed", ErrDamaged},
		{"other version", keyOf("a"), rewrite(func(b []byte) []byte {
			return bytes.Replace(b, []byte("record 1 "), []byte("record 9 "), 1)
		}), `format version "9", want 1`, ErrDamaged},
		{"other kind", keyOf("a"), rewrite(func([]byte) []byte { return append(header("fact", nil), nil...) }), "not a record", ErrDamaged},
		{"not JSON", keyOf("a"), rewrite(func([]byte) []byte { return append(header("record", []byte("{")), '{') }), "damaged", ErrDamaged},
		{"other key", keyOf("b"), func(t *testing.T, s *Store, path string, data []byte) {
			write(t, s.path(stepsDir, string(keyOf("b"))), data)
		}, "holds the record of", ErrDamaged},
		{"a directory", keyOf("c"), func(t *testing.T, s *Store, _ string, _ []byte) {
			if err := os.Mkdir(s.path(stepsDir, string(keyOf("c"))), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a file", ErrDamaged},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := openTest(t)
			r := testRecord("a")
			put(t, s, r)
			path := s.path(stepsDir, string(r.Key))
			if tt.damage != nil {
				tt.damage(t, s, path, read(t, path))
			}
			_, err := s.Get(tt.key)
			var miss *MissError
			if !errors.As(err, &miss) {
				t.Fatalf("error is %v, want a miss", err)
			}
			if miss.Key != tt.key || !strings.Contains(miss.Reason, tt.reason) || !errors.Is(err, tt.is) {
				t.Errorf("miss is %q (%q), want reason %q and %v", miss.Reason, miss.Key, tt.reason, tt.is)
			}
			put(t, s, r)
			if _, err := s.Get(r.Key); err != nil {
				t.Errorf("get after put again: %v", err)
			}
		})
	}
}

func TestEveryFlippedBitIsAMiss(t *testing.T) {
	s := openTest(t)
	r := testRecord("a")
	put(t, s, r)
	path := s.path(stepsDir, string(r.Key))
	data := read(t, path)
	for i := range data {
		for bit := range 8 {
			data[i] ^= 1 << bit
			if _, err := unseal("record", data); !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d, bit %d: error is %v", i, bit, err)
			}
			data[i] ^= 1 << bit
		}
	}
	for n := range data {
		if _, err := unseal("record", data[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("first %d bytes: error is %v", n, err)
		}
	}
}

func TestPutErrors(t *testing.T) {
	s := openTest(t)
	if err := s.Put(&Record{Key: "../x"}); err == nil {
		t.Error("put of a bad key succeeds")
	}
	r := testRecord("a")
	r.Value = json.RawMessage(`{`)
	if err := s.Put(r); err == nil {
		t.Error("put of a value that is not JSON succeeds")
	}
	if err := os.Mkdir(s.path(stepsDir, string(r.Key)), 0o700); err != nil {
		t.Fatal(err)
	}
	r.Value = nil
	if err := s.Put(r); err == nil {
		t.Error("put onto a directory succeeds")
	}
	left, err := filepath.Glob(s.path(stepsDir, tempPrefix+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("failed put leaves %v (%v)", left, err)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	write(t, dir, nil)
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "open cache") {
		t.Errorf("open of a file: %v", err)
	}
}

func TestUseIsMarked(t *testing.T) {
	s := openTest(t)
	r := testRecord("a")
	put(t, s, r)
	path := s.path(stepsDir, string(r.Key))
	tests := []struct {
		name string
		ago  time.Duration
		want time.Duration
	}{
		{"long ago", time.Hour, 0},
		{"a minute ago", UseResolution, 0},
		{"just now", UseResolution - 1, UseResolution - 1},
		{"in the future", -time.Hour, -time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			then := s.now().Add(-tt.ago)
			if err := os.Chtimes(path, then, then); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get(r.Key); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.now().Sub(info.ModTime()); got != tt.want {
				t.Errorf("used %v ago, want %v", got, tt.want)
			}
		})
	}
}

func TestMissErrorText(t *testing.T) {
	err := miss(keyOf("a"), fmt.Errorf("x: %w", fs.ErrNotExist))
	want := "cache miss " + string(keyOf("a"))[:12] + ": no record"
	if err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
}

// rewrite damages a record's file by a function of its bytes.
func rewrite(change func([]byte) []byte) func(*testing.T, *Store, string, []byte) {
	return func(t *testing.T, _ *Store, path string, data []byte) {
		t.Helper()
		write(t, path, change(data))
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
