package image

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// checkDigest says what Validate says.
func TestCheckDigest(t *testing.T) {
	good := digest.FromString("x").Encoded()
	for _, d := range []digest.Digest{
		"", "sha256", "sha256:", digest.Digest("sha256:" + good), digest.SHA512.FromString("x"), digest.Digest(good),
		digest.Digest("sha256:" + strings.ToUpper(good)), digest.Digest("sha256:" + good[1:]), digest.Digest("sha256:" + good + "0"),
		digest.Digest("sha256:" + good[:63] + "/"), digest.Digest("sha256:" + good[:30] + ".." + good[32:]), digest.Digest("md5:" + good),
		digest.Digest("sha256: " + good[1:]), digest.Digest("SHA256:" + good),
	} {
		if got, want := checkDigest(d), d.Validate(); (got == nil) != (want == nil) {
			t.Errorf("%q: %v, and Validate says %v", d, got, want)
		}
	}
}
