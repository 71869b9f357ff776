package cache

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

func TestKeysDiffer(t *testing.T) {
	recipes := map[string]func(h *Hasher){
		"nothing":              func(*Hasher) {},
		"empty string":         func(h *Hasher) { h.String("", "") },
		"string":               func(h *Hasher) { h.String("a", "bc") },
		"moved boundary":       func(h *Hasher) { h.String("ab", "c") },
		"digest of that text":  func(h *Hasher) { h.Digest("a", "bc") },
		"list of one":          func(h *Hasher) { h.Strings("a", []string{"bc"}) },
		"list of two":          func(h *Hasher) { h.Strings("a", []string{"b", "c"}) },
		"list swapped":         func(h *Hasher) { h.Strings("a", []string{"c", "b"}) },
		"empty list":           func(h *Hasher) { h.Strings("a", nil) },
		"list of an empty one": func(h *Hasher) { h.Strings("a", []string{""}) },
		"list, then string":    func(h *Hasher) { h.Strings("a", []string{"b"}); h.String("c", "") },
		"true":                 func(h *Hasher) { h.Bool("a", true) },
		"text true":            func(h *Hasher) { h.String("a", "true") },
		"one":                  func(h *Hasher) { h.Int("a", 1) },
		"minus one":            func(h *Hasher) { h.Int("a", -1) },
		"text one":             func(h *Hasher) { h.String("a", "1") },
		"two fields":           func(h *Hasher) { h.String("a", "1"); h.String("b", "2") },
		"two fields swapped":   func(h *Hasher) { h.String("b", "2"); h.String("a", "1") },
		"newline in a value":   func(h *Hasher) { h.String("a", "1\nb2") },
	}
	keys := make(map[Key]string)
	for _, kind := range []string{"run", "copy"} {
		for name, recipe := range recipes {
			h := NewHasher(kind)
			recipe(h)
			key, _ := h.Sum()
			if !key.valid() {
				t.Errorf("%s: key %q is not one", name, key)
			}
			if other, ok := keys[key]; ok {
				t.Errorf("%s %s has the key of %s", kind, name, other)
			}
			keys[key] = kind + " " + name
		}
	}
}

func TestKeyIsStable(t *testing.T) {
	h := NewHasher("run")
	h.String("command", "make")
	h.Strings("env", []string{"A=1", "B=2"})
	h.Digest("parent", digest.FromString("x"))
	h.Bool("network", false)
	h.Int("uid", 1000)
	key, _ := h.Sum()
	const want = "e8959de7d3b8df4791856910264dbe815c79e4de9036b5de0a3532c1202d0e3f"
	if key != want {
		t.Errorf("key is %s, want %s: a change of the recipe must change schema, and this line", key, want)
	}
}

func TestTrail(t *testing.T) {
	long := strings.Repeat("x", 201)
	tests := []struct {
		name   string
		recipe func(h *Hasher)
		want   string
	}{
		{"string", func(h *Hasher) { h.String("f", "v") }, "v"},
		{"list", func(h *Hasher) { h.Strings("f", []string{"a b", `"`}) }, `["a b","\""]`},
		{"no list", func(h *Hasher) { h.Strings("f", nil) }, "[]"},
		{"digest", func(h *Hasher) { h.Digest("f", "sha256:ab") }, "sha256:ab"},
		{"bool", func(h *Hasher) { h.Bool("f", true) }, "true"},
		{"int", func(h *Hasher) { h.Int("f", -7) }, "-7"},
		{"200 bytes", func(h *Hasher) { h.String("f", long[:200]) }, long[:200]},
		{"201 bytes", func(h *Hasher) { h.String("f", long) }, fmt.Sprintf("%s (201 bytes)", digest.FromString(long))},
		{"not UTF-8", func(h *Hasher) { h.String("f", "a\xff") }, `"a\xff"`},
		{"list not UTF-8", func(h *Hasher) { h.Strings("f", []string{"\xff"}) }, `["\"\\xff\""]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := NewHasher("test")
			tt.recipe(h)
			_, trail := h.Sum()
			if diff := cmp.Diff(Trail{{"f", tt.want}}, trail); diff != "" {
				t.Error(diff)
			}
			if !utf8.ValidString(trail[0].Value) {
				t.Error("value is not UTF-8")
			}
		})
	}
}

func TestSumMayGoOn(t *testing.T) {
	h := NewHasher("test")
	h.String("a", "1")
	_, first := h.Sum()
	h.String("b", "2")
	_, second := h.Sum()
	if len(first) != 1 || len(second) != 2 {
		t.Errorf("trails have %d and %d fields, want 1 and 2", len(first), len(second))
	}
}
