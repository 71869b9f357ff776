package build

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// architectures are the names of processors that images are made for.
var architectures = []string{
	"386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64", "s390x", "wasm",
}

var errArchitecture = errors.New("names no known architecture")

// architectureHint names the architecture that a mistyped platform is nearest to.
func architectureHint(platform string) string {
	parts := strings.Split(strings.ToLower(platform), "/")
	arch := parts[min(1, len(parts)-1)]
	if near := parser.Nearest(arch, architectures); near != "" && near != arch {
		return "did you mean " + strings.Replace(platform, arch, near, 1) + "?"
	}
	return "the architectures are " + strings.Join(architectures, ", ")
}

// ParsePlatform reads "os/arch[/variant]", "arch" or "os" in the forms docker
// takes; "local" is this machine's.
func ParsePlatform(s string) (ocispec.Platform, error) {
	parts := strings.Split(strings.ToLower(strings.TrimSpace(s)), "/")
	p := image.HostPlatform()
	switch {
	case len(parts) == 1 && parts[0] == "local":
		return p, nil
	case len(parts) == 1 && slices.Contains([]string{"linux", "windows", "darwin", "freebsd"}, parts[0]):
		p.OS = parts[0]
		return p, nil
	case len(parts) == 1:
		p.Architecture, p.Variant = parts[0], ""
	case len(parts) > 3 || parts[0] == "":
		return p, fmt.Errorf("platform %q is not of the form os/arch[/variant], for example linux/arm64", s)
	default:
		p = ocispec.Platform{OS: parts[0], Architecture: parts[1]}
		if len(parts) == 3 {
			p.Variant = parts[2]
		}
	}
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	if p = image.NormalPlatform(p); !slices.Contains(architectures, p.Architecture) {
		return p, fmt.Errorf("platform %q %w", s, errArchitecture)
	}
	return p, nil
}
