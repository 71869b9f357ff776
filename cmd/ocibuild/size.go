package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parseBytes reads a size as it is printed: 20GB are thousands, 20GiB and 20g are
// 1024s.
func parseBytes(text string) (int64, error) {
	at := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if at < 0 {
		at = len(text)
	}
	n, err := strconv.ParseFloat(text[:at], 64)
	scale, ok := byteUnits[strings.ToLower(strings.TrimPrefix(text[at:], " "))]
	if err != nil || !ok || n*scale >= math.MaxInt64 {
		return 0, errBytes(text)
	}
	return int64(n * scale), nil
}

// byteUnits are the units of sizes.
var byteUnits = map[string]float64{
	"": 1, "b": 1,
	"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "pib": 1 << 50,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "pb": 1e15,
}

func errBytes(text string) error {
	return fmt.Errorf("%q is not a size: write 20GB, 512MB, or 20GiB for powers of 1024", text)
}
