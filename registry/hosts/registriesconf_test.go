package hosts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write makes a directory of files.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// places names what stands in such a directory.
func places(dir string) Places {
	return Places{Maybe: []string{filepath.Join(dir, "registries.conf")}, DropIns: []string{filepath.Join(dir, "conf.d")}, Certs: []string{filepath.Join(dir, "certs.d")}}
}

// line writes endpoints in one line: those that are mirrors with an arrow, insecure ones with a question mark.
func line(list []Endpoint) string {
	var words []string
	for _, e := range list {
		word := e.Host + e.Root
		if e.Name != "" {
			word += "/" + e.Name
		}
		if e.Scheme != "" {
			word = e.Scheme + "://" + word
		}
		if e.Insecure {
			word += "?"
		}
		if e.Mirror {
			word += " >"
		}
		words = append(words, word)
	}
	return strings.ReplaceAll(strings.Join(words, " "), "/v2", "")
}

const mirrored = `
unqualified-search-registries = ["quay.io/", "docker.io"]

[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.lan:5000/hub"
insecure = true
[[registry.mirror]]
location = "second.example"

[[registry]]
prefix = "docker.io/library"
location = "internal.example/base"

[[registry]]
prefix = "*.example.org"
location = "all.example.org/of"

[[registry]]
prefix = "*.example.net"
insecure = true

[[registry]]
location = "digests.example"
mirror-by-digest-only = true
[[registry.mirror]]
location = "d.lan"

[[registry]]
location = "mixed.example"
[[registry.mirror]]
location = "by-digest.lan"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "by-tag.lan"
pull-from-mirror = "tag-only"

[[registry]]
location = "evil.example"
blocked = true

[[registry]]
location = "open.example/bad"
blocked = true

[[registry]]
prefix = "one.example/app:v1"
location = "one.example/app"
blocked = true

[aliases]
ubi8 = "registry.access.redhat.com/ubi8"
`

func TestRegistriesConf(t *testing.T) {
	c := New(places(write(t, map[string]string{"registries.conf": mirrored})))
	digest := "sha256:" + strings.Repeat("0", 64)
	for _, test := range []struct {
		host, name, reference string
		use                   Use
		want                  string // or the end of an error
	}{
		{"other.example", "app", "v1", Pull, "other.example/app"},
		{"docker.io", "me/app", "v1", Pull, "mirror.lan:5000/hub/me/app? > second.example/me/app > docker.io/me/app"},
		{"docker.io", "me/app", "v1", List, "docker.io/me/app"},
		{"docker.io", "me/app", "v1", Push, "docker.io/me/app"},
		{"docker.io", "library/alpine", "3", Pull, "internal.example/base/alpine"},
		{"docker.io", "library/alpine", "", List, "internal.example/base/alpine"},
		{"docker.io", "library/alpine", "3", Push, "docker.io/library/alpine"},
		{"docker.io", "library2/alpine", "3", Push, "docker.io/library2/alpine"},
		{"docker.io", "", "", List, "docker.io"},
		{"a.example.org", "x/y", "v1", Pull, "all.example.org/of/x/y"},
		{"a.b.example.org", "y", "v1", Pull, "all.example.org/of/y"},
		{"example.org", "y", "v1", Pull, "example.org/y"},
		{"a.example.net", "y", "v1", Pull, "a.example.net/y?"},
		{"a.example.net", "y", "v1", Push, "a.example.net/y?"},
		{"digests.example", "y", "v1", Pull, "digests.example/y"},
		{"digests.example", "y", digest, Pull, "d.lan/y > digests.example/y"},
		{"mixed.example", "y", "v1", Pull, "by-tag.lan/y > mixed.example/y"},
		{"mixed.example", "y", digest, Pull, "by-digest.lan/y > mixed.example/y"},
		{"evil.example", "y", "v1", Pull, "registries.conf:39: evil.example is blocked"},
		{"evil.example", "y", "v1", Push, "registries.conf:39: evil.example is blocked"},
		{"evil.example", "", "", List, "evil.example is blocked"},
		{"evil.example:5000", "y", "v1", Pull, "evil.example:5000/y"},
		{"open.example", "bad/y", "v1", Pull, "open.example/bad is blocked"},
		{"open.example", "good/y", "v1", Pull, "open.example/good/y"},
		{"one.example", "app", "v1", Pull, "one.example/app:v1 is blocked"},
		{"one.example", "app", "v2", Pull, "one.example/app"},
		{"one.example", "app", "v10", Pull, "one.example/app"},
	} {
		list, err := c.Endpoints(test.host, test.name, test.reference, test.use)
		got := line(list)
		if err != nil {
			got = err.Error()
		}
		if got != test.want && (err == nil || !strings.HasSuffix(got, test.want)) {
			t.Errorf("%s %s %s %v: got %s, want %s", test.host, test.name, test.reference, test.use, got, test.want)
		}
	}
	if got := fmt.Sprint(c.ShortName("ubi8"), c.ShortName("app")); got != "[registry.access.redhat.com/ubi8] [quay.io/app]" {
		t.Errorf("short names: %s", got)
	}
}

func TestDropIns(t *testing.T) {
	c := New(places(write(t, map[string]string{
		"registries.conf": "[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\nlocation = \"old.lan\"\n",
		"conf.d/10.conf":  "[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\nlocation = \"ten.lan\"\n",
		"conf.d/20.conf":  "[[registry]]\nlocation = \"b.example\"\nblocked = true\n",
		"conf.d/notes":    "not TOML at all",
	})))
	list, err := c.Endpoints("a.example", "app", "v1", Pull)
	if got := line(list); err != nil || got != "ten.lan/app > a.example/app" {
		t.Errorf("%s %v", got, err)
	}
	if _, err := c.Endpoints("b.example", "app", "v1", Pull); err == nil || !strings.HasSuffix(err.Error(), "conf.d/20.conf:1: b.example is blocked") {
		t.Errorf("%v", err)
	}
}

func TestVersion1(t *testing.T) {
	c := New(places(write(t, map[string]string{"registries.conf": `
[registries.search]
registries = ["a.example"]
[registries.insecure]
registries = ["lab.example:5000"]
[registries.block]
registries = ["evil.example"]
`})))
	list, err := c.Endpoints("lab.example:5000", "app", "v1", Pull)
	if got := line(list); err != nil || got != "lab.example:5000/app?" {
		t.Errorf("%s %v", got, err)
	}
	if _, err := c.Endpoints("evil.example", "app", "v1", Pull); err == nil || !strings.Contains(err.Error(), "blocked") {
		t.Errorf("%v", err)
	}
}

func TestRegistriesConfErrors(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"no TOML", "[[registry]]\nlocation = docker.io\n", "registries.conf:2: "},
		{"wrong kind", "[[registry]]\nlocation = \"a\"\ninsecure = \"yes\"\n", "registries.conf:3: "},
		{"neither", "\n[[registry]]\ninsecure = true\n", "registries.conf:2: the registry has neither a prefix nor a location"},
		{"no location", "[[registry]]\nprefix = \"a.example\"\n", `registries.conf:1: the registry "a.example" has no location`},
		{"scheme", "[[registry]]\nlocation = \"https://a.example\"\n", "registries.conf:2: location = \"https://a.example\": it is written without a scheme"},
		{"no host", "[[registry]]\nlocation = \"a example\"\n", "registries.conf:2: location = "},
		{"wildcard", "[[registry]]\nprefix = \"*.a.example/b\"\n", "registries.conf:2: prefix = "},
		{"mirror without location", "[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\ninsecure = true\n", "registries.conf:3: the mirror has no location"},
		{"second mirror", "[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\nlocation = \"m\"\n[[registry.mirror]]\npull-from-mirror = \"x\"\nlocation = \"n\"\n", "registries.conf:6: pull-from-mirror = \"x\""},
		{"both", "[[registry]]\nlocation = \"a\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"m\"\npull-from-mirror = \"all\"\n", "registries.conf:6: pull-from-mirror and"},
		{"of the registry", "[[registry]]\nlocation = \"a\"\npull-from-mirror = \"all\"\n", "registries.conf:3: pull-from-mirror belongs to a mirror"},
		{"contradiction", "[[registry]]\nlocation = \"a\"\n[[registry]]\nprefix = \"b\"\nlocation = \"a\"\ninsecure = true\n", "registries.conf:3: a is insecure = true here and false in line 1"},
		{"search", "unqualified-search-registries = [\"a/b\"]\n", "registries.conf:1: \"a/b\" is no registry host"},
		{"mode", "short-name-mode = \"loud\"\n", "registries.conf:1: short-name-mode"},
		{"mixed", "unqualified-search-registries = [\"b\"]\n[registries.search]\nregistries = [\"a\"]\n", "registries.conf:2: the file mixes"},
		{"unknown keys", "shiny = 1\n[[registry]]\nlocation = \"a\"\nnew = \"x\"\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(places(write(t, map[string]string{"registries.conf": test.text}))).Endpoints("x.example", "app", "v1", Pull)
			var e *Error
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (!errors.As(err, &e) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	missing := New(Places{Registries: filepath.Join(t.TempDir(), "none.conf")})
	if _, err := missing.Endpoints("x", "app", "v1", Pull); err == nil || !strings.Contains(err.Error(), "none.conf: no such file") {
		t.Errorf("%v", err)
	}
}

func FuzzRegistriesConf(f *testing.F) {
	f.Add(mirrored)
	f.Fuzz(func(t *testing.T, text string) {
		var file registriesFile
		d, err := parseTOML("f", []byte(text), &file)
		if err != nil {
			return
		}
		if r, err := d.registries(file); err == nil {
			for _, use := range []Use{Pull, List, Push} {
				list, err := r.places("docker.io", "library/alpine", "v1", use)
				if err == nil && len(list) == 0 {
					t.Fatal("there is no endpoint")
				}
			}
		}
	})
}
