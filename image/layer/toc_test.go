package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

func sampleTOC() *TOC {
	return &TOC{Entries: []Entry{
		{Name: ".", Type: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(-1, 0).UTC()},
		{
			Name: "a/\xff", Type: tar.TypeReg, Mode: 0o6755, UID: 1 << 31, GID: 7, Size: 1 << 40, Offset: 512, ModTime: time.Unix(1<<40, 999999999).UTC(),
			Digest: digest.FromString("x"), Xattrs: map[string]string{"user.b": "", "user.a": "\x00"},
		},
		{Name: "s", Type: tar.TypeReg, Offset: -1, Digest: emptyDigest, ModTime: time.Unix(0, 0).UTC()},
		{Name: "l", Type: tar.TypeSymlink, Linkname: "\n", ModTime: time.Unix(0, 0).UTC()},
		{Name: "c", Type: tar.TypeChar, Devmajor: 4095, Devminor: 1 << 19, ModTime: time.Unix(0, 0).UTC()},
		{Name: ".wh.x", Type: tar.TypeReg, ModTime: time.Unix(0, 0).UTC()},
	}}
}

func TestTOCRoundTrip(t *testing.T) {
	for _, toc := range []*TOC{sampleTOC(), {Entries: []Entry{}}} {
		data := toc.Marshal()
		got, err := UnmarshalTOC(data)
		check(t, err)
		if d := cmp.Diff(toc, got); d != "" {
			t.Error(d)
		}
		if !bytes.Equal(got.Marshal(), data) {
			t.Error("another encoding")
		}
	}
}

// Whatever a byte of a table is changed into, it is noticed.
func TestTOCDamage(t *testing.T) {
	good := sampleTOC().Marshal()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x41
		if _, err := UnmarshalTOC(bad); !errors.Is(err, ErrTOC) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := UnmarshalTOC(good[:i]); !errors.Is(err, ErrTOC) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
}

func FuzzUnmarshalTOC(f *testing.F) {
	f.Add(sampleTOC().Marshal(), true)
	f.Add((&TOC{}).Marshal(), false)
	f.Add([]byte(tocMagic+"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), true)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		if seal { // so that the entries are reached
			data = sealed(data)
		}
		toc, err := UnmarshalTOC(data)
		if err != nil {
			if !errors.Is(err, ErrTOC) {
				t.Errorf("error %v", err)
			}
			return
		}
		again, err := UnmarshalTOC(toc.Marshal())
		check(t, err)
		if d := cmp.Diff(toc, again); d != "" {
			t.Error(d)
		}
		NewTree(toc) // any table has a tree
	})
}

func FuzzDecompress(f *testing.F) {
	for _, c := range []Compression{None, Gzip, Zstd} {
		f.Add(compressed(f, c, 0, []byte("some text, some text, some text")))
	}
	f.Add([]byte("BZh91AY&SY"))
	f.Add([]byte("\xfd7zXZ\x00\x00\x04"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, c, err := Decompress(bytes.NewReader(data))
		if err != nil {
			return
		}
		defer r.Close()
		out := &limited{left: 1 << 20}
		_, err = copyTo(out, r)
		if c == None && (err != nil || out.n != len(data)) {
			t.Errorf("%d bytes of %d, %v", out.n, len(data), err)
		}
	})
}

// FuzzApply applies any bytes at all, and tars of any entries, and looks at what is
// outside the root.
func FuzzApply(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range 20 {
		f.Add(rawTar(f, randomLayer(rnd, fmt.Sprint("l", i))...), i%2 == 0)
	}
	f.Add(rawTar(f, symlink("l", "../outside"), file("l/x", "1"), hard("h", "l/secret"), file("l/.wh.secret", ""), file("../outside/x", "")), true)
	f.Add(rawTar(f, dir("a"), file("a/b", "1"), symlink("a", "/"), file("a/outside/secret", "x"), file(".wh...", ""), file(".wh..wh..opq", "")), false)
	f.Fuzz(func(t *testing.T, data []byte, merge bool) {
		guard := newGuard(t)
		o := ApplyOptions{SkipDevices: true, Owner: func(int, int) (int, int) { return os.Getuid(), os.Getgid() }}
		if merge {
			o.Format = Merge
			check(t, os.MkdirAll(filepath.Join(guard.root, "a/b/c"), 0o755))
			check(t, os.Symlink("../outside", filepath.Join(guard.root, "out")))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		digests, toc, err := Apply(ctx, bytes.NewReader(data), guard.root, o)
		guard.check(t)
		if err != nil {
			return
		}
		if digests.DiffID != sumOf(data) || digests.Size != int64(len(data)) {
			t.Errorf("digests %+v of %d bytes", digests, len(data))
		}
		again, err := UnmarshalTOC(toc.Marshal())
		check(t, err)
		if len(again.Entries) != len(toc.Entries) {
			t.Errorf("%d entries of %d", len(again.Entries), len(toc.Entries))
		}
		NewTree(toc)
	})
}

// limited takes so many bytes and then fails.
type limited struct{ left, n int }

func (w *limited) Write(p []byte) (int, error) {
	if w.n += len(p); w.n > w.left {
		return 0, unix.EFBIG
	}
	return len(p), nil
}

// sealed puts the right header and checksum around what data has between them.
func sealed(data []byte) []byte {
	body := []byte(tocMagic)
	if len(data) > len(tocMagic)+4 {
		body = append(body, data[len(tocMagic):len(data)-4]...)
	}
	return binary.BigEndian.AppendUint32(body, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}
