package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
)

func TestReadResolvConf(t *testing.T) {
	const upstream = "nameserver 10.0.0.1\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"no file", nil, ""},
		{"plain", map[string]string{resolvConf: "nameserver 9.9.9.9\nsearch x\n"}, "nameserver 9.9.9.9\nsearch x\n"},
		{"stub only", map[string]string{resolvConf: "# by hand\nnameserver 127.0.0.53\noptions edns0\n", upstreamConf: upstream}, upstream},
		{"stub without upstream", map[string]string{resolvConf: "nameserver 127.0.0.53"}, "nameserver 127.0.0.53"},
		{"stub and another", map[string]string{resolvConf: "nameserver 127.0.0.53\nnameserver 9.9.9.9\n", upstreamConf: upstream}, "nameserver 127.0.0.53\nnameserver 9.9.9.9\n"},
		{"other loopback", map[string]string{resolvConf: "nameserver 127.0.0.1\n", upstreamConf: upstream}, "nameserver 127.0.0.1\n"},
		{"commented out", map[string]string{resolvConf: "#nameserver 127.0.0.53\nnameserver ::1\n", upstreamConf: upstream}, "#nameserver 127.0.0.53\nnameserver ::1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := readResolvConf(func(name string) ([]byte, error) {
				text, ok := tt.files[name]
				if !ok {
					return nil, fs.ErrNotExist
				}
				return []byte(text), nil
			})
			if string(got) != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSubordinateIDs(t *testing.T) {
	const file = "# comment\nbob:100000:65536\nalice:1:2\n1000:300000:10\nbob:x:1\nbob:5:0\nbob:400000\n"
	for _, tt := range []struct{ user, uid, want string }{
		{"bob", "1000", "[{1 100000 65536} {65537 300000 10}]"},
		{"alice", "1001", "[{1 1 2}]"},
		{"1000", "1000", "[{1 300000 10}]"},
		{"carol", "1002", "[]"},
		{"", "", "[]"},
	} {
		if got := fmt.Sprint(subordinateIDs([]byte(file), tt.user, tt.uid)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.user, got, tt.want)
		}
	}
	ids := subordinateIDs([]byte(file), "bob", "1000")
	if got := strings.Join(mapperArgs(42, 1000, ids), " "); got != "42 0 1000 1 1 100000 65536 65537 300000 10" {
		t.Errorf("got %s", got)
	}
}

func TestIDMap(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]struct {
		whole bool
		total uint64
	}{
		"         0          0 4294967295\n":            {true, 4294967295},
		"         0       1000          1\n":            {false, 1},
		"0 1000 1\n1 100000 65536\n":                    {false, 65537},
		"         0     100000      65536\n65536 0 1\n": {false, 65537},
		"0 0 4294967294\n4294967294 4294967294 1\n":     {false, 4294967295},
	} {
		if err := os.WriteFile(dir+"/map", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := readIDMap(dir + "/map")
		if err != nil || m.whole() != want.whole || m.total() != want.total {
			t.Errorf("%q: got %v, %v", text, m, err)
		}
	}
	if err := os.WriteFile(dir+"/map", []byte("0 x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readIDMap(dir + "/map"); err == nil {
		t.Error("no error for a malformed map")
	}
	if _, err := readIDMap(dir + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
