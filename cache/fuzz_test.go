package cache

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

func FuzzUnseal(f *testing.F) {
	f.Add([]byte{})
	f.Add(append(header("record", []byte("{}")), "{}"...))
	f.Add([]byte("ocibuild record 2 0 00000000\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		body, err := unseal("record", data)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("error is %v", err)
			}
			return
		}
		if diff := cmp.Diff(append(header("record", body), body...), data); diff != "" {
			t.Errorf("a file that nobody wrote is read: %s", diff)
		}
	})
}

func FuzzRecord(f *testing.F) {
	body, err := json.Marshal(testRecord("a"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"key":"` + string(keyOf("a")) + `","trail":[{}],"value":null,"blobs":[{}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decodeRecord(keyOf("a"), body)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("error is %v", err)
			}
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Skip("a time that JSON does not write")
		}
		if _, err := decodeRecord(r.Key, again); err != nil {
			t.Errorf("a record that was read and written cannot be read: %v", err)
		}
	})
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeFiles("/context", nil))
	f.Add(encodeFiles("/context", map[string]*entry{
		"a":   {stat: Stat{Ino: 1, Size: -1}, age: 3, sum: [32]byte{1}},
		"b/c": {},
	}))
	f.Fuzz(func(t *testing.T, body []byte) {
		entries, err := decodeFiles("/context", body)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("error is %v", err)
			}
			return
		}
		again, err := decodeFiles("/context", encodeFiles("/context", entries))
		if err != nil {
			t.Fatalf("a memo that was read and written cannot be read: %v", err)
		}
		if diff := cmp.Diff(entries, again, cmp.AllowUnexported(entry{})); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzHasher(f *testing.F) {
	f.Add("a", "b", "a", "b")
	f.Add("a", "bc", "ab", "c")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		sum := func(name, value string) Key {
			h := NewHasher("test")
			h.String(name, value)
			h.Digest(value, digest.Digest(name))
			key, trail := h.Sum()
			if len(trail) != 2 || !key.valid() {
				t.Errorf("key %q, trail %v", key, trail)
			}
			return key
		}
		same := name1 == name2 && value1 == value2
		if (sum(name1, value1) == sum(name2, value2)) != same {
			t.Error("keys are equal where the fields are not, or the reverse")
		}
	})
}
