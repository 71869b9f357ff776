package main

import (
	"testing"
)

func TestParseHost(t *testing.T) {
	for text, want := range map[string]string{
		"db:10.0.0.7": "db 10.0.0.7", "db=10.0.0.7": "db 10.0.0.7", "db:fd00::7": "db fd00::7", "db:[fd00::7]": "db fd00::7",
		"db=[::1]": "db ::1", "me:host-gateway": "me 127.0.0.1",
		"": "", "db": "", ":10.0.0.7": "", "db:": "", "db:host": "", "db:10.0.0": "", "db:fe80::1%eth0": "", "a b:10.0.0.7": "", "a\nb:10.0.0.7": "", "#:10.0.0.7": "",
	} {
		got := ""
		if h, err := parseHost(text); err == nil {
			got = h.Host + " " + h.IP.String()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestParseLimit(t *testing.T) {
	const none = ^uint64(0)
	for _, tt := range []struct {
		text, name string
		soft, hard uint64
	}{
		{"nofile=10", "RLIMIT_NOFILE", 10, 10},
		{"nofile=10:20", "RLIMIT_NOFILE", 10, 20},
		{"core=0:-1", "RLIMIT_CORE", 0, none},
		{"stack=-1", "RLIMIT_STACK", none, none},
		{"nofile=20:10", "", 0, 0},
		{"nofile=-1:10", "", 0, 0},
		{"nofile=-2", "", 0, 0},
		{"nofile=", "", 0, 0},
		{"nofile", "", 0, 0},
		{"nofile=1:2:3", "", 0, 0},
		{"as=1", "", 0, 0},
		{"=1", "", 0, 0},
	} {
		l, err := parseLimit(tt.text)
		if (err == nil) != (tt.name != "") || err == nil && (l.Type != tt.name || l.Soft != tt.soft || l.Hard != tt.hard) {
			t.Errorf("%q: got %+v, %v", tt.text, l, err)
		}
	}
}
