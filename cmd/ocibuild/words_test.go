package main

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestNearest(t *testing.T) {
	words := []string{"build", "images", "inspect", "import", "push", "pull", "prune"}
	for _, tc := range []struct{ word, want string }{
		{"biuld", "build"},
		{"Build", "build"},
		{"image", "images"},
		{"imagse", "images"},
		{"inspct", "inspect"},
		{"pus", "push"},
		{"xyzzy", ""},
		{"q", ""},
		{"", ""},
	} {
		if got := nearest(tc.word, words); got != tc.want {
			t.Errorf("nearest(%q) = %q, want %q", tc.word, got, tc.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"abc", "abc", 0},
		{"abc", "acb", 1},
		{"build", "biuld", 1},
		{"kitten", "sitting", 3},
	} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

func TestHumanSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0B", 1: "1B", 999: "999B", 1000: "1kB", 1234: "1.23kB", 12345: "12.3kB", 123456: "123kB",
		999499: "999kB", 999999: "1000kB", 1e6: "1MB", 7.77e7: "77.7MB", 1.5e9: "1.5GB", 2e12: "2TB",
	} {
		if got := humanSize(n); got != want {
			t.Errorf("humanSize(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestHumanDuration(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		450 * time.Millisecond: "Less than a second",
		time.Second:            "1 second",
		47 * time.Second:       "47 seconds",
		time.Minute:            "About a minute",
		3 * time.Minute:        "3 minutes",
		time.Hour:              "About an hour",
		3 * time.Hour:          "3 hours",
		47 * time.Hour:         "47 hours",
		3 * day:                "3 days",
		16 * day:               "2 weeks",
		70 * day:               "2 months",
		800 * day:              "2 years",
	} {
		if got := humanDuration(d); got != want {
			t.Errorf("humanDuration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestAge(t *testing.T) {
	now := time.Unix(1e9, 0)
	epoch, before := time.Unix(0, 0), now.Add(-2*time.Minute)
	for _, tc := range []struct {
		at   *time.Time
		want string
	}{{nil, "N/A"}, {&epoch, "N/A"}, {&before, "2 minutes ago"}} {
		if got := age(tc.at, now); got != tc.want {
			t.Errorf("age(%v) = %q, want %q", tc.at, got, tc.want)
		}
	}
}

func TestShortDigest(t *testing.T) {
	if got := shortDigest(digest.FromString("x")); got != "sha256:2d711642b726" {
		t.Errorf("shortDigest = %q", got)
	}
	if got := shortDigest("no\x1bdigest"); got != "nodigest" && got != "noigest" {
		t.Errorf("shortDigest of a bad one = %q", got)
	}
}

func TestSanitizeLine(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain", "hello", "hello"},
		{"tab stays", "a\tb", "a\tb"},
		{"colour", "\x1b[31mred\x1b[0m", "red"},
		{"cursor", "a\x1b[2K\x1b[1Ab", "ab"},
		{"title, BEL", "\x1b]0;title\x07x", "x"},
		{"title, ST", "\x1b]0;title\x1b\\x", "x"},
		{"device control", "\x1bPq#0;2\x1b\\x", "x"},
		{"charset", "\x1b(Bx", "x"},
		{"lone escape", "x\x1b", "x"},
		{"unfinished", "x\x1b[12", "x"},
		{"bell and backspace", "a\a\bb", "ab"},
		{"8-bit CSI", "a\u009b31mb", "a31mb"},
		{"progress bar", "10%\r20%\r30%", "30%"},
		{"line end", "x\r\n", "x"},
		{"bad UTF-8", "a\xffb", "a\ufffdb"},
		{"reordering", "a\u202eb", "ab"},
		{"umlauts", "größer", "größer"},
	} {
		if got := sanitizeLine(tc.in); got != tc.want {
			t.Errorf("%s: sanitizeLine(%q) = %q, want %q", tc.name, tc.in, got, tc.want)
		}
	}
}

func FuzzSanitize(f *testing.F) {
	for _, s := range []string{"x", "\x1b[31mred", "\x1b]0;t\x07", "\xff\x1b", "a\r\n", "\u009b1m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range sanitizeText(s) {
			if r != '\t' && r != '\n' && isControl(r) {
				t.Fatalf("%q keeps %U", s, r)
			}
		}
		if columns(clip(sanitizeLine(s), 10)) > 10 {
			t.Fatalf("%q is not clipped", s)
		}
	})
}

func TestClip(t *testing.T) {
	for _, tc := range []struct {
		in    string
		width int
		want  string
	}{
		{"hello", 5, "hello"},
		{"hello", 4, "hel…"},
		{"日本語", 6, "日本語"},
		{"日本語", 5, "日本…"},
		{"日本語", 4, "日…"},
		{"a\tb", 4, "a  b"},
	} {
		if got := clip(tc.in, tc.width); got != tc.want {
			t.Errorf("clip(%q, %d) = %q, want %q", tc.in, tc.width, got, tc.want)
		}
	}
}
