package registry

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocibuild/ocibuild/registry/hosts"
)

// configured makes a configuration of files: registries.conf, and what is below certs.d.
func configured(t *testing.T, files map[string]string) *hosts.Config {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return hosts.New(hosts.Places{Maybe: []string{filepath.Join(dir, "registries.conf")}, Certs: []string{filepath.Join(dir, "certs.d")}})
}

// mirrors writes a registries.conf with mirrors for one registry.
func mirrors(origin string, locations ...string) map[string]string {
	text := fmt.Sprintf("[[registry]]\nlocation = %q\n", origin)
	for _, location := range locations {
		text += fmt.Sprintf("[[registry.mirror]]\nlocation = %q\n", location)
	}
	return map[string]string{"registries.conf": text}
}

func pullOf(f *fakeRegistry) PullRequest {
	return PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}
}

// TestMirrors pulls by way of mirrors that have it all, nothing, some, or fail.
func TestMirrors(t *testing.T) {
	for _, test := range []struct {
		name  string
		setup func(first, second, origin *fakeRegistry)
		// want are the registries that are asked for layers.
		want    string
		wantErr string
	}{
		{"the first has it", func(_, _, origin *fakeRegistry) { origin.fault("/v2/app", -1, status(500)) }, "first", ""},
		{"the first does not know it", func(first, _, _ *fakeRegistry) { first.manifests, first.blobs = nil, nil }, "second", ""},
		{"the first is in trouble", func(first, _, _ *fakeRegistry) { first.fault("/v2/", -1, status(503)) }, "second", ""},
		{"the first wants a password", func(first, _, _ *fakeRegistry) { first.auth, first.password = "basic", "x" }, "second", ""},
		{"the first is gone", func(first, _, _ *fakeRegistry) { first.Close() }, "second", ""},
		{"only the origin has it", func(first, second, _ *fakeRegistry) {
			first.manifests, first.blobs, second.manifests, second.blobs = nil, nil, nil, nil
		}, "origin", ""},
		{"the first fails after the manifest", func(first, _, _ *fakeRegistry) { first.fault("/blobs/", -1, status(502)) }, "second", ""},
		{"the first cuts layers", func(first, _, _ *fakeRegistry) { first.fault("GET /v2/app/blobs/", -1, cut(100)) }, "first second", ""},
		{"the first alters layers", func(first, _, _ *fakeRegistry) { first.fault("GET /v2/app/blobs/", -1, flip) }, "second", ""},
		{"the first alters the manifest", func(first, _, _ *fakeRegistry) { first.fault("GET /v2/app/manifests/", -1, flip) }, "second", ""},
		{"the origin alone is gone", func(_, _, origin *fakeRegistry) { origin.Close() }, "first", ""},
		{"a mirror has a bad moment, the origin is gone", func(first, second, origin *fakeRegistry) {
			first.fault("/v2/app/manifests", 1, status(503))
			second.Close()
			origin.Close()
		}, "first", ""},
		{"nobody has it", func(first, second, origin *fakeRegistry) {
			first.manifests, second.manifests = nil, nil
			origin.manifests = nil
		}, "", "manifest unknown (MANIFEST_UNKNOWN, 404 Not Found) (asked before: FIRST: 404 Not Found, SECOND: 404 Not Found)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			first, second, origin, have := newFake(t), newFake(t), newFake(t), newStore()
			desc := have.image(amd64, 300<<10, 1000)
			for _, f := range []*fakeRegistry{first, second, origin} {
				f.seed("app", "v1", have, desc)
			}
			test.setup(first, second, origin)
			c := newClient(t, Options{Parallel: 1, Hosts: configured(t, mirrors(origin.host(), first.host(), second.host()))})
			into := newStore()
			_, err := c.Pull(context.Background(), pullOf(origin), into)
			if test.wantErr != "" {
				want := strings.NewReplacer("FIRST", first.host(), "SECOND", second.host()).Replace(test.wantErr)
				if e := asError(t, err); !strings.Contains(e.Error(), want) || e.Host != origin.host() {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			sameBlobs(t, into, have)
			var from []string
			for name, f := range map[string]*fakeRegistry{"first": first, "second": second, "origin": origin} {
				served := 0
				for _, l := range have.layers(t, desc) {
					served += f.count("GET /v2/app/blobs/" + l.Digest.String())
				}
				if served > 0 {
					from = append(from, name)
				}
			}
			for _, name := range strings.Fields(test.want) {
				if !strings.Contains(strings.Join(from, " "), name) {
					t.Errorf("layers were asked from %v, want %s", from, test.want)
				}
			}
			if len(from) != len(strings.Fields(test.want)) {
				t.Errorf("layers were asked from %v, want %s", from, test.want)
			}
		})
	}
}

// TestMirrorInTroubleComesLast asks a mirror that failed only once.
func TestMirrorInTroubleComesLast(t *testing.T) {
	mirror, origin, have := newFake(t), newFake(t), newStore()
	origin.seed("app", "v1", have, have.image(amd64, 10, 20, 30, 40, 50))
	mirror.fault("/v2/app/", -1, status(503))
	c := newClient(t, Options{Hosts: configured(t, mirrors(origin.host(), mirror.host()))})
	if _, err := c.Pull(context.Background(), pullOf(origin), newStore()); err != nil {
		t.Fatal(err)
	}
	if n := mirror.count("/v2/app/"); n != 1 || len(c.pauses) != 0 {
		t.Errorf("asked %d times, with %d pauses", n, len(c.pauses))
	}
	if !c.noted("503 Service Unavailable: others are asked") {
		t.Error("nothing was said of it")
	}
}

// TestPushGoesToTheOrigin leaves mirrors alone, and takes the name that was given.
func TestPushGoesToTheOrigin(t *testing.T) {
	mirror, origin, have := newFake(t), newFake(t), newStore()
	desc := have.image(amd64, 1000)
	conf := mirrors(origin.host(), mirror.host())
	conf["registries.conf"] += fmt.Sprintf("[[registry]]\nprefix = %q\nlocation = %q\n", origin.host()+"/app", mirror.host()+"/other")
	c := newClient(t, Options{Hosts: configured(t, conf)})
	if _, err := c.Push(context.Background(), PushRequest{Repo: origin.repo("app"), Reference: "v1", Descriptor: desc}, have); err != nil {
		t.Fatal(err)
	}
	if n := mirror.count(""); n != 0 {
		t.Errorf("the mirror was asked %d times", n)
	}
	if origin.manifests["app v1"].body == nil {
		t.Error("nothing was pushed")
	}
}

// TestRewrittenNames pulls from where a prefix really is, with a token for the name there.
func TestRewrittenNames(t *testing.T) {
	f, have := newFake(t), newStore()
	f.seed("deep/base/app", "v1", have, have.image(amd64, 1000))
	f.auth = "bearer"
	conf := map[string]string{"registries.conf": fmt.Sprintf("[[registry]]\nprefix = \"r.example/team\"\nlocation = %q\n", f.host()+"/deep/base")}
	c := newClient(t, Options{Hosts: configured(t, conf)})
	repo := Repository{Host: "r.example", Name: "team/app"}
	if _, err := c.Pull(context.Background(), PullRequest{Repo: repo, Reference: "v1", Platforms: only(amd64)}, newStore()); err != nil {
		t.Fatal(err)
	}
	if n := f.count("scope=repository%3Adeep%2Fbase%2Fapp%3Apull"); n == 0 {
		t.Error("no token was asked for the name at the location")
	}
	_, err := c.Resolve(context.Background(), repo, "v2")
	if e := asError(t, err); e.Host != "r.example" || e.At != f.host() || !strings.Contains(e.Error(), "r.example/team/app:v2: at "+f.host()+": ") {
		t.Errorf("got %v", err)
	}
	f.auth, f.user, f.password = "basic", "ann", secret
	_, err = newClient(t, Options{Hosts: configured(t, conf)}).Resolve(context.Background(), repo, "v1")
	if e := asError(t, err); !strings.Contains(e.Hint, "ocibuild login "+f.host()+"`") {
		t.Errorf("got %v", err)
	}
	f.auth = ""
	if tags, err := collect(c.Tags(t.Context(), repo)); err != nil || tags != "v1" {
		t.Errorf("%s %v", tags, err)
	}
}

func TestBlocked(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.image(amd64, 10)
	conf := map[string]string{"registries.conf": fmt.Sprintf("\n[[registry]]\nlocation = %q\nblocked = true\n", f.host())}
	c := newClient(t, Options{Hosts: configured(t, conf)})
	_, pullErr := c.Pull(context.Background(), pullOf(f), newStore())
	_, pushErr := c.Push(context.Background(), PushRequest{Repo: f.repo("app"), Reference: "v1", Descriptor: desc}, have)
	_, loginErr := c.Login(context.Background(), f.host(), "ann", secret)
	_, tagsErr := collect(c.Tags(t.Context(), f.repo("app")))
	for _, err := range []error{pullErr, pushErr, loginErr, tagsErr, c.Ping(context.Background(), f.host())} {
		if e := asError(t, err); !strings.Contains(e.Error(), "registries.conf:2: "+f.host()+" is blocked") {
			t.Errorf("got %v", err)
		}
	}
	if n := f.count(""); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
}

// TestHostsTomlServers goes through servers that may do different things, with headers that no other host sees.
func TestHostsTomlServers(t *testing.T) {
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"X-Key", "Authorization"} {
			if r.Header.Get(name) != "" {
				t.Errorf("the host of a redirect was told %s", name)
			}
		}
		http.Error(w, "gone", http.StatusNotFound)
	}))
	defer cdn.Close()
	mirror, origin, have := newFake(t), newFake(t), newStore()
	desc := have.image(amd64, 1000)
	origin.seed("app", "v1", have, desc)
	mirror.seed("hub/app", "v1", have, desc)
	mirror.auth, mirror.user, mirror.password = "basic", "ann", secret
	var keys, namespaces []string
	mirror.fault("/v2/", -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		if r.URL.Path != "/v2/" {
			keys, namespaces = append(keys, r.Header.Get("X-Key")), append(namespaces, r.URL.Query().Get("ns"))
		}
		if strings.Contains(r.URL.Path, "/blobs/"+have.layers(t, desc)[0].Digest.String()) {
			http.Redirect(w, r, cdn.URL+"/x", http.StatusTemporaryRedirect)
			return
		}
		r.URL.Path = "/v2/hub/" + strings.TrimPrefix(r.URL.Path, "/api/v2/")
		next(w, r)
	})
	toml := fmt.Sprintf("server = %q\n[host.%q]\ncapabilities = [\"pull\"]\n[host.%q.header]\nx-key = \"k\"\n", origin.URL, mirror.URL+"/api", mirror.URL+"/api")
	c := newClient(t, Options{Parallel: 1, Credentials: static("ann", secret), Hosts: configured(t, map[string]string{"certs.d/r.example/hosts.toml": toml})})
	into := newStore()
	_, err := c.Pull(context.Background(), PullRequest{Repo: Repository{Host: "r.example", Name: "app"}, Reference: "v1", Platforms: only(amd64)}, into)
	if err != nil {
		t.Fatal(err)
	}
	sameBlobs(t, into, have)
	if mirror.count("manifests/v1") != 0 || origin.count("manifests/v1") == 0 {
		t.Error("a mirror that may not resolve was asked for a tag")
	}
	if len(keys) == 0 {
		t.Error("the mirror was not asked at all")
	}
	for i := range keys {
		if keys[i] != "k" || namespaces[i] != "r.example" {
			t.Errorf("request %d has the key %q and the namespace %q", i, keys[i], namespaces[i])
		}
	}
}

// TestHeadersStayOut looks for a configured key in the error of a server that repeats it.
func TestHeadersStayOut(t *testing.T) {
	f := newFake(t)
	f.fault("/v2/app/", -1, func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		refuse(w, http.StatusForbidden, "DENIED", "not with "+r.Header.Get("X-Api-Key"))
	})
	toml := fmt.Sprintf("server = %q\n[header]\nX-Api-Key = %q\n", f.URL, secret)
	c := newClient(t, Options{Hosts: configured(t, map[string]string{"certs.d/r.example/hosts.toml": toml})})
	_, err := c.Resolve(context.Background(), Repository{Host: "r.example", Name: "app"}, "v1")
	if e := asError(t, err); strings.Contains(e.Error(), secret) || !strings.Contains(e.Error(), "not with ***") {
		t.Errorf("got %v", err)
	}
}

// secureFake is a fake registry that speaks https.
func secureFake(t *testing.T) (f *fakeRegistry, ca string) {
	t.Helper()
	f = newFake(t)
	f.Close()
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.StartTLS()
	t.Cleanup(f.Close)
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw}); err != nil {
		t.Fatal(err)
	}
	return f, b.String()
}

// TestAuthorities trusts a certificate for one host and for no other.
func TestAuthorities(t *testing.T) {
	f, ca := secureFake(t)
	other, _ := secureFake(t) // which shows the same certificate
	c := newClient(t, Options{Hosts: configured(t, map[string]string{"certs.d/" + f.host() + "/ca.crt": ca})})
	if err := c.Ping(context.Background(), f.host()); err != nil {
		t.Error(err)
	}
	err := c.Ping(context.Background(), other.host())
	if e := asError(t, err); !strings.Contains(e.Hint, "certs.d") || !strings.Contains(e.Hint, "--insecure "+other.host()) {
		t.Errorf("got %v", err)
	}
	f.fault("GET /v2/app/tags/list", -1, func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		http.Redirect(w, r, other.URL+"/v2/app/tags/list", http.StatusTemporaryRedirect)
	})
	_, err = collect(c.Tags(t.Context(), f.repo("app")))
	if e := asError(t, err); !strings.Contains(e.Error(), "at "+other.host()+", where the registry sends us") ||
		!strings.Contains(e.Error(), "unknown authority") || !strings.Contains(e.Hint, "--insecure "+other.host()) {
		t.Errorf("a redirect took the authority along: %v", err)
	}
	closed := fmt.Sprintf("server = %q\ncapabilities = [\"pull\"]\nskip_verify = true\n", f.URL)
	c = newClient(t, Options{ConfigDir: t.TempDir(), Hosts: configured(t, map[string]string{"certs.d/r.example/hosts.toml": closed})})
	if _, err := c.Login(context.Background(), "r.example", "ann", secret); err != nil {
		t.Errorf("login where nothing may be pushed: %v", err)
	}
	skip := fmt.Sprintf("server = %q\nskip_verify = true\n", other.URL)
	c = newClient(t, Options{Hosts: configured(t, map[string]string{"certs.d/r.example/hosts.toml": skip})})
	if err := c.Ping(context.Background(), "r.example"); err != nil {
		t.Error(err)
	}
}
