package main

import "testing"

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "17b": 17, "2kB": 2000, "2KB": 2000, "2kib": 2048, "2k": 2048, "1.5MB": 1_500_000, "1.5MiB": 3 << 19,
		"20GB": 20e9, "20 GB": 20e9, "20g": 20 << 30, "3TiB": 3 << 40, "1PB": 1e15,
	} {
		if got, err := parseBytes(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "GB", "-1", "-1GB", "1XB", "1kkB", "1GBB", "1i", "1ib", "0x10", "1e999", "9999999999PB", "inf", "nan", "1_000", "20 G B x"} {
		if got, err := parseBytes(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}
