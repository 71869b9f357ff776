package layer

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

func copyTo(w io.Writer, r io.Reader) (int64, error) { return io.Copy(w, r) }

// noise is bytes that compress a little, and quickly.
func noise(n int) []byte {
	rnd := rand.New(rand.NewPCG(9, 9))
	data := make([]byte, n)
	for i := range min(n, 100_000) {
		data[i] = byte(rnd.IntN(20)) + 'a'
	}
	for i := 100_000; i < n; i += 1000 {
		copy(data[i:], data[i%99_000:][:300])
	}
	return data
}

func compressed(t testing.TB, c Compression, level int, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	packed, err := NewPacker().Pack(t.Context(), &buf, bytes.NewReader(data), c, level)
	check(t, err)
	if packed.Size != int64(len(data)) && c != EStargz {
		t.Errorf("packed %d bytes of %d", packed.Size, len(data))
	}
	return buf.Bytes()
}

func TestCompressRoundTrip(t *testing.T) {
	for _, c := range []Compression{None, Gzip, Zstd} {
		for _, size := range []int{0, 1, 5, 100_000, gzipBlock - 1, gzipBlock, zstdBlock + 1} {
			data := noise(size)
			packed := compressed(t, c, 0, data)
			r, got, err := Decompress(iotest.OneByteReader(bytes.NewReader(packed)))
			if size > 100_000 {
				r, got, err = Decompress(bytes.NewReader(packed))
			}
			check(t, err)
			back, err := io.ReadAll(r)
			check(t, err)
			check(t, r.Close())
			if got != c || !bytes.Equal(back, data) {
				t.Errorf("%q of %d bytes: %q, %d bytes", c, size, got, len(back))
			}
		}
	}
}

// The bytes do not depend on the number of CPUs, nor on the pieces in which the input comes.
func TestCompressDeterministic(t *testing.T) {
	data := tarOfNoise(t, 1, zstdBlock+5, 0)
	for _, c := range []Compression{Gzip, Zstd, EStargz} {
		for _, level := range []int{0, 7} {
			want := compressed(t, c, level, data)
			old := runtime.GOMAXPROCS(1)
			got := compressed(t, c, level, data)
			runtime.GOMAXPROCS(old)
			if !bytes.Equal(got, want) {
				t.Errorf("%s level %d gives other bytes on one CPU", c, level)
			}
		}
	}
}

// What other programs compress is read, several streams in one file too.
func TestDecompressPeers(t *testing.T) {
	data := noise(300_000)
	tests := []struct {
		name string
		args []string
		want Compression
	}{
		{"gzip", nil, Gzip}, {"bzip2", nil, Bzip2}, {"xz", nil, XZ}, {"xz", []string{"-9e"}, XZ}, {"zstd", nil, Zstd}, {"zstd", []string{"--ultra", "-22", "--long=27"}, Zstd},
	}
	for _, tt := range tests {
		t.Run(tt.name+strings.Join(tt.args, ""), func(t *testing.T) {
			packed := run(t, data, tt.name, append(tt.args, "-c")...)
			r, c, err := Decompress(bytes.NewReader(append(bytes.Clone(packed), packed...)))
			check(t, err)
			defer r.Close()
			back, err := io.ReadAll(r)
			check(t, err)
			if c != tt.want || !bytes.Equal(back, append(bytes.Clone(data), data...)) {
				t.Errorf("%q, %d bytes", c, len(back))
			}
		})
	}
}

// What we compress is read by other programs.
func TestCompressPeers(t *testing.T) {
	data := noise(3 << 20)
	for c, name := range map[Compression]string{Gzip: "gzip", Zstd: "zstd"} {
		t.Run(name, func(t *testing.T) {
			if got := run(t, compressed(t, c, 0, data), name, "-dc"); !bytes.Equal(got, data) {
				t.Errorf("%d bytes", len(got))
			}
		})
	}
}

func TestDecompressDamaged(t *testing.T) {
	for _, c := range []Compression{Gzip, Zstd} {
		packed := compressed(t, c, 0, noise(100_000))
		for name, data := range map[string][]byte{
			"cut":     packed[:len(packed)/2],
			"flipped": append(append(bytes.Clone(packed[:5000]), packed[5000]^1), packed[5001:]...),
		} {
			r, _, err := Decompress(bytes.NewReader(data))
			check(t, err)
			if _, err := io.Copy(io.Discard, r); err == nil {
				t.Errorf("%s, %s: no error", c, name)
			}
			r.Close()
		}
	}
	failure := errors.New("the line is dead")
	if _, _, err := Decompress(iotest.ErrReader(failure)); !errors.Is(err, failure) {
		t.Errorf("a failing reader: %v", err)
	}
}

func TestCompressRefuses(t *testing.T) {
	tests := []struct {
		c     Compression
		level int
	}{{Gzip, 10}, {Gzip, -1}, {Zstd, 23}, {Bzip2, 0}, {XZ, 0}, {"lz4", 0}}
	for _, tt := range tests {
		if _, err := NewPacker().Pack(t.Context(), io.Discard, strings.NewReader(""), tt.c, tt.level); err == nil {
			t.Errorf("%s level %d: no error", tt.c, tt.level)
		}
	}
}
