package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocibuild/ocibuild/registry/retry"

	"github.com/google/go-cmp/cmp"
)

const secret = "correct horse battery"

func TestAuth(t *testing.T) {
	for _, test := range []struct {
		name  string
		setup func(*fakeRegistry)
		o     Options
		// wantErr is part of the error's text; empty: the push and the pull go well.
		wantErr string
	}{
		{"basic", func(f *fakeRegistry) { f.auth = "basic" }, Options{Credentials: static("ann", secret)}, ""},
		{"bearer", func(f *fakeRegistry) { f.auth = "bearer" }, Options{Credentials: static("ann", secret)}, ""},
		{"anonymous bearer", func(f *fakeRegistry) { f.auth, f.user = "bearer", "" }, Options{}, ""},
		{"basic without credentials", func(f *fakeRegistry) { f.auth = "basic" }, Options{}, "run `ocibuild login "},
		{"basic with a wrong password", func(f *fakeRegistry) { f.auth = "basic" }, Options{Credentials: static("ann", "wrong-secret")}, "401 Unauthorized"},
		{"bearer with a wrong password", func(f *fakeRegistry) { f.auth = "bearer" }, Options{Credentials: static("ann", "wrong-secret")}, "incorrect username or password (UNAUTHORIZED, 401 Unauthorized)"},
		{"token service in trouble for a while", func(f *fakeRegistry) { f.auth = "bearer"; f.fault("/token", 3, status(503)) }, Options{Credentials: static("ann", secret)}, ""},
		{"no credential to be had", func(f *fakeRegistry) { f.auth = "basic" }, Options{Credentials: func(context.Context, string) (Credential, error) {
			return Credential{}, errors.New("the vault is shut")
		}}, "the vault is shut"},
		{"realm of another scheme", func(f *fakeRegistry) { f.auth, f.realm = "bearer", "ftp://x/" }, Options{Credentials: static("ann", secret)}, "scheme"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, have := newFake(t), newStore()
			f.user, f.password = "ann", secret
			test.setup(f)
			desc := have.image(amd64, 1000, 2000, 300<<10)
			c := newClient(t, test.o)
			_, err := c.Push(context.Background(), PushRequest{Repo: f.repo("app"), Reference: "v1", Descriptor: desc}, have)
			if test.wantErr != "" {
				e := asError(t, err)
				if !strings.Contains(e.Error(), test.wantErr) || strings.Contains(e.Error(), "-secret") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, newStore()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestTokensAreFew checks that a push asks for one token for all its requests, and a mount for one more.
func TestTokensAreFew(t *testing.T) {
	f, have := newFake(t), newStore()
	f.auth, f.user, f.password = "bearer", "ann", secret
	desc := have.image(amd64, 1, 2, 3, 4)
	c := newClient(t, Options{Credentials: static("ann", secret)})
	_, err := c.Push(context.Background(), PushRequest{Repo: f.repo("app"), Reference: "v1", Descriptor: desc, MountFrom: []Repository{f.repo("base")}}, have)
	if err != nil {
		t.Fatal(err)
	}
	if n := f.count("/token"); n > 2+5 { // several mounts may find no token at once
		t.Errorf("asked for %d tokens", n)
	}
}

// TestTokensThatExpire uses tokens that are good for few requests.
func TestTokensThatExpire(t *testing.T) {
	for uses := 1; uses <= 3; uses++ {
		f, have, ctx := newFake(t), newStore(), context.Background()
		f.auth, f.user, f.password, f.tokenUses = "bearer", "ann", secret, uses
		desc := have.image(amd64, 1000)
		c := newClient(t, Options{Credentials: static("ann", secret)})
		doc, err := parseManifest(desc.MediaType, have.blobs[desc.Digest])
		if err != nil {
			t.Fatal(err)
		}
		for _, child := range doc.children() {
			open := func(ctx context.Context) (io.ReadCloser, error) { return have.Blob(ctx, child) }
			if err := c.PushBlob(ctx, f.repo("app"), child, open); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.PushManifest(ctx, f.repo("app"), "v1", desc, have.blobs[desc.Digest]); err != nil {
			t.Fatal(err)
		}
		c = newClient(t, Options{Credentials: static("ann", secret), Parallel: 1})
		if _, err := c.Pull(ctx, PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, newStore()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTokenExpiresMidPull lets the token run out while a layer is on its way, which then breaks off.
func TestTokenExpiresMidPull(t *testing.T) {
	f, have := newFake(t), newStore()
	desc := have.image(amd64, 1<<20)
	f.seed("app", "v1", have, desc)
	f.auth = "bearer"
	f.fault("GET /v2/app/blobs/"+have.layers(t, desc)[0].Digest.String(), 1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		f.mu.Lock()
		f.tokens["other"] = &token{uses: -1}
		r.Header.Set("Authorization", "Bearer other")
		for name, tk := range f.tokens {
			if name != "other" {
				tk.uses = 0
			}
		}
		f.mu.Unlock()
		cut(1000)(w, r, next)
	})
	c := newClient(t, Options{})
	if _, err := c.Pull(context.Background(), PullRequest{Repo: f.repo("app"), Reference: "v1", Platforms: only(amd64)}, newStore()); err != nil {
		t.Fatal(err)
	}
	if f.count("/token") < 2 {
		t.Error("no second token was asked for")
	}
}

// TestSecretsStayOut looks for the password in every error of a registry that repeats it.
func TestSecretsStayOut(t *testing.T) {
	for _, auth := range []string{"basic", "bearer"} {
		f := newFake(t)
		f.auth, f.user, f.password = auth, "ann", secret
		f.fault("GET /v2/app/", -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
			if r.Header.Get("Authorization") == "" {
				next(w, r)
				return
			}
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte("go away, " + r.Header.Get("Authorization") + ", with your " + secret + "\x1b[31m"))
		})
		c := newClient(t, Options{Credentials: static("ann", secret)})
		_, _, err := c.Manifest(context.Background(), f.repo("app"), "v1")
		text := asError(t, err).Error()
		for _, bad := range []string{secret, base64.StdEncoding.EncodeToString([]byte("ann:" + secret)), "token-", "\x1b"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s: %q is in %q", auth, bad, text)
			}
		}
		if !strings.Contains(text, "go away") {
			t.Errorf("%s: the registry's words are not in %q", auth, text)
		}
	}
}

func TestLogin(t *testing.T) {
	for _, auth := range []string{"basic", "bearer"} {
		t.Run(auth, func(t *testing.T) {
			f, dir := newFake(t), t.TempDir()
			f.auth, f.user, f.password = auth, "ann", secret
			config := filepath.Join(dir, "config.json")
			if err := os.WriteFile(config, []byte(`{"HttpHeaders":{"X":"y"},"auths":{"old.example":{"auth":"YTpi"}}}`), 0o600); err != nil {
				t.Fatal(err)
			}
			c := newClient(t, Options{ConfigDir: dir})
			_, err := c.Login(context.Background(), f.host(), "ann", "wrong-secret")
			if e := asError(t, err); e.Status != 401 || !strings.Contains(e.Hint, "check the user name") || strings.Contains(err.Error(), "wrong-secret") {
				t.Errorf("wrong password: %v", err)
			}
			if text, _ := os.ReadFile(config); strings.Contains(string(text), f.host()) {
				t.Error("a wrong password was stored")
			}
			warnings, err := c.Login(context.Background(), "http://"+f.host()+"/v2/", "ann", secret)
			if err != nil {
				t.Fatal(err)
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0], "unencrypted in "+config) {
				t.Errorf("warnings: %q", warnings)
			}
			var got map[string]any
			text, _ := os.ReadFile(config)
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			want := map[string]any{
				"HttpHeaders": map[string]any{"X": "y"},
				"auths": map[string]any{
					"old.example": map[string]any{"auth": "YTpi"},
					f.host():      map[string]any{"auth": base64.StdEncoding.EncodeToString([]byte("ann:" + secret))},
				},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if info, _ := os.Stat(config); info.Mode().Perm()&0o077 != 0 {
				t.Errorf("the file has the mode %v", info.Mode())
			}

			fresh := newClient(t, Options{ConfigDir: dir})
			if err := fresh.Ping(context.Background(), f.host()); err != nil {
				t.Error(err)
			}
			if _, err := fresh.Logout(context.Background(), f.host()); err != nil {
				t.Error(err)
			}
			if _, err := fresh.Logout(context.Background(), f.host()); !errors.Is(err, ErrNotLoggedIn) {
				t.Errorf("second logout: %v", err)
			}
			if err := newClient(t, Options{ConfigDir: dir}).Ping(context.Background(), f.host()); err == nil {
				t.Error("still logged in")
			}
		})
	}
}

func TestLoginWithoutChallenge(t *testing.T) {
	f := newFake(t)
	warnings, err := newClient(t, Options{}).Login(context.Background(), f.host(), "ann", secret)
	if err != nil || len(warnings) != 2 || !strings.Contains(warnings[0], "not checked") {
		t.Errorf("%q %v", warnings, err)
	}
}

func TestLoginRefuses(t *testing.T) {
	c := newClient(t, Options{})
	for _, test := range []struct{ host, user, password string }{
		{"r.example", "", "x"}, {"r.example", "x", ""}, {"r.example", "a:b", "x"}, {"r.example/path", "a", "b"}, {"no host", "a", "b"}, {"", "a", "b"},
	} {
		_, err := c.Login(context.Background(), test.host, test.user, test.password)
		asError(t, err)
	}
}

// TestCredentialHelper logs in with a helper of Docker's protocol.
func TestCredentialHelper(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	helper := "#!/bin/sh\ncase $1 in\nstore) cat >" + dir + "/stored ;;\nget) test -f " + dir + "/stored || { echo 'credentials not found in native keychain'; exit 1; }\n cat " +
		dir + "/stored ;;\nerase) rm " + dir + "/stored ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-fake"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for _, config := range []string{`{"credsStore":"fake"}`, `{"credHelpers":{"HOST":"fake"}}`} {
		f := newFake(t)
		f.auth, f.user, f.password = "basic", "ann", secret
		path := filepath.Join(dir, "config.json")
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(config, "HOST", f.host())), 0o600); err != nil {
			t.Fatal(err)
		}
		c := newClient(t, Options{ConfigDir: dir})
		warnings, err := c.Login(context.Background(), f.host(), "ann", secret)
		if err != nil || len(warnings) != 0 {
			t.Fatalf("%q %v", warnings, err)
		}
		if text, _ := os.ReadFile(path); strings.Contains(string(text), base64.StdEncoding.EncodeToString([]byte("ann:"+secret))) {
			t.Error("the password is in config.json")
		}
		if err := c.Ping(context.Background(), f.host()); err != nil {
			t.Error(err)
		}
		if _, err := c.Logout(context.Background(), f.host()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "stored")); err == nil {
			t.Error("the helper was not told to forget")
		}
		if _, err := c.Logout(context.Background(), f.host()); !errors.Is(err, ErrNotLoggedIn) {
			t.Errorf("second logout: %v", err)
		}
	}
}

func TestBadConfigFiles(t *testing.T) {
	f := newFake(t)
	f.auth, f.user, f.password = "basic", "ann", secret
	lone := base64.StdEncoding.EncodeToString([]byte("lone-secret")) // without a colon
	for _, test := range []struct{ name, config, want string }{
		{"no JSON", `{"auths":`, "is damaged"},
		{"malformed entry", `{"auths":{"HOST":{"auth":"` + lone + `"}}}`, "malformed entry"},
		{"missing helper", `{"credsStore":"nowhere-to-be-found"}`, "docker-credential-nowhere-to-be-found"},
		{"none", ``, "run `ocibuild login"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(strings.ReplaceAll(test.config, "HOST", f.host())), 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err := newClient(t, Options{ConfigDir: dir}).Manifest(context.Background(), f.repo("app"), "v1")
			if text := asError(t, err).Error(); !strings.Contains(text, test.want) || strings.Contains(text, "lone-secret") {
				t.Errorf("got %s", text)
			}
		})
	}
}

// TestConfigPlaces checks where config.json is looked for.
func TestConfigPlaces(t *testing.T) {
	home, other := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", "")
	if path, err := (&keyring{getenv: os.Getenv}).path(); err != nil || path != filepath.Join(home, ".docker", "config.json") {
		t.Errorf("%s %v", path, err)
	}
	t.Setenv("DOCKER_CONFIG", other)
	if path, err := (&keyring{getenv: os.Getenv}).path(); err != nil || path != filepath.Join(other, "config.json") {
		t.Errorf("%s %v", path, err)
	}
	if err := os.WriteFile(filepath.Join(home, "real.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(home, "real.json"), filepath.Join(other, "config.json")); err != nil {
		t.Fatal(err)
	}
	if path, err := (&keyring{getenv: os.Getenv}).path(); err != nil || filepath.Base(path) != "real.json" {
		t.Errorf("%s %v", path, err)
	}
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("HOME", "")
	if cred, err := (&keyring{getenv: os.Getenv}).get(context.Background(), "r.example"); err != nil || cred.Username != "" {
		t.Errorf("without a home: %v %v", cred, err)
	}
}

// TestDockerHubKey finds Docker Hub's credential under its old name.
func TestDockerHubKey(t *testing.T) {
	dir := t.TempDir()
	auth := base64.StdEncoding.EncodeToString([]byte("ann:" + secret))
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"auths":{"https://index.docker.io/v1/":{"auth":"`+auth+`"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Options{ConfigDir: dir})
	for _, host := range []string{"docker.io", "registry-1.docker.io"} {
		if cred, err := c.credential(context.Background(), c.credentialKey(host, "")); err != nil || cred.Username != "ann" || cred.Password != secret {
			t.Errorf("%s: %v", host, err)
		}
	}
	if cred, err := c.credential(context.Background(), "r.example"); err != nil || cred.Username != "" {
		t.Errorf("another host: %v", err)
	}
	if _, err := c.Logout(context.Background(), "docker.io"); err != nil {
		t.Error(err)
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "config.json")); strings.Contains(string(text), auth) {
		t.Error("still there")
	}
}

func TestSchemes(t *testing.T) {
	plain := newFake(t)
	secure := newFake(t)
	secure.Close()
	secure.Server = httptest.NewUnstartedServer(http.HandlerFunc(secure.serve))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for _, test := range []struct {
		name     string
		f        *fakeRegistry
		insecure bool
		wantErr  string
	}{
		{"plain on loopback", plain, false, ""},
		{"plain allowed", plain, true, ""},
		{"any certificate", secure, true, ""},
		{"unknown certificate", secure, false, "unknown authority; put its authority"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := Options{}
			if test.insecure {
				o.Insecure = []string{test.f.host()}
			}
			err := newClient(t, o).Ping(context.Background(), test.f.host())
			if test.wantErr == "" && err != nil || test.wantErr != "" && !strings.Contains(asError(t, err).Error(), test.wantErr) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNoDowngrade(t *testing.T) {
	c := newClient(t, Options{Insecure: []string{"lab.example:80"}})
	for _, test := range []struct {
		from, to string
		ok       bool
	}{
		{"https://a.example/", "https://b.example/", true},
		{"https://a.example/", "http://b.example/", false},
		{"https://a.example/", "http://lab.example:80/", true},
		{"http://a.example/", "http://b.example/", true},
	} {
		from, _ := http.NewRequest(http.MethodGet, test.from, nil)
		to, _ := http.NewRequest(http.MethodGet, test.to, nil)
		if err := c.checkRedirect(to, []*http.Request{from}); (err == nil) != test.ok {
			t.Errorf("%s to %s: %v", test.from, test.to, err)
		}
	}
}

func TestRefusedConnection(t *testing.T) {
	f := newFake(t)
	f.Close()
	c := newClient(t, Options{})
	err := c.Ping(context.Background(), f.host())
	if e := asError(t, err); !strings.Contains(e.Hint, "listens at "+f.host()) || len(c.pauses) != 0 {
		t.Errorf("%v after %d pauses", err, len(c.pauses))
	}
}

// TestRegistryRestarts loses a registry that has answered before, which is worth waiting for.
func TestRegistryRestarts(t *testing.T) {
	f := newFake(t)
	c := newClient(t, Options{})
	if err := c.Ping(context.Background(), f.host()); err != nil {
		t.Fatal(err)
	}
	f.Close()
	var pauses atomic.Int32
	c.retry.note = func(string, string) { pauses.Add(1) }
	if err := c.Ping(context.Background(), f.host()); err == nil || pauses.Load() != retry.Most {
		t.Errorf("%v after %d pauses", err, pauses.Load())
	}
}

// dialTo makes a client find a test server behind every name.
func (tc *testClient) dialTo(f *fakeRegistry) {
	tc.dialer = func(time.Duration) func(ctx context.Context, network, addr string) (net.Conn, error) {
		return func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, f.Listener.Addr().String())
		}
	}
}

// TestNamedInsecureHost falls back to plain http for a host that may be insecure, and for no other.
func TestNamedInsecureHost(t *testing.T) {
	f := newFake(t)
	f.auth, f.user, f.password = "basic", "ann", secret
	c := newClient(t, Options{Insecure: []string{"lab.example:5000"}})
	c.dialTo(f)
	warnings, err := c.Login(context.Background(), "lab.example:5000", "ann", secret)
	if err != nil || len(warnings) != 2 || !strings.Contains(warnings[0], "plain http") {
		t.Errorf("%q %v", warnings, err)
	}
	err = c.Ping(context.Background(), "safe.example:5000")
	if e := asError(t, err); e.Hint != "if it speaks plain http, pass --insecure safe.example:5000" {
		t.Errorf("got %v", err)
	}
}

// TestDockerHubHost asks for docker.io's images where they are served.
func TestDockerHubHost(t *testing.T) {
	f, have := newFake(t), newStore()
	f.seed("library/app", "v1", have, have.image(amd64, 10))
	c := newClient(t, Options{Insecure: []string{dockerHubHost}})
	c.dialTo(f)
	hosts := map[string]bool{}
	f.fault("/v2/library", -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		f.mu.Lock()
		hosts[r.Host] = true
		f.mu.Unlock()
		next(w, r)
	})
	repo := Repository{Host: "docker.io", Name: "library/app"}
	if _, err := c.Pull(context.Background(), PullRequest{Repo: repo, Reference: "v1", Platforms: only(amd64)}, newStore()); err != nil {
		t.Fatal(err)
	}
	if len(hosts) != 1 || !hosts[dockerHubHost] {
		t.Errorf("asked %v", hosts)
	}
	_, err := c.Resolve(context.Background(), repo, "v2")
	if e := asError(t, err); e.Host != "docker.io" {
		t.Errorf("got %v", err)
	}
}
