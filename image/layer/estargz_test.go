package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// tarOfNoise is a layer with files of these sizes, and one of each other kind.
func tarOfNoise(t testing.TB, sizes ...int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := NewWriter(&buf)
	write := func(e Entry, body []byte) {
		e.ModTime = time.Unix(1700000000, 0)
		check(t, w.Write(e, bytes.NewReader(body)))
	}
	write(Entry{Name: "dir", Type: tar.TypeDir, Mode: 0o1777, UID: 5}, nil)
	for i, size := range sizes {
		write(Entry{Name: "dir/" + strconv.Itoa(i), Type: tar.TypeReg, Mode: 0o644, Size: int64(size), Xattrs: map[string]string{"user.n": strconv.Itoa(i)}}, noise(size))
	}
	write(Entry{Name: "dir/sym", Type: tar.TypeSymlink, Linkname: "/etc/passwd"}, nil)
	write(Entry{Name: "dir/hard", Type: tar.TypeLink, Linkname: "dir/0"}, nil)
	write(Entry{Name: "dir/null", Type: tar.TypeChar, Devmajor: 1, Devminor: 3}, nil)
	check(t, w.Whiteout("dir/gone"))
	_, _, err := w.Close()
	check(t, err)
	return buf.Bytes()
}

// stargzReader reads an eStargz as one does who fetches ranges of it.
type stargzReader struct {
	data    []byte
	table   digest.Digest
	entries []stargzEntry
}

func openStargz(t testing.TB, data []byte) *stargzReader {
	t.Helper()
	footer := data[len(data)-51:]
	z, err := gzip.NewReader(bytes.NewReader(footer))
	check(t, err)
	if len(z.Extra) != 26 || string(z.Extra[:2]) != "SG" || string(z.Extra[20:]) != "STARGZ" {
		t.Fatalf("extra field %q", z.Extra)
	}
	if rest, err := io.ReadAll(z); err != nil || len(rest) > 0 {
		t.Fatalf("footer: %q %v", rest, err)
	}
	offset, err := strconv.ParseInt(string(z.Extra[4:20]), 16, 64)
	check(t, err)
	z, err = gzip.NewReader(bytes.NewReader(data[offset : len(data)-51]))
	check(t, err)
	tr := tar.NewReader(z)
	h, err := tr.Next()
	check(t, err)
	if h.Name != stargzTOC {
		t.Fatalf("the table is named %q", h.Name)
	}
	text, err := io.ReadAll(tr)
	check(t, err)
	var table struct {
		Version int
		Entries []stargzEntry
	}
	check(t, json.Unmarshal(text, &table))
	if table.Version != 1 {
		t.Errorf("version %d", table.Version)
	}
	if _, err := tr.Next(); err != io.EOF {
		t.Errorf("after the table: %v", err)
	}
	return &stargzReader{data, digest.FromBytes(text), table.Entries}
}

// file reads a file from its members alone.
func (r *stargzReader) file(t testing.TB, name string) []byte {
	t.Helper()
	var whole []byte
	var first *stargzEntry
	for i := range r.entries {
		e := &r.entries[i]
		if e.Name != name {
			continue
		}
		if first == nil {
			first = e
		}
		n := e.ChunkSize
		if n == 0 {
			n = first.Size - e.ChunkOffset
		}
		if n == 0 {
			continue
		}
		if e.ChunkOffset != int64(len(whole)) {
			t.Fatalf("%s: a chunk at %d after %d bytes", name, e.ChunkOffset, len(whole))
		}
		z, err := gzip.NewReader(bytes.NewReader(r.data[e.Offset:]))
		check(t, err)
		z.Multistream(false)
		part := make([]byte, n)
		_, err = io.ReadFull(z, part)
		check(t, err)
		if digest.FromBytes(part) != e.ChunkDigest {
			t.Errorf("%s: chunk at %d differs", name, e.ChunkOffset)
		}
		whole = append(whole, part...)
	}
	if digest.FromBytes(whole) != first.Digest {
		t.Errorf("%s differs", name)
	}
	return whole
}

func TestEStargz(t *testing.T) {
	sizes := []int{0, 1, 512, stargzChunk, stargzChunk + 7}
	in := tarOfNoise(t, sizes...)
	var buf bytes.Buffer
	packed, err := NewPacker().Pack(t.Context(), &buf, iotest.HalfReader(bytes.NewReader(in)), EStargz, 0)
	check(t, err)
	r := openStargz(t, buf.Bytes())
	if r.table != packed.TOC {
		t.Errorf("the table has %s, not %s", r.table, packed.TOC)
	}
	if r.entries[0].Name != stargzLandmark {
		t.Errorf("it begins with %s", r.entries[0].Name)
	}
	if got := r.file(t, stargzLandmark); string(got) != landmarkContent {
		t.Errorf("the landmark holds %q", got)
	}
	for i, size := range sizes {
		if got := r.file(t, fmt.Sprint("dir/", i)); !bytes.Equal(got, noise(size)) {
			t.Errorf("file %d has %d bytes", i, len(got))
		}
	}
	// As any other gzip it is the same tar with the landmark and the table.
	z, c, err := Decompress(&buf)
	check(t, err)
	plain, err := io.ReadAll(z)
	check(t, err)
	if c != Gzip || digest.FromBytes(plain) != packed.DiffID || int64(len(plain)) != packed.Size {
		t.Errorf("%s of %d bytes, diff id %s", c, len(plain), packed.DiffID)
	}
	want := append([]string{stargzLandmark}, tarNames(t, in)...)
	if d := cmp.Diff(append(want, stargzTOC), tarNames(t, plain)); d != "" {
		t.Error(d)
	}
	// One made of an eStargz is the same.
	if !bytes.Equal(compressed(t, EStargz, 0, plain), r.data) {
		t.Error("an eStargz of an eStargz differs")
	}
}

func TestEStargzEntries(t *testing.T) {
	r := openStargz(t, compressed(t, EStargz, 9, tarOfNoise(t, 3)))
	var got []string
	for _, e := range r.entries[1:] {
		got = append(got, fmt.Sprintf("%s %s %o %d %s%s %d:%d %s", e.Type, e.Name, e.Mode, e.UID, e.LinkName, e.Xattrs["user.n"], e.DevMajor, e.DevMinor, e.ModTime))
	}
	want := []string{
		"dir dir/ 1777 5  0:0 2023-11-14T22:13:20Z",
		"reg dir/0 644 0 0 0:0 2023-11-14T22:13:20Z",
		"symlink dir/sym 0 0 /etc/passwd 0:0 2023-11-14T22:13:20Z",
		"hardlink dir/hard 0 0 dir/0 0:0 2023-11-14T22:13:20Z",
		"char dir/null 0 0  1:3 2023-11-14T22:13:20Z",
		"reg dir/.wh.gone 0 0  0:0 ",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func tarNames(t testing.TB, data []byte) []string {
	t.Helper()
	var names []string
	for tr := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return names
		}
		check(t, err)
		names = append(names, h.Name)
	}
}

// A source or a target that fails, and a caller that gives up, end the work with their own error.
func TestPackFails(t *testing.T) {
	broken := errors.New("broken")
	data := tarOfNoise(t, 3<<20)
	for _, c := range []Compression{None, Gzip, Zstd, EStargz} {
		p := NewPacker()
		_, err := p.Pack(t.Context(), io.Discard, io.MultiReader(bytes.NewReader(data[:2<<20]), iotest.ErrReader(broken)), c, 0)
		if !errors.Is(err, broken) {
			t.Errorf("%q from a broken source: %v", c, err)
		}
		_, err = p.Pack(t.Context(), &failingWriter{left: 1000, err: broken}, bytes.NewReader(data), c, 0)
		if !errors.Is(err, broken) {
			t.Errorf("%q to a broken target: %v", c, err)
		}
		if got := compressed(t, c, 0, tarOfNoise(t, 10)); len(got) == 0 {
			t.Errorf("%q does nothing after a failure", c)
		}
	}
	if _, err := NewPacker().Pack(t.Context(), io.Discard, strings.NewReader("no tar at all"), EStargz, 0); err == nil {
		t.Error("an eStargz of no tar")
	}
}

type failingWriter struct {
	left int
	err  error
}

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, w.err
	}
	return len(p), nil
}
