package build

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestEmulatorFor(t *testing.T) {
	entry := func(flags string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("enabled\ninterpreter /usr/bin/qemu\nflags: " + flags +
			"\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n")}
	}
	status := &fstest.MapFile{Data: []byte("enabled\n")}
	fixed := fstest.MapFS{"status": status, "qemu-aarch64": entry("F")}
	for _, tt := range []struct {
		name       string
		files      fstest.MapFS
		host, step string
		want       string // the emulator's name
		refused    string // in the error; its hint names the architecture
	}{
		{"the machine itself", fstest.MapFS{"status": status}, "linux/amd64", "linux/amd64", "", ""},
		{"32 bits", fstest.MapFS{"status": status}, "linux/amd64", "linux/386", "", ""},
		{"32 bits of arm", fstest.MapFS{"status": status}, "linux/arm64", "linux/arm/v7", "", ""},
		{"fixed", fixed, "linux/amd64", "linux/arm64", "qemu-aarch64", ""},
		{"not fixed", fstest.MapFS{"status": status, "qemu-aarch64": entry("")}, "linux/amd64", "linux/arm64", "qemu-aarch64", ""},
		{"none", fixed, "linux/amd64", "linux/s390x", "", "RUN for linux/s390x cannot be executed on linux/amd64: the kernel has no emulator"},
		{"none for the other way", fixed, "linux/arm64", "linux/amd64", "", "RUN for linux/amd64 cannot be executed on linux/arm64"},
		{"not to be seen", fstest.MapFS{}, "linux/amd64", "linux/s390x", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			platform := func(text string) ocispec.Platform {
				p, err := ParsePlatform(text)
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			got, err := emulatorFor(tt.files, platform(tt.host), platform(tt.step))
			if tt.refused != "" {
				var hinted *Hinted
				_, arch, _ := strings.Cut(tt.step, "/")
				if !errors.As(err, &hinted) || !strings.Contains(err.Error(), tt.refused) || !strings.Contains(hinted.Hint, "--install "+arch) {
					t.Errorf("got %v, want %q", err, tt.refused)
				}
				return
			}
			if err != nil || (got == nil) != (tt.want == "") || got != nil && got.Name != tt.want {
				t.Errorf("got %+v, %v, want %q", got, err, tt.want)
			}
		})
	}
}
