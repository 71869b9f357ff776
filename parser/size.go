package parser

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

var errSize = errors.New("not a size")

// ParseSize reads a number of bytes: a decimal number and, with or without a
// blank between, b, or one of k m g t p (powers of 1024), which b or ib may
// follow. Case does not matter.
func ParseSize(text string) (int64, error) {
	i := strings.LastIndexAny(text, "0123456789.")
	if i < 0 {
		return 0, errSize
	}
	n, err := strconv.ParseFloat(text[:i+1], 64)
	if err != nil || n < 0 {
		return 0, errSize
	}
	unit := strings.ToLower(strings.TrimPrefix(text[i+1:], " "))
	if unit != "" && unit != "b" {
		power := strings.IndexByte("kmgtp", unit[0])
		if rest := unit[1:]; power < 0 || rest != "" && rest != "b" && rest != "ib" {
			return 0, errSize
		}
		n *= math.Pow(1024, float64(power+1))
	}
	if n >= math.MaxInt64 {
		return 0, errSize
	}
	return int64(n), nil
}
