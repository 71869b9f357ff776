package layer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A layer that was unpacked through a mount of what is below it is checked by the
// whole: its own files are where the links below lead.
func TestCheckOnto(t *testing.T) {
	below := rawTar(t, dir("usr"), dir("usr/lib"), file("usr/lib/old", "1"), symlink("lib", "usr/lib"), file("gone", "2"))
	above := rawTar(t, file("lib/new", "3"), hard("linked", "lib/old"), file(whiteoutPrefix+"gone", ""))
	_, lower := apply(t, below, t.TempDir(), ApplyOptions{Format: Merge})
	_, upper := apply(t, above, onto(t, below), ApplyOptions{Format: Merge})
	changed := rawTar(t, dir("usr"), dir("usr/lib"), file("usr/lib/new", "3"), file("linked", "1"), file(whiteoutPrefix+"gone", ""))

	for _, test := range []struct {
		name   string
		damage func(dir string) error
		want   string // "" is none
	}{
		{"as it is", func(string) error { return nil }, ""},
		{"other bytes", func(d string) error { return os.WriteFile(filepath.Join(d, "usr/lib/new"), []byte("4"), 0o644) }, "usr/lib/new has other bytes"},
		{"a file is gone", func(d string) error { return os.Remove(filepath.Join(d, "usr/lib/new")) }, "usr/lib/new is gone"},
		{"a link is gone", func(d string) error { return os.Remove(filepath.Join(d, "linked")) }, "linked is gone"},
		{"another type", func(d string) error { return os.Mkdir(filepath.Join(d, "lib"), 0o755) }, "lib is another type of file"},
		{"a file too many", func(d string) error { return os.WriteFile(filepath.Join(d, "usr/extra"), nil, 0o644) }, "usr/extra should not be there"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := t.TempDir()
			apply(t, changed, d, ApplyOptions{})
			check(t, test.damage(d))
			err := CheckOnto(t.Context(), d, []*TOC{lower, upper}, CheckOptions{})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// onto unpacks a layer for another to be unpacked over.
func onto(t *testing.T, below []byte) string {
	d := t.TempDir()
	apply(t, below, d, ApplyOptions{Format: Merge})
	return d
}
