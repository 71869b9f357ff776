package executor

import (
	"errors"
	"testing"
	"testing/fstest"
)

// The entries that Debian's qemu-user-static registers, as the kernel shows them.
const (
	aarch64Entry = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n" +
		"magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
	s390xEntry = "enabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: \noffset 0\n" +
		"magic 7f454c4602020100000000000000000000020016\nmask ffffffffffffff00fffffffffffffffffffeffff\n"
	offEntry = "disabled\ninterpreter /usr/bin/qemu-riscv64-static\nflags: F\noffset 0\n" +
		"magic 7f454c460201010000000000000000000200f300\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
	extensionEntry = "enabled\ninterpreter /usr/bin/jexec\nflags: F\nextension .jar\n"
	scriptEntry    = "enabled\ninterpreter /usr/bin/cli\nflags: \noffset 0\nmagic 4d5a\n"
)

func TestFindEmulator(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	handlers := fstest.MapFS{
		"status": file("enabled\n"), "register": {Mode: 0o200},
		"qemu-aarch64": file(aarch64Entry), "qemu-s390x": file(s390xEntry), "qemu-riscv64": file(offEntry),
		"jar": file(extensionEntry), "cli": file(scriptEntry), "broken": file("enabled\nmagic 7f\nmask ffff\n"),
	}
	twice := fstest.MapFS{"status": file("enabled\n"), "a": file(s390xEntry), "b": file(s390xEntry + "flags: F\n"), "c": file(s390xEntry)}
	off := fstest.MapFS{"status": file("disabled\n"), "qemu-aarch64": file(aarch64Entry)}
	for _, tt := range []struct {
		name  string
		files fstest.MapFS
		arch  string
		want  *Emulator
		err   error
	}{
		{"fixed", handlers, "arm64", &Emulator{"qemu-aarch64", "/usr/libexec/qemu-binfmt/aarch64-binfmt-P", true}, nil},
		{"big endian, not fixed", handlers, "s390x", &Emulator{"qemu-s390x", "/usr/bin/qemu-s390x-static", false}, nil},
		{"disabled", handlers, "riscv64", nil, nil},
		{"of another architecture", handlers, "arm", nil, nil},
		{"unknown architecture", handlers, "wasm", nil, nil},
		{"the fixed one of several", twice, "s390x", &Emulator{"b", "/usr/bin/qemu-s390x-static", true}, nil},
		{"all disabled", off, "arm64", nil, nil},
		{"not mounted", fstest.MapFS{}, "arm64", nil, ErrNoBinfmt},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := FindEmulator(tt.files, tt.arch)
			if !errors.Is(err, tt.err) || (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
				t.Errorf("got %+v, %v, want %+v, %v", got, err, tt.want, tt.err)
			}
		})
	}
}
