package cache

import (
	"bytes"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestFacts(t *testing.T) {
	s := openTest(t)
	key := keyOf("a")
	if _, ok := s.GetFact("passwd", key); ok {
		t.Error("an empty store knows a fact")
	}
	for _, value := range [][]byte{{}, []byte("x"), bytes.Repeat([]byte("\x00\n"), 1<<16)} {
		if err := s.PutFact("passwd", key, value); err != nil {
			t.Fatal(err)
		}
		if got, ok := s.GetFact("passwd", key); !ok || !bytes.Equal(got, value) {
			t.Errorf("fact of %d bytes comes back with %d, %t", len(value), len(got), ok)
		}
	}
	if _, ok := s.GetFact("group", key); ok {
		t.Error("a fact is known under another kind")
	}
	path := s.path(factsDir, "passwd", string(key))
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.GetFact("passwd", key); ok {
		t.Error("a damaged fact is a fact")
	}
}

func TestFactNames(t *testing.T) {
	s := openTest(t)
	for _, tt := range []struct {
		kind string
		key  Key
	}{
		{"", keyOf("a")},
		{"..", keyOf("a")},
		{"a/b", keyOf("a")},
		{"A", keyOf("a")},
		{"a", "x"},
		{"a", Key("../" + string(keyOf("a")))[:64]},
	} {
		if err := s.PutFact(tt.kind, tt.key, nil); err == nil {
			t.Errorf("put of %q %q succeeds", tt.kind, tt.key)
		}
		if _, ok := s.GetFact(tt.kind, tt.key); ok {
			t.Errorf("get of %q %q succeeds", tt.kind, tt.key)
		}
	}
}

func TestTOC(t *testing.T) {
	s := openTest(t)
	id := digest.FromString("layer")
	if _, ok := s.GetTOC(id); ok {
		t.Error("an empty store has a table of contents")
	}
	if err := s.PutTOC(id, []byte("toc")); err != nil {
		t.Fatal(err)
	}
	if got, ok := s.GetTOC(id); !ok || string(got) != "toc" {
		t.Errorf("table of contents is %q, %t", got, ok)
	}
	path := s.path(tocDir, id.Encoded())
	data := read(t, path)
	data[len(data)-1] ^= 1
	write(t, path, data)
	if _, ok := s.GetTOC(id); ok {
		t.Error("a damaged table of contents is one")
	}
	for _, bad := range []digest.Digest{"", "sha256:x", "sha512:" + digest.Digest(id.Encoded()), "sha256:../" + digest.Digest(id.Encoded()[3:])} {
		if err := s.PutTOC(bad, nil); err == nil {
			t.Errorf("put of %q succeeds", bad)
		}
		if _, ok := s.GetTOC(bad); ok {
			t.Errorf("get of %q succeeds", bad)
		}
	}
}
