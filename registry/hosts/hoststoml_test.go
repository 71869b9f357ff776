package hosts

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHostsToml(t *testing.T) {
	dir := write(t, map[string]string{
		"certs.d/docker.io/hosts.toml": `
server = "https://registry-1.docker.io"
ca = "own.crt"

[host."https://z.example"]
  capabilities = ["Pull"]
  dial_timeout = "1500ms"

[host."http://mirror.lan:5000/hub"]
  capabilities = ["pull", "resolve"]
  ca = ["a.crt", "/etc/b.crt"]
  client = [["c.cert", "c.key"], "both.pem", ["one.pem", ""]]
  skip_verify = true
  [host."http://mirror.lan:5000/hub".header]
    x-one = "1"
    X-Two = ["2", "3"]

[host."a.example/api"]
  override_path = true
`,
		"certs.d/lab_5000_/hosts.toml":       "[host.\"https://m.example\"]\n",
		"certs.d/_default/hosts.toml":        "[host.\"https://all.example\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
		"certs.d/pinned.example/ca.crt":      "x",
		"certs.d/closed.example/hosts.toml":  "capabilities = [\"pull\"]\n",
		"certs.d/empty.example/hosts.toml":   "",
		"certs.d/m.example/client.cert":      "x",
		"certs.d/m.example/client.key":       "x",
		"certs.d/second.example/hosts.toml":  "capabilities=[\"pull\"]\n[host.\"https://p.example\"]\ncapabilities=[\"push\"]\n",
		"certs.d/server.example/hosts.toml":  "server = \"http://real.example:80\"\n",
		"certs.d/inline.example/hosts.toml":  "host.\"https://i.example\".capabilities = [\"pull\"]\n",
		"certs.d/header.example/hosts.toml":  "[host.\"https://h.example\".header]\nx = \"y\"\n[host.\"https://p.example/us\"]\n[host.\"https://o.example\"]\noverride_path = true\n",
		"certs.d/slashes.example/hosts.toml": "server = \"https://x.example/v2/\"\n",
	})
	c := New(places(dir))
	for _, test := range []struct {
		host string
		use  Use
		want string
	}{
		{"docker.io", Pull, "https://z.example/app > http://mirror.lan:5000/hub/app > https://a.example/api/app > https://registry-1.docker.io/app"},
		{"docker.io", List, "https://registry-1.docker.io/app"},
		{"docker.io", Push, "https://a.example/api/app"},
		{"lab:5000", Pull, "https://m.example/app > lab:5000/app"},
		{"other.example", Pull, "https://all.example/app > other.example/app"},
		{"pinned.example", Pull, "pinned.example/app"},
		{"empty.example", Pull, "empty.example/app"},
		{"closed.example", Pull, "closed.example/app"},
		{"closed.example", Push, "closed.example/hosts.toml: it names no server that may be pushed to"},
		{"second.example", Push, "https://p.example/app"},
		{"server.example", Pull, "http://real.example:80/app"},
		{"inline.example", Pull, "https://i.example/app > inline.example/app"},
		{"header.example", Pull, "https://h.example/app > https://p.example/us/app > https://o.example/app > header.example/app"},
		{"slashes.example", Pull, "https://x.example/app"},
	} {
		list, err := c.Endpoints(test.host, "app", "v1", test.use)
		got := line(list)
		if err != nil {
			got = err.Error()
		}
		if got != test.want && (err == nil || !strings.HasSuffix(got, test.want)) {
			t.Errorf("%s %v: got %s, want %s", test.host, test.use, got, test.want)
		}
	}
	list, err := c.Endpoints("docker.io", "app", "v1", Pull)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "certs.d/docker.io")
	want := []Endpoint{
		{Host: "z.example", Can: CanPull, DialTimeout: 1500 * time.Millisecond, For: "docker.io", Mirror: true},
		{
			Host: "mirror.lan:5000", Can: CanPull | CanResolve, For: "docker.io", Mirror: true, Header: http.Header{"X-One": {"1"}, "X-Two": {"2", "3"}},
			TLS: TLS{CAs: []string{own + "/a.crt", "/etc/b.crt"}, Pairs: [][2]string{{own + "/c.cert", own + "/c.key"}, {own + "/both.pem", own + "/both.pem"}, {own + "/one.pem", own + "/one.pem"}}, SkipVerify: true},
		},
		{Host: "a.example", Can: canAll, For: "docker.io", Mirror: true},
		{Host: "registry-1.docker.io", Can: canAll, TLS: TLS{CAs: []string{own + "/own.crt"}}},
	}
	for i := range list {
		list[i].Scheme, list[i].Root, list[i].Name = "", "", ""
		if len(list[i].TLS.CAs) == 0 {
			list[i].TLS.CAs = nil
		}
		if len(list[i].TLS.Pairs) == 0 {
			list[i].TLS.Pairs = nil
		}
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	list, _ = c.Endpoints("lab:5000", "app", "v1", Pull)
	if got := fmt.Sprint(list[0].TLS.Pairs); !strings.Contains(got, "m.example/client.key") {
		t.Errorf("the mirror's own certificates: %s", got)
	}
}

func TestHostsTomlErrors(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"no TOML", "server = x\n", "hosts.toml:1: "},
		{"wrong kind", "\nserver = 1\n", "hosts.toml:2: "},
		{"capability", "[host.\"https://a\"]\n\ncapabilities = [\"fly\"]\n", `hosts.toml:3: there is no capability "fly"`},
		{"own capability", "capabilities = [\"fly\"]\n", "hosts.toml:1: "},
		{"server", "server = \"ftp://a\"\n", "hosts.toml:1: \"ftp://a\" is no server"},
		{"host", "\n[host.\"https://a b\"]\n", "hosts.toml:2: "},
		{"password", "server = \"https://me:hush@a.example\"\n", "\"...@a.example\" is no server"},
		{"ca", "ca = 1\n", "hosts.toml:1: ca is"},
		{"client", "client = [[\"a\"]]\n", "hosts.toml:1: client is"},
		{"client of three", "client = [[\"a\", \"b\", \"c\"]]\n", "hosts.toml:1: client is"},
		{"header", "[host.\"https://a\".header]\nX = 1\n", "hosts.toml:2: the header X"},
		{"header lines", "[header]\nX = \"a\\nb\"\n", "hosts.toml:2: the header"},
		{"timeout", "[host.\"https://a\"]\ndial_timeout = \"soon\"\n", "hosts.toml:2: dial_timeout"},
		{"unknown keys", "shiny = true\n[host.\"https://a\"]\nnew = 1\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := write(t, map[string]string{"certs.d/x.example/hosts.toml": test.text})
			_, err := New(places(dir)).Endpoints("x.example", "app", "v1", Pull)
			var e *Error
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (!errors.As(err, &e) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hush")):
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestCertificates(t *testing.T) {
	dir := write(t, map[string]string{
		"certs.d/a.example:5000/ca.crt":      "x",
		"certs.d/a.example:5000/client.cert": "x", "certs.d/a.example:5000/client.key": "x",
		"certs.d/lone.example/client.cert": "x",
		"certs.d/key.example/client.key":   "x",
		"certs.d/bad.example/ca.crt":       "no certificate",
	})
	c := New(places(dir))
	conf, err := c.Certificates("a.example:5000")
	if err != nil || len(conf.CAs) != 1 || len(conf.Pairs) != 1 || !strings.HasSuffix(conf.Pairs[0][1], "client.key") {
		t.Errorf("%v %v", conf, err)
	}
	if conf, err := c.Certificates("a.example"); err != nil || len(conf.CAs) != 0 {
		t.Errorf("another port: %v %v", conf, err)
	}
	for host, want := range map[string]string{"lone.example": "client.key is missing", "key.example": "client.cert is missing"} {
		if _, err := c.Certificates(host); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", host, err)
		}
	}
	conf, err = c.Certificates("bad.example")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conf.Config(); err == nil || !strings.Contains(err.Error(), "bad.example/ca.crt: there is no certificate in it") {
		t.Errorf("%v", err)
	}
	if conf, err := (TLS{}).Config(); conf != nil || err != nil {
		t.Errorf("%v %v", conf, err)
	}
}

// TestMirrorsOfMirrors looks up what registries.conf gives in hosts.toml.
func TestMirrorsOfMirrors(t *testing.T) {
	c := New(places(write(t, map[string]string{
		"registries.conf":              "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"m.lan/hub\"\n",
		"certs.d/m.lan/hosts.toml":     "server = \"https://m.lan:8443\"\n",
		"certs.d/docker.io/hosts.toml": "[host.\"https://p.example\"]\n",
	})))
	list, err := c.Endpoints("docker.io", "app", "v1", Pull)
	if got := line(list); err != nil || got != "https://m.lan:8443/hub/app > https://p.example/app > docker.io/app" {
		t.Errorf("%s %v", got, err)
	}
}

func FuzzHostsToml(f *testing.F) {
	f.Add("server = \"https://a\"\n[host.\"https://b/c\"]\ncapabilities = [\"pull\"]\nca = \"x\"\nclient = [[\"a\",\"b\"]]\n[host.\"https://b/c\".header]\nx = \"y\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		var file hostsFile
		d, err := parseTOML("/d/f", []byte(text), &file)
		if err != nil {
			return
		}
		list, err := d.endpoints(file)
		if err == nil && (len(list) == 0 || list[len(list)-1].Mirror) {
			t.Fatal("there is no server behind the mirrors")
		}
	})
}

func TestDefaultPlaces(t *testing.T) {
	home := write(t, map[string]string{".config/containers/registries.conf": ""})
	for _, test := range []struct {
		name string
		env  map[string]string
		want Places
	}{
		{"nobody", nil, Places{
			Maybe: []string{"/etc/containers/registries.conf"}, DropIns: []string{"/etc/containers/registries.conf.d"},
			Certs: []string{"/etc/containerd/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d"},
		}},
		{"home", map[string]string{"HOME": "/h"}, Places{
			Maybe:   []string{"/h/.config/containers/registries.conf", "/etc/containers/registries.conf"},
			DropIns: []string{"/etc/containers/registries.conf.d", "/h/.config/containers/registries.conf.d"},
			Certs:   []string{"/h/.config/containerd/certs.d", "/h/.config/docker/certs.d", "/h/.config/containers/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d"},
		}},
		{"a file of their own", map[string]string{"HOME": home, "OCIBUILD_CERTS_DIR": "/c:/d"}, Places{
			Maybe:   []string{home + "/.config/containers/registries.conf", "/etc/containers/registries.conf"},
			DropIns: []string{home + "/.config/containers/registries.conf.d"},
			Certs:   []string{"/c", "/d"},
		}},
		{"told", map[string]string{"XDG_CONFIG_HOME": "/x", "CONTAINERS_REGISTRIES_CONF": "/r", "CONTAINERS_REGISTRIES_CONF_DIR": "/r.d", "OCIBUILD_CERTS_DIR": "/c"}, Places{
			Registries: "/r", Maybe: []string{"/x/containers/registries.conf", "/etc/containers/registries.conf"}, DropIns: []string{"/r.d"}, Certs: []string{"/c"},
		}},
	} {
		if diff := cmp.Diff(test.want, DefaultPlaces(func(k string) string { return test.env[k] })); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}
