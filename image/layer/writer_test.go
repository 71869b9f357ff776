package layer

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestWriterCanonicalHeaders(t *testing.T) {
	long := strings.Repeat("directory/", 12) + strings.Repeat("n", 90)
	tests := []struct {
		name  string
		entry Entry
		pax   bool
	}{
		{"a file", Entry{Name: "a", Type: tar.TypeReg, Mode: 0o644}, false},
		{"a directory", Entry{Name: "a/b", Type: tar.TypeDir, Mode: 0o1777}, false},
		{"a name that fits in two fields", Entry{Name: long, Type: tar.TypeReg}, false},
		{"a long name", Entry{Name: strings.Repeat("n", 101), Type: tar.TypeReg}, true},
		{"a name of other letters", Entry{Name: "é", Type: tar.TypeReg}, true},
		{"a name of no letters", Entry{Name: "\xff\xfe", Type: tar.TypeDir}, true},
		{"a long link", Entry{Name: "a", Type: tar.TypeSymlink, Linkname: strings.Repeat("l", 101)}, true},
		{"the largest id that fits", Entry{Name: "a", Type: tar.TypeReg, UID: 1<<21 - 1}, false},
		{"a larger id", Entry{Name: "a", Type: tar.TypeReg, GID: 1 << 21}, true},
		{"a time before 1970", Entry{Name: "a", Type: tar.TypeReg, ModTime: time.Unix(-1, 0)}, true},
		{"a time between two seconds", Entry{Name: "a", Type: tar.TypeReg, ModTime: time.Unix(5, 999999999)}, false},
		{"an attribute", Entry{Name: "a", Type: tar.TypeReg, Xattrs: map[string]string{"user.a": "\x00\n"}}, true},
		{"a device", Entry{Name: "a", Type: tar.TypeBlock, Devmajor: 4095, Devminor: 1<<20 - 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var buf bytes.Buffer
			w := NewWriter(&buf)
			if tt.entry.ModTime.IsZero() {
				tt.entry.ModTime = time.Unix(1, 0)
			}
			check(t, w.Write(tt.entry, nil))
			_, toc, err := w.Close()
			check(t, err)
			if got := buf.Bytes()[156] == 'x'; got != tt.pax {
				t.Errorf("PAX header: %v, want %v", got, tt.pax)
			}
			if !tt.pax && string(buf.Bytes()[257:265]) != "ustar\x0000" {
				t.Errorf("format %q", buf.Bytes()[257:265])
			}
			h, err := tar.NewReader(&buf).Next()
			check(t, err)
			if strings.TrimSuffix(h.Name, "/") != tt.entry.Name || h.Uname+h.Gname != "" || h.Uid != tt.entry.UID || h.Gid != tt.entry.GID {
				t.Errorf("header %+v", h)
			}
			if want := time.Unix(tt.entry.ModTime.Unix(), 0); !h.ModTime.Equal(want) || !toc.Entries[0].ModTime.Equal(want) {
				t.Errorf("time %v and %v, want %v", h.ModTime, toc.Entries[0].ModTime, want)
			}
		})
	}
}

func TestWriterRefuses(t *testing.T) {
	reg := func(name string) Entry { return Entry{Name: name, Type: tar.TypeReg} }
	tests := []struct {
		name  string
		entry Entry
		body  string
	}{
		{"no name", reg(""), ""},
		{"an absolute name", reg("/a"), ""},
		{"a slash at the end", reg("a/"), ""},
		{"two slashes", reg("a//b"), ""},
		{"a dot", reg("./a"), ""},
		{"two dots", reg("a/../b"), ""},
		{"a zero byte", reg("a\x00b"), ""},
		{"a reserved name", reg("a/.wh.b"), ""},
		{"a reserved directory", reg(".wh.a/b"), ""},
		{"a name too long", reg(strings.Repeat("a", 4096)), ""},
		{"a root that is a file", reg("."), ""},
		{"a negative owner", Entry{Name: "a", Type: tar.TypeReg, UID: -1}, ""},
		{"an owner that means none", Entry{Name: "a", Type: tar.TypeReg, GID: 1<<32 - 1}, ""},
		{"an unknown type", Entry{Name: "a", Type: 'Z'}, ""},
		{"a link to nothing", Entry{Name: "a", Type: tar.TypeSymlink}, ""},
		{"a hard link that leads up", Entry{Name: "a", Type: tar.TypeLink, Linkname: "../b"}, ""},
		{"a digest of another kind", Entry{Name: "a", Type: tar.TypeReg, Digest: "sha512:00"}, ""},
		{"too few bytes", Entry{Name: "a", Type: tar.TypeReg, Size: 5}, "1234"},
		{"too many bytes", Entry{Name: "a", Type: tar.TypeReg, Size: 5}, "123456"},
		{"too few bytes of a large file", Entry{Name: "a", Type: tar.TypeReg, Size: 2 << 20}, strings.Repeat("x", 2<<20-1)},
		{"too many bytes of a large file", Entry{Name: "a", Type: tar.TypeReg, Size: 2 << 20}, strings.Repeat("x", 2<<20+1)},
	}
	for _, tt := range tests {
		if err := NewWriter(io.Discard).Write(tt.entry, strings.NewReader(tt.body)); err == nil {
			t.Errorf("%s: no error", tt.name)
		}
	}
	if err := NewWriter(io.Discard).Write(Entry{Name: "a", Type: tar.TypeReg, Size: 5}, nil); err == nil {
		t.Error("no content: no error")
	}
	for _, path := range []string{"", ".", "../a", "/a", "a/", ".wh.a", "a/.wh.b/c"} {
		if err := NewWriter(io.Discard).Whiteout(path); err == nil {
			t.Errorf("whiteout of %q: no error", path)
		}
	}
	if err := NewWriter(io.Discard).Opaque("a/.."); err == nil {
		t.Error("opaque: no error")
	}
}

// A digest that is given is trusted, one that is not is computed; what a type does not
// have is left out.
func TestWriterDigestAndCleaning(t *testing.T) {
	w := NewWriter(io.Discard)
	known := digest.FromString("known")
	check(t, w.Write(Entry{Name: "a", Type: tar.TypeReg, Size: 1, Digest: known}, strings.NewReader("x")))
	check(t, w.Write(Entry{Name: "b", Type: tar.TypeReg, Size: 1, Linkname: "x", Devmajor: 1, Mode: 0o100644}, strings.NewReader("x")))
	big := strings.Repeat("0123456789", 200_000)
	check(t, w.Write(Entry{Name: "big", Type: tar.TypeReg, Size: int64(len(big))}, strings.NewReader(big)))
	check(t, w.Write(Entry{Name: "c", Type: tar.TypeDir, Size: 4096, Digest: known, Linkname: "x"}, nil))
	check(t, w.Write(Entry{Name: "d", Type: tar.TypeLink, Linkname: "a", Xattrs: map[string]string{"user.a": ""}}, nil))
	check(t, w.Write(Entry{Name: "e", Type: tar.TypeReg}, nil))
	check(t, w.Opaque(""))
	_, toc, err := w.Close()
	check(t, err)
	e := toc.Entries
	if e[0].Digest != known || e[1].Digest != digest.FromString("x") || e[2].Digest != digest.FromString(big) || e[5].Digest != emptyDigest {
		t.Errorf("digests %v", e)
	}
	if e[1].Mode != 0o644 || e[1].Linkname != "" || e[1].Devmajor != 0 || e[3].Size != 0 || e[3].Digest != "" || e[3].Linkname != "" || e[4].Xattrs != nil {
		t.Errorf("entries %+v", e)
	}
	if dir, ok := e[6].Opaque(); !ok || dir != "." {
		t.Errorf("opaque %q, %v", dir, ok)
	}
}
