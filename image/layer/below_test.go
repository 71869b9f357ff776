package layer

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A file that was copied up and is what it was below is not in the diff.
func TestDiffOver(t *testing.T) {
	cut := time.Unix(1000, 0)
	whole := time.Unix(1000, 5)
	write := func(dir, name, text string, mode os.FileMode, at time.Time) {
		name = filepath.Join(dir, name)
		check(t, os.MkdirAll(filepath.Dir(name), 0o755))
		check(t, os.WriteFile(name, []byte(text), mode))
		check(t, os.Chtimes(name, at, at))
	}
	large := string(bytes.Repeat([]byte("large"), mediumFile))
	for name, tt := range map[string]struct {
		make func(upper, top, bottom string)
		want []string
	}{
		"the same in the bottom one": {func(upper, _, bottom string) {
			write(upper, "d/f", "x", 0o644, cut)
			write(bottom, "d/f", "x", 0o644, cut)
		}, []string{"d"}},
		"another mode": {func(upper, _, bottom string) {
			write(upper, "f", "x", 0o600, cut)
			write(bottom, "f", "x", 0o644, cut)
		}, []string{"f"}},
		"another time": {func(upper, _, bottom string) {
			write(upper, "f", "x", 0o644, cut)
			write(bottom, "f", "x", 0o644, whole)
		}, []string{"f"}},
		"other bytes at a time that was cut": {func(upper, _, bottom string) {
			write(upper, "f", "x", 0o644, cut)
			write(bottom, "f", "y", 0o644, cut)
		}, []string{"f"}},
		"bytes are not looked at where the time is whole": {func(upper, _, bottom string) {
			write(upper, "f", "x", 0o644, whole)
			write(bottom, "f", "y", 0o644, whole)
		}, nil},
		"a large file": {func(upper, _, bottom string) {
			write(upper, "f", large, 0o644, cut)
			write(bottom, "f", large, 0o644, cut)
			write(upper, "g", large+"1", 0o644, cut)
			write(bottom, "g", large+"2", 0o644, cut)
		}, []string{"g"}},
		"the upper one of two counts": {func(upper, top, bottom string) {
			write(upper, "f", "x", 0o644, cut)
			write(top, "f", "y", 0o644, cut)
			write(bottom, "f", "x", 0o644, cut)
		}, []string{"f"}},
		"a file hides directories": {func(upper, top, bottom string) {
			write(upper, "d/f", "x", 0o644, cut)
			write(top, "d", "x", 0o644, cut)
			write(bottom, "d/f", "x", 0o644, cut)
		}, []string{"d", "d/f"}},
		"an opaque directory hides others": {func(upper, top, bottom string) {
			write(upper, "d/f", "x", 0o644, cut)
			write(top, "d/g", "x", 0o644, cut)
			if err := unix.Setxattr(filepath.Join(top, "d"), userOverlay+"opaque", []byte("y"), 0); err != nil {
				t.Skipf("user attributes: %v", err)
			}
			write(bottom, "d/f", "x", 0o644, cut)
		}, []string{"d", "d/f"}},
		"a link": {func(upper, _, bottom string) {
			for _, dir := range []string{upper, bottom} {
				check(t, os.Symlink("x", filepath.Join(dir, "l")))
				ts := unix.NsecToTimespec(cut.UnixNano())
				check(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, "l"), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
			}
		}, nil},
		"a new name for a file below is a file": {func(upper, _, bottom string) {
			write(upper, "f", "x", 0o644, cut)
			check(t, os.Link(filepath.Join(upper, "f"), filepath.Join(upper, "g")))
			write(bottom, "f", "x", 0o644, cut)
		}, []string{"g"}},
	} {
		t.Run(name, func(t *testing.T) {
			upper, top, bottom := t.TempDir(), t.TempDir(), t.TempDir()
			tt.make(upper, top, bottom)
			w := NewWriter(&bytes.Buffer{})
			check(t, DiffOver(context.Background(), upper, []string{top, bottom}, w))
			_, toc, err := w.Close()
			check(t, err)
			var got []string
			for _, e := range toc.Entries {
				got = append(got, e.Name)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
