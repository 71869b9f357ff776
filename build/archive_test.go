package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// archiveOf makes a gzipped tar of headers whose Name may carry "=bytes".
func archiveOf(t *testing.T, headers ...tar.Header) string {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for _, h := range headers {
		name, body, _ := strings.Cut(h.Name, "=")
		h.Name, h.Size = name, int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestAddUnpacks(t *testing.T) {
	reg := func(name string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Uid: 1, Gid: 2, ModTime: time.Unix(1, 0)}
	}
	link := func(name, target string, typ byte) tar.Header {
		return tar.Header{Name: name, Linkname: target, Typeflag: typ, Mode: 0o777}
	}
	dir := tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o711, Uid: 1, Gid: 2}
	for _, tt := range []struct {
		name, instr string
		members     []tar.Header
		below       fakeTree
		want        []string
		fails       string
	}{
		{"into the destination", "ADD x.tgz /o", []tar.Header{dir, reg("d/f=1")}, nil, []string{"o dir 0755 0:0", "o/d dir 0711 1:2", "o/d/f file 0600 1:2 = o/d/f"}, ""},
		{"members without parents", "ADD x.tgz /", []tar.Header{reg("p/q=1")}, nil, []string{"p dir 0755 0:0", "p/q file 0600 1:2 = p/q"}, ""},
		{"--chown goes for members", "ADD --chown=5:6 x.tgz /", []tar.Header{reg("f=1")}, nil, []string{"f file 0600 5:6 = f"}, ""},
		{"through a link of the image", "ADD x.tgz /", []tar.Header{reg("lib/f=1")}, fakeTree{"lib": "-> /usr/lib", "usr/lib": "dir"}, []string{"usr dir 0755 0:0", "usr/lib dir 0755 0:0", "usr/lib/f file 0600 1:2 = usr/lib/f"}, ""},
		{"a file replaces a directory", "ADD x.tgz /", []tar.Header{dir, reg("d/f=1"), reg("d=2")}, nil, []string{"d file 0600 1:2 = d"}, ""},
		{"absolute names are below the destination", "ADD x.tgz /o/", []tar.Header{reg("/f=1")}, nil, []string{"o dir 0755 0:0", "o/f file 0600 1:2 = o/f"}, ""},
		{"COPY does not unpack", "COPY x.tgz /", []tar.Header{reg("f=1")}, nil, []string{"x.tgz file 0640 3:4 = x.tgz"}, ""},
		{"--unpack=false does not either", "ADD --unpack=false x.tgz /", []tar.Header{reg("f=1")}, nil, []string{"x.tgz file 0640 3:4 = x.tgz"}, ""},
		{"dots end at the destination", "ADD x.tgz /o/", []tar.Header{reg("../f=1")}, nil, []string{"o dir 0755 0:0", "o/f file 0600 1:2 = o/f"}, ""},
		{"links too", "ADD x.tgz /o/", []tar.Header{link("l", "../../p", tar.TypeSymlink), {Name: "p/", Typeflag: tar.TypeDir, Mode: 0o711}, reg("l/f=1")}, nil, []string{"o dir 0755 0:0", "o/l link 0777 0:0 -> ../../p", "o/p dir 0711 0:0", "o/p/f file 0600 1:2 = o/p/f"}, ""},
		{"a link to nothing is no directory", "ADD x.tgz /o/", []tar.Header{link("l", "gone", tar.TypeSymlink), reg("l/f=1")}, nil, nil, "exists"},
		{"a hard link to nothing", "ADD x.tgz /o/", []tar.Header{link("l", "gone", tar.TypeLink)}, nil, nil, "not exist"},
		{"a hard link to a directory", "ADD x.tgz /", []tar.Header{dir, link("l", "d", tar.TypeLink)}, nil, nil, "is a directory"},
		{"a hard link to a file of the image", "ADD x.tgz /", []tar.Header{link("l", "have", tar.TypeLink)}, fakeTree{"have": "x"}, []string{"have file 0777 0:0 = have", "l file 0777 0:0 = have"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := land(t, tt.instr, "", fakeTree{"x.tgz": archiveOf(t, tt.members...)}, tt.below)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Fatalf("got %v, want %q", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAddCopiesWhatIsNoArchive(t *testing.T) {
	whole := archiveOf(t, tar.Header{Name: "f=1", Typeflag: tar.TypeReg})
	for name, body := range map[string]string{"empty": "", "text": "hello\n", "broken gzip": whole[:20], "gzip of no tar": gzipped(t, "hello")} {
		t.Run(name, func(t *testing.T) {
			got, _, err := land(t, "ADD x.tgz /", "", fakeTree{"x.tgz": body}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"x.tgz file 0640 3:4 = x.tgz"}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func gzipped(t *testing.T, s string) string {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestSpoolReadsMembers(t *testing.T) {
	ctx := context.Background()
	tree := fakeTree{"x": archiveOf(t, tar.Header{Name: "a=one", Typeflag: tar.TypeReg}, tar.Header{Name: "b=two", Typeflag: tar.TypeReg})}
	sel, err := selectSources(ctx, tree, []source{{path: "x", unpack: true}})
	if err != nil {
		t.Fatal(err)
	}
	l := newLanding(emptyTree{}, time.Unix(0, 0))
	arch := &archives{dir: t.TempDir()}
	defer arch.close()
	tr := &transfer{dest: "/"}
	if err := tr.land(ctx, l, sel, nil, arch); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "one", "b": "two"} {
		got := make([]byte, len(want))
		err := l.added[name].read(ctx, got)
		if err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
}
