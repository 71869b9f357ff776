package retry

import (
	"testing"
	"time"
)

func TestAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		value string
		want  time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"7", 7 * time.Second},
		{" 7 ", 7 * time.Second},
		{"-1", 0},
		{"soon", 0},
		{"99999999999999999999999", 365 * 24 * time.Hour},
		{"9223372036854775807", 365 * 24 * time.Hour},
		{"Fri, 02 Jan 2026 03:04:15 GMT", 10 * time.Second},
		{"Fri, 02 Jan 2026 03:04:00 GMT", 0},
	} {
		if got := After(test.value, now); got != test.want {
			t.Errorf("%q: %s, want %s", test.value, got, test.want)
		}
	}
}
