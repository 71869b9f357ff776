package registry

import (
	"runtime"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// DefaultPlatform is what is pulled when nothing is said: this machine's architecture, on linux.
func DefaultPlatform() ocispec.Platform {
	return normalized(ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH})
}

// normalized spells a platform as Go does, and writes down the variant that an architecture has when none is given.
func normalized(p ocispec.Platform) ocispec.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch p.OS {
	case "":
		p.OS = "linux"
	case "macos":
		p.OS = "darwin"
	}
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "i386", "i486", "i586", "i686":
		p.Architecture, p.Variant = "386", ""
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	if p.Variant != "" && p.Variant[0] >= '0' && p.Variant[0] <= '9' {
		p.Variant = "v" + p.Variant
	}
	if p.Variant == "" {
		p.Variant = map[string]string{"amd64": "v1", "arm64": "v8", "arm": "v7"}[p.Architecture]
	}
	return p
}

// samePlatform compares what decides whether programs run.
func samePlatform(a, b ocispec.Platform) bool {
	a, b = normalized(a), normalized(b)
	return a.OS == b.OS && a.Architecture == b.Architecture && a.Variant == b.Variant
}

// runnable lists the platforms whose programs run where p is wanted, the best first: lower variants of the architecture, and the 32-bit
// one that it includes.
func runnable(p ocispec.Platform) []ocispec.Platform {
	p = normalized(p)
	list := []ocispec.Platform{p}
	lower := func(arch string, from, to int) {
		for v := from; v >= to; v-- {
			list = append(list, ocispec.Platform{OS: p.OS, Architecture: arch, Variant: "v" + strconv.Itoa(v)})
		}
	}
	version, _ := strconv.Atoi(strings.TrimPrefix(p.Variant, "v"))
	switch p.Architecture {
	case "amd64":
		lower("amd64", min(version, 9)-1, 1)
		list = append(list, ocispec.Platform{OS: p.OS, Architecture: "386"})
	case "arm":
		lower("arm", min(version, 9)-1, 5)
	case "arm64":
		lower("arm64", min(version, 19)-1, 8)
		lower("arm", 8, 5)
	}
	return list
}

// suits reports whether an image of a platform is what was asked for, or a lower variant of it.
func suits(found, want ocispec.Platform) bool {
	found, want = normalized(found), normalized(want)
	return found.OS == want.OS && found.Architecture == want.Architecture &&
		slices.ContainsFunc(runnable(want), func(p ocispec.Platform) bool { return samePlatform(p, found) })
}

// isImage reports whether an index entry can be an image to run, and not, say, an attestation.
func isImage(desc ocispec.Descriptor) bool {
	if desc.Annotations["vnd.docker.reference.type"] != "" {
		return false
	}
	return desc.Platform == nil || desc.Platform.OS != "unknown" && desc.Platform.Architecture != "unknown"
}

// choose returns the entry of an index that suits a platform best.
func choose(entries []ocispec.Descriptor, want ocispec.Platform) (ocispec.Descriptor, bool) {
	for _, p := range runnable(want) {
		i := slices.IndexFunc(entries, func(e ocispec.Descriptor) bool {
			return isImage(e) && e.Platform != nil && samePlatform(*e.Platform, p)
		})
		if i >= 0 {
			return entries[i], true
		}
	}
	return ocispec.Descriptor{}, false
}

// platformName writes a platform as users do, without a variant that goes without saying.
func platformName(p ocispec.Platform) string {
	if p.OS == "" && p.Architecture == "" {
		return "unknown"
	}
	p = normalized(p)
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" && p.Variant != normalized(ocispec.Platform{OS: p.OS, Architecture: p.Architecture}).Variant {
		name += "/" + p.Variant
	}
	if p.Architecture == "arm" && p.Variant == "v7" {
		name += "/v7"
	}
	return printable(name)
}

// available lists the platforms of an index, each once.
func available(entries []ocispec.Descriptor) []string {
	var names []string
	for _, e := range entries {
		if e.Platform == nil || !isImage(e) {
			continue
		}
		if name := platformName(*e.Platform); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
