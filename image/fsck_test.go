package image

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestReadersSeeDamage(t *testing.T) {
	damages := map[string]func(path string) error{
		"flipped bit": func(path string) error {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text[len(text)/2] ^= 1
			return os.WriteFile(path, text, 0o644)
		},
		"truncated": func(path string) error { return os.Truncate(path, 1) },
		"longer": func(path string) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString(" ")
			return err
		},
		"gone": os.Remove,
	}
	for name, damage := range damages {
		for _, kind := range []string{"layer", "config", "manifest"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				s := newStore(t)
				mustBuild(t, s, "app:v1", file{"a", "1"})
				img := mustHave(t, s, "app:v1")
				victim := map[string]ocispec.Descriptor{
					"layer": img.Layers[0].Descriptor, "config": img.Manifest.Config, "manifest": img.Descriptor,
				}[kind]
				if err := os.Chmod(s.blobPath(victim.Digest), 0o644); err != nil {
					t.Fatal(err)
				}
				if err := damage(s.blobPath(victim.Digest)); err != nil {
					t.Fatal(err)
				}
				r, err := s.Blob(t.Context(), victim)
				if err == nil {
					_, err = io.Copy(io.Discard, r)
					r.Close()
				}
				var bad *VerifyError
				if !errors.As(err, &bad) && !errors.Is(err, ErrNotFound) {
					t.Errorf("read: %v", err)
				}
				if err := s.Save(t.Context(), io.Discard, []string{"app:v1"}, SaveOptions{Format: OCIArchive}); err == nil {
					t.Error("saved")
				}
				faults, err := s.Fsck(t.Context(), FsckOptions{})
				if err != nil {
					t.Fatal(err)
				}
				named := false
				for _, f := range faults {
					named = named || f.Digest == victim.Digest && f.Ref == mustRef(t, "app:v1")
				}
				if !named {
					t.Errorf("fsck does not name the image that needs %s: %v", victim.Digest, faults)
				}
			})
		}
	}
}

func TestFsckOtherFaults(t *testing.T) {
	write := func(name, text string) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) {
			if err := os.WriteFile(s.path(name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name   string
		damage func(*testing.T, *Store)
		want   string
	}{
		{"stray temporary files", write("ingest/tmp-1", "x"), ""},
		{"unreferenced blob", func(t *testing.T, s *Store) { mustBuild(t, s, "", file{"u", "1"}) }, ""},
		{"name is no digest", write("blobs/sha256/README", "x"), "not a digest"},
		{"broken table", write("index.json", "{"), "index.json"},
		{"layout version", write("oci-layout", `{"imageLayoutVersion":"9"}`), `"9"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(t)
			mustBuild(t, s, "app:v1", file{"a", "1"})
			test.damage(t, s)
			faults, err := s.Fsck(t.Context(), FsckOptions{})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case test.want == "" && len(faults) > 0:
				t.Errorf("%v", faults)
			case test.want != "" && (len(faults) != 1 || !strings.Contains(faults[0].String(), test.want)):
				t.Errorf("%v", faults)
			}
		})
	}
}
