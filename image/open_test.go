package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpen(t *testing.T) {
	layout := func(version string) func(string) error {
		return func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"`+version+`"}`), 0o644)
		}
	}
	tests := []struct {
		name    string
		prepare func(dir string) error
		want    string
	}{
		{"empty directory", func(string) error { return nil }, ""},
		{"new file system", func(dir string) error { return os.Mkdir(filepath.Join(dir, "lost+found"), 0o700) }, ""},
		{"half-made store", func(dir string) error { return os.MkdirAll(filepath.Join(dir, "locks/leases"), 0o700) }, ""},
		{"layout of another program", layout("1.0.0"), ""},
		{"layout of the future", layout("2.0.0"), `"2.0.0" is not supported`},
		{"something else", func(dir string) error { return os.WriteFile(filepath.Join(dir, "main.go"), nil, 0o644) }, "choose an empty directory"},
		{"store of the future", func(dir string) error {
			return errors.Join(layout("1.0.0")(dir), os.WriteFile(filepath.Join(dir, "format"), []byte("ocibuild store 2\n"), 0o644))
		}, `format "ocibuild store 2"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := test.prepare(dir); err != nil {
				t.Fatal(err)
			}
			s, err := Open(dir)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), dir) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			mustBuild(t, s, "app:v1", file{"a", "1"})
			mustBeClean(t, s)
		})
	}
	if _, err := Open("/proc/nothing/here"); err == nil {
		t.Error("a store in /proc")
	}
}

func TestOpenWithoutPermissionSaysWhatToDo(t *testing.T) {
	needPrivilege(t, false)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := Open(filepath.Join(dir, "store"))
	var known *StoreError
	if !errors.As(err, &known) || !strings.Contains(err.Error(), "--root") {
		t.Errorf("%v", err)
	}
}
