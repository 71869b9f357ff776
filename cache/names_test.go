package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	tests := []struct {
		name     string
		old, now Trail
		want     []Change
	}{
		{"both empty", nil, nil, nil},
		{"equal", Trail{{"a", "1"}}, Trail{{"a", "1"}}, nil},
		{"changed", Trail{{"a", "1"}, {"b", "2"}}, Trail{{"a", "1"}, {"b", "3"}}, []Change{{Name: "b", Old: "2", New: "3"}}},
		{"added", Trail{{"a", "1"}}, Trail{{"x", ""}, {"a", "1"}}, []Change{{Name: "x", Added: true}}},
		{"removed", Trail{{"a", "1"}, {"b", "2"}}, Trail{{"b", "2"}}, []Change{{Name: "a", Old: "1", Removed: true}}},
		{"order alone", Trail{{"a", "1"}, {"b", "2"}}, Trail{{"b", "2"}, {"a", "1"}}, nil},
		{"one of several", Trail{{"f", "1"}, {"f", "2"}}, Trail{{"f", "1"}, {"f", "3"}}, []Change{{Name: "f", Old: "2", New: "3"}}},
		{"fewer of several", Trail{{"f", "1"}, {"f", "2"}}, Trail{{"f", "1"}}, []Change{{Name: "f", Old: "2", Removed: true}}},
		{"more of several", Trail{{"f", "1"}}, Trail{{"f", "1"}, {"f", "2"}}, []Change{{Name: "f", New: "2", Added: true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, diff(tt.old, tt.now)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	s := openTest(t)
	if s.HasName("step") {
		t.Error("an empty store has the name")
	}
	if _, _, err := s.Nearest("step", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nearest in an empty store: %v", err)
	}
	for i, trail := range []Trail{
		{{"a", "1"}, {"b", "1"}, {"c", "1"}},
		{{"a", "1"}, {"b", "2"}, {"c", "1"}},
		{{"a", "1"}, {"b", "3"}, {"c", "1"}},
		{{"a", "9"}, {"b", "9"}, {"c", "9"}},
	} {
		now := s.now().Add(time.Minute)
		s.now = func() time.Time { return now }
		put(t, s, &Record{Key: keyOf(fmt.Sprint(i)), Name: "step", Trail: trail})
	}
	put(t, s, &Record{Key: keyOf("other"), Name: "other step", Trail: Trail{{"a", "1"}, {"b", "4"}, {"c", "1"}}})
	if !s.HasName("step") || s.HasName("no step") {
		t.Error("names are wrong")
	}
	tests := []struct {
		name  string
		trail Trail
		want  string
		diff  []Change
	}{
		{"the newest of equally near ones", Trail{{"a", "1"}, {"b", "4"}, {"c", "1"}}, "2", []Change{{Name: "b", Old: "3", New: "4"}}},
		{"the nearest", Trail{{"a", "1"}, {"b", "1"}, {"c", "2"}}, "0", []Change{{Name: "c", Old: "1", New: "2"}}},
		{"the same", Trail{{"a", "9"}, {"b", "9"}, {"c", "9"}}, "3", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, changes, err := s.Nearest("step", tt.trail)
			if err != nil {
				t.Fatal(err)
			}
			if r.Key != keyOf(tt.want) {
				t.Errorf("nearest is %v", r.Trail)
			}
			if diff := cmp.Diff(tt.diff, changes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNearestLooksAtTheNewest(t *testing.T) {
	s := openTest(t)
	for i := range maxNearest + 1 {
		now := s.now().Add(time.Second)
		s.now = func() time.Time { return now }
		put(t, s, &Record{Key: keyOf(fmt.Sprint(i)), Name: "step", Trail: Trail{{"a", fmt.Sprint(i)}}})
	}
	r, changes, err := s.Nearest("step", Trail{{"a", "0"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(changes) != 1 || r.Trail[0].Value != fmt.Sprint(maxNearest) {
		t.Errorf("nearest is %v with %v: the oldest record was looked at", r.Trail, changes)
	}
}

func TestNearestPassesOverDamage(t *testing.T) {
	s := openTest(t)
	put(t, s, &Record{Key: keyOf("good"), Name: "step", Trail: Trail{{"a", "1"}}})
	put(t, s, &Record{Key: keyOf("bad"), Name: "step", Trail: Trail{{"a", "2"}}})
	write(t, s.path(stepsDir, string(keyOf("bad"))), []byte("x"))
	write(t, s.path(namesDir, nameHash("step"), "not-a-key"), nil)
	r, _, err := s.Nearest("step", Trail{{"a", "2"}})
	if err != nil || r.Key != keyOf("good") {
		t.Errorf("nearest is %v, %v", r, err)
	}
	if err := os.Remove(s.path(stepsDir, string(keyOf("good")))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Nearest("step", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nearest among damaged records: %v", err)
	}
}
