package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// memoryTOCs remembers tables of contents for a test.
type memoryTOCs map[digest.Digest][]byte

func (m memoryTOCs) GetTOC(d digest.Digest) ([]byte, bool) { toc, ok := m[d]; return toc, ok }

func (m memoryTOCs) PutTOC(d digest.Digest, toc []byte) error { m[d] = toc; return nil }

// tarEntries writes a tar of headers; the body of each regular file is its name
// unless bodies has another.
func tarEntries(t *testing.T, bodies map[string]string, headers ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range headers {
		body := ""
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Typeflag, body = tar.TypeReg, h.Name
			if b, ok := bodies[h.Name]; ok {
				body = b
			}
		}
		h.Size = int64(len(body))
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func openFiles(t *testing.T, s *Store, name string, memo TOCs) *Files {
	t.Helper()
	files, err := s.Files(t.Context(), mustHave(t, s, name).Layers, memo)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// twoLayers makes an image in which the second layer hides some of the first.
func twoLayers(t *testing.T, s *Store, name string) ocispec.Descriptor {
	t.Helper()
	below := tarEntries(t, nil,
		tar.Header{Name: "dir/", Typeflag: tar.TypeDir}, tar.Header{Name: "dir/kept"}, tar.Header{Name: "dir/gone"},
		tar.Header{Name: "changed"}, tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "changed"})
	above := tarEntries(t, map[string]string{"changed": "above"},
		tar.Header{Name: "dir/.wh.gone"}, tar.Header{Name: "changed"},
		tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/dir/../../changed"},
		tar.Header{Name: "circle", Typeflag: tar.TypeSymlink, Linkname: "circle"},
		tar.Header{Name: "device", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3})
	desc, err := build(t.Context(), s, name, below, above)
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

func TestFiles(t *testing.T) {
	s := newStore(t)
	desc := twoLayers(t, s, "app:v1")
	for _, how := range []Compression{{}, testGzip()} {
		t.Run("compression "+string(how.Algorithm), func(t *testing.T) {
			if how.Algorithm != "" {
				portable, err := s.Portable(t.Context(), desc, how)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Tag(t.Context(), mustRef(t, "app:v1"), portable); err != nil {
					t.Fatal(err)
				}
			}
			memo := memoryTOCs{}
			for _, round := range []string{"read", "remembered"} {
				files := openFiles(t, s, "app:v1", memo)
				list, err := files.List("", true)
				if err != nil {
					t.Fatal(err)
				}
				var paths []string
				for _, f := range list {
					paths = append(paths, f.Path)
				}
				if got := strings.Join(paths, " "); got != "changed circle device dir dir/kept hard link" {
					t.Errorf("%s: %s", round, got)
				}
				for path, want := range map[string]string{"/changed": "above", "hard": "changed", "/dir/kept": "dir/kept", "/link": "above"} {
					r, f, err := files.Open(t.Context(), path)
					if err != nil {
						t.Errorf("%s: %v", path, err)
						continue
					}
					text, err := io.ReadAll(r)
					if err != nil || string(text) != want || f.Size != int64(len(want)) {
						t.Errorf("%s: %q, %v", path, text, err)
					}
					if err := r.Close(); err != nil {
						t.Error(err)
					}
				}
			}
			if len(memo) != 2 {
				t.Errorf("%d tables of contents are remembered", len(memo))
			}
		})
	}
}

func TestFilesRefuse(t *testing.T) {
	s := newStore(t)
	twoLayers(t, s, "app:v1")
	files := openFiles(t, s, "app:v1", memoryTOCs{})
	for path, want := range map[string]error{
		"/dir/gone": fs.ErrNotExist, "/circle": syscall.ELOOP, "/dir": syscall.EISDIR, "/device": errNotRegular,
		"/changed/x": syscall.ENOTDIR, "../../etc/passwd": fs.ErrNotExist, "": syscall.EISDIR,
	} {
		_, _, err := files.Open(t.Context(), path)
		var at *FileError
		if !errors.Is(err, want) || !errors.As(err, &at) || !strings.HasPrefix(at.Path, "/") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := files.List("/nowhere", false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestFilesNoticeDamage(t *testing.T) {
	s := newStore(t)
	twoLayers(t, s, "app:v1")
	memo := memoryTOCs{}
	files := openFiles(t, s, "app:v1", memo)
	img := mustHave(t, s, "app:v1")
	path := s.blobPath(img.Layers[1].DiffID)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(text, []byte("above"), []byte("abovE"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	r, _, err := files.Open(t.Context(), "/changed")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var bad *VerifyError
	if _, err := io.ReadAll(r); !errors.As(err, &bad) {
		t.Errorf("%v", err)
	}
	// A layer that is not what the config says is not even looked into.
	if _, err := s.Files(t.Context(), img.Layers, memoryTOCs{}); err == nil {
		t.Error("a damaged layer was read")
	}
}

func TestDiff(t *testing.T) {
	s := newStore(t)
	if _, err := build(t.Context(), s, "a:v1", tarEntries(t, nil,
		tar.Header{Name: "same"}, tar.Header{Name: "mode", Mode: 0o644}, tar.Header{Name: "owner", Uid: 1},
		tar.Header{Name: "kind"}, tar.Header{Name: "to", Typeflag: tar.TypeSymlink, Linkname: "a"},
		tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "d/x"})); err != nil {
		t.Fatal(err)
	}
	if _, err := build(t.Context(), s, "b:v1", tarEntries(t, nil,
		tar.Header{Name: "kind", Typeflag: tar.TypeDir}, tar.Header{Name: "kind/in"},
		tar.Header{Name: "mode", Mode: 0o600}, tar.Header{Name: "owner", Gid: 2}, tar.Header{Name: "new"},
		tar.Header{Name: "to", Typeflag: tar.TypeSymlink, Linkname: "b"}, tar.Header{Name: "same"})); err != nil {
		t.Fatal(err)
	}
	a, b := openFiles(t, s, "a:v1", memoryTOCs{}), openFiles(t, s, "b:v1", memoryTOCs{})
	text := func(changes []Change) string {
		var out strings.Builder
		for _, c := range changes {
			out.WriteString(strings.TrimSpace(string(c.Kind)+" "+c.Path+" "+strings.Join(c.What, ",")) + "\n")
		}
		return out.String()
	}
	want := "D /d\nD /d/x\nC /kind type\nA /kind/in\nC /mode mode\nA /new\nC /owner owner\nC /to link\n"
	if got := text(Diff(a, b, DiffOptions{})); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := Diff(a, a, DiffOptions{Times: true}); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
