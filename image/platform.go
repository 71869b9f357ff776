package image

import (
	"runtime"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// HostPlatform is the platform of this machine's Linux containers.
func HostPlatform() ocispec.Platform {
	return NormalPlatform(ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH})
}

// NormalPlatform gives the one spelling of a platform: x86_64 is amd64, arm is
// v7 unless it says otherwise, arm64 is v8 and amd64 v1 without saying so.
func NormalPlatform(p ocispec.Platform) ocispec.Platform {
	p.OS = strings.ToLower(p.OS)
	p.Architecture = strings.ToLower(p.Architecture)
	p.Variant = strings.ToLower(p.Variant)
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	case "i386", "i486", "i586", "i686":
		p.Architecture, p.Variant = "386", ""
	}
	if v, ok := normalVariants[p.Architecture+"/"+p.Variant]; ok {
		p.Variant = v
	}
	return p
}

// normalVariants are the usual names of variants.
var normalVariants = map[string]string{
	"arm/": "v7", "arm/7": "v7", "arm/5": "v5", "arm/6": "v6", "arm/8": "v8",
	"arm64/8": "", "arm64/v8": "", "arm64/v8.0": "", "arm64/9": "v9", "arm64/9.0": "v9", "arm64/v9.0": "v9",
	"amd64/v1": "",
}

// FormatPlatform is os/architecture or os/architecture/variant.
func FormatPlatform(p ocispec.Platform) string {
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	return text
}

// platformDistance tells how far an image's platform is below the wanted one:
// 0 is the same, more is an older variant that runs there too. Not ok: it does
// not run there.
func platformDistance(want, have ocispec.Platform) (distance int, ok bool) {
	want, have = NormalPlatform(want), NormalPlatform(have)
	if want.OS != have.OS || want.Architecture != have.Architecture {
		return 0, false
	}
	if want.OSVersion != "" && have.OSVersion != want.OSVersion {
		return 0, false
	}
	if want.Variant == have.Variant {
		return 0, true
	}
	w, okW := variantNumber(want)
	h, okH := variantNumber(have)
	if !okW || !okH || h > w {
		return 0, false
	}
	return w - h, true
}

func variantNumber(p ocispec.Platform) (int, bool) {
	if p.Variant == "" {
		base := map[string]int{"amd64": 1, "arm64": 8}
		n, ok := base[p.Architecture]
		return n, ok
	}
	digits, ok := strings.CutPrefix(p.Variant, "v")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil
}
