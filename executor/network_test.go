package executor

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDNS(t *testing.T) {
	const conf = "# ours\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch example.org\noptions ndots:2"
	for name, test := range map[string]struct {
		d    DNS
		want string
	}{
		"as it is":  {DNS{}, conf + "\n"},
		"servers":   {DNS{Servers: []netip.Addr{netip.MustParseAddr("fd00::7")}}, "# ours\nsearch example.org\noptions ndots:2\nnameserver fd00::7\n"},
		"search":    {DNS{Search: []string{"a", "b"}}, "# ours\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:2\nsearch a b\n"},
		"no search": {DNS{Search: []string{"."}}, "# ours\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:2\n"},
		"options":   {DNS{Options: []string{"rotate"}}, "# ours\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch example.org\noptions rotate\n"},
	} {
		if got := string(test.d.apply([]byte(conf))); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestRunCertificates(t *testing.T) {
	s := newStore(t)
	makeLayer(t, s, "debian", func(dir string) {
		tree{
			"etc/ssl/certs/ca-certificates.crt": "theirs", "etc/ssl/cert.pem ->": "certs/ca-certificates.crt",
			"etc/pki/tls/certs/ca-bundle.crt ->": "../../ca-trust/missing.pem",
		}.make(t, dir)
	})
	p := script(`cat /etc/ssl/certs/ca-certificates.crt $SSL_CERT_FILE $GIT_SSL_CAINFO; cat /etc/ssl/cert.pem | head -n 1; cat $NODE_EXTRA_CA_CERTS; echo $PIP_CERT`)
	p.Env = append(p.Env, "PIP_CERT=mine")
	p.Certificates = []byte("extra\n")
	sn := prepare(t, s, "base", "debian")
	out, err := run(t, s, sn, p)
	if want := strings.Repeat("theirs\nextra\n", 3) + "theirs\nextra\nmine\n"; err != nil || out != want {
		t.Errorf("got %v, %q, want %q", err, out, want)
	}
	for _, path := range upperPaths(t, sn) {
		if strings.Contains(path, "ocibuild") || strings.Contains(path, "ssl") || path == "run" {
			t.Errorf("the step leaves %s", path)
		}
	}
}

func TestRunIsolated(t *testing.T) {
	s := newStore(t)
	p := script("grep -c : /proc/net/dev; cat /etc/resolv.conf; cat /proc/net/route; readlink /proc/self/ns/net")
	p.Network = NetworkIsolated
	if _, err := findConnector(); err != nil {
		t.Skip(err)
	}
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		t.Skip(err)
	} else {
		f.Close()
	}
	out, err := run(t, s, prepare(t, s, "base"), p)
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, own) || !strings.Contains(out, "nameserver ") || strings.Count(out, "\n") < 4 {
		t.Errorf("got %q", out)
	}
}

// TestRunIsolatedFails puts a program in the place of the connector that fails.
func TestRunIsolatedFails(t *testing.T) {
	needsMounts(t)
	s := newStore(t)
	p := script("true")
	p.Network = NetworkIsolated
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	if _, err := run(t, s, prepare(t, s, "base"), p); err == nil || !strings.Contains(err.Error(), "neither is installed") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(bin, "pasta"), []byte("#!/bin/sh\necho it has no wings\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, s, prepare(t, s, "base"), p); err == nil || !strings.Contains(err.Error(), "it has no wings") {
		t.Errorf("got %v", err)
	}
}
