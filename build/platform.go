package build

import (
	"fmt"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// HostPlatform is the platform of this machine.
func HostPlatform() ocispec.Platform {
	p := ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if p.Architecture == "arm" {
		p.Variant = "v7"
	}
	return p
}

// architectures are the names that people write for GOARCH values.
var architectures = map[string]ocispec.Platform{
	"x86_64": {Architecture: "amd64"}, "x86-64": {Architecture: "amd64"}, "amd64": {Architecture: "amd64"},
	"aarch64": {Architecture: "arm64"}, "arm64": {Architecture: "arm64"},
	"armhf": {Architecture: "arm", Variant: "v7"}, "armel": {Architecture: "arm", Variant: "v6"}, "arm": {Architecture: "arm", Variant: "v7"},
	"i386": {Architecture: "386"}, "386": {Architecture: "386"},
	"ppc64le": {Architecture: "ppc64le"}, "s390x": {Architecture: "s390x"}, "riscv64": {Architecture: "riscv64"},
	"mips64le": {Architecture: "mips64le"}, "mips64": {Architecture: "mips64"}, "loong64": {Architecture: "loong64"},
	"wasm": {Architecture: "wasm"}, "ppc64": {Architecture: "ppc64"},
}

// ParsePlatform reads "os/arch[/variant]", "arch" or "os" in the forms docker
// takes. The variant v8 of arm64 is the default and left out.
func ParsePlatform(s string) (ocispec.Platform, error) {
	parts := strings.Split(strings.ToLower(strings.TrimSpace(s)), "/")
	host := HostPlatform()
	if len(parts) == 1 {
		if a, ok := architectures[parts[0]]; ok {
			a.OS = host.OS
			return a, nil
		}
		switch parts[0] {
		case "local":
			return host, nil
		case "linux", "windows", "darwin", "freebsd":
			host.OS = parts[0]
			return host, nil
		}
	}
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
		return ocispec.Platform{}, fmt.Errorf("platform %q is not of the form os/arch[/variant], for example linux/arm64", s)
	}
	a, ok := architectures[parts[1]]
	if !ok {
		return ocispec.Platform{}, fmt.Errorf("platform %q names no known architecture", s)
	}
	a.OS = parts[0]
	if a.OS == "macos" {
		a.OS = "darwin"
	}
	if len(parts) == 3 {
		a.Variant = parts[2]
	}
	if a.Architecture == "arm64" && a.Variant == "v8" || a.Architecture == "amd64" && a.Variant == "v1" {
		a.Variant = ""
	}
	return a, nil
}
