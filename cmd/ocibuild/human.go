package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
)

// humanSize words a number of bytes as docker does: three digits, powers of 1000.
func humanSize(n int64) string {
	v, units := float64(n), []string{"B", "kB", "MB", "GB", "TB", "PB"}
	i := 0
	for v >= 1000 && i < len(units)-1 {
		v /= 1000
		i++
	}
	text := strconv.FormatFloat(v, 'g', 3, 64)
	if v >= 999.5 || text == "1e+03" {
		text = strconv.FormatFloat(v, 'f', 0, 64)
	}
	return text + units[i]
}

// humanDuration words a span of time as docker does: "About an hour", "3 weeks".
func humanDuration(d time.Duration) string {
	seconds, minutes := int(d.Seconds()), int(d.Minutes())
	hours := int(d.Hours() + 0.5)
	switch {
	case seconds < 1:
		return "Less than a second"
	case seconds == 1:
		return "1 second"
	case seconds < 60:
		return fmt.Sprintf("%d seconds", seconds)
	case minutes == 1:
		return "About a minute"
	case minutes < 60:
		return fmt.Sprintf("%d minutes", minutes)
	case hours == 1:
		return "About an hour"
	case hours < 48:
		return fmt.Sprintf("%d hours", hours)
	case hours < 24*7*2:
		return fmt.Sprintf("%d days", hours/24)
	case hours < 24*30*2:
		return fmt.Sprintf("%d weeks", hours/24/7)
	case hours < 24*365*2:
		return fmt.Sprintf("%d months", hours/24/30)
	}
	return fmt.Sprintf("%d years", int(d.Hours())/24/365)
}

// age words how long ago t was; "N/A" for no time and for the epoch, which
// reproducible builds use.
func age(t *time.Time, now time.Time) string {
	if t == nil || t.Unix() <= 0 {
		return "N/A"
	}
	return humanDuration(max(0, now.Sub(*t))) + " ago"
}

// shortDigest is "sha256:" and twelve digits.
func shortDigest(d digest.Digest) string {
	if d.Validate() != nil {
		return sanitizeText(string(d))
	}
	return string(d.Algorithm()) + ":" + shortID(d)
}

// shortID is the first twelve digits of a digest, as docker shows image ids.
func shortID(d digest.Digest) string {
	hex := d.Encoded()
	return hex[:min(12, len(hex))]
}

// shortHex is shortID for the text of a digest.
func shortHex(text string) string {
	if d := digest.Digest(text); d.Validate() == nil {
		return shortID(d)
	}
	return text
}
