package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// authOf is an entry of a file of credentials, for a user whose password is their name and "-secret".
func authOf(user string) string {
	return `{"auth":"` + base64.StdEncoding.EncodeToString([]byte(user+":"+user+"-secret")) + `"}`
}

// auths is a file of credentials, of keys and users in turn.
func auths(pairs ...string) string {
	var entries []string
	for i := 0; i < len(pairs); i += 2 {
		entries = append(entries, fmt.Sprintf("%q:%s", pairs[i], authOf(pairs[i+1])))
	}
	return `{"auths":{` + strings.Join(entries, ",") + `}}`
}

// TestCredentialPlaces looks for credentials where Docker and podman keep them.
func TestCredentialPlaces(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string // below $HOME
		env   map[string]string // HOME stands for that directory
		host  string
		repo  string
		want  string // the user
	}{
		{"none", nil, nil, "r.example", "a/b", ""},
		{"docker's", map[string]string{".docker/config.json": auths("r.example", "ann")}, nil, "r.example", "a/b", "ann"},
		{"DOCKER_CONFIG", map[string]string{".docker/config.json": auths("r.example", "ann"), "d/config.json": auths("r.example", "ben")}, map[string]string{"DOCKER_CONFIG": "HOME/d"}, "r.example", "a", "ben"},
		{"DOCKER_AUTH_CONFIG", map[string]string{".docker/config.json": auths("r.example", "ann")}, map[string]string{"DOCKER_AUTH_CONFIG": auths("r.example", "ben")}, "r.example", "a", "ben"},
		{"DOCKER_AUTH_CONFIG has others", map[string]string{".docker/config.json": auths("r.example", "ann")}, map[string]string{"DOCKER_AUTH_CONFIG": auths("s.example", "ben")}, "r.example", "a", "ann"},
		{"REGISTRY_AUTH_FILE", map[string]string{".docker/config.json": auths("r.example", "ann"), "auth.json": auths("r.example", "ben")}, map[string]string{"REGISTRY_AUTH_FILE": "HOME/auth.json"}, "r.example", "a", "ben"},
		{"podman's", map[string]string{".config/containers/auth.json": auths("r.example", "ann")}, nil, "r.example", "a", "ann"},
		{"podman's while it runs", map[string]string{"run/containers/auth.json": auths("r.example", "ann"), ".config/containers/auth.json": auths("r.example", "ben")}, map[string]string{"XDG_RUNTIME_DIR": "HOME/run"}, "r.example", "a", "ann"},
		{"docker's before podman's", map[string]string{".docker/config.json": auths("r.example", "ann"), ".config/containers/auth.json": auths("r.example", "ben")}, nil, "r.example", "a", "ann"},
		{"a file of one's own alone", map[string]string{".config/containers/auth.json": auths("r.example", "ben"), "auth.json": "{}"}, map[string]string{"REGISTRY_AUTH_FILE": "HOME/auth.json"}, "r.example", "a", ""},
		{"one that is damaged, and another", map[string]string{".docker/config.json": "{", ".config/containers/auth.json": auths("r.example", "ben")}, nil, "r.example", "a", "ben"},

		{"path", map[string]string{".docker/config.json": auths("r.example", "ann", "r.example/team", "ben", "r.example/team/app", "cid")}, nil, "r.example", "team/app", "cid"},
		{"path of another", map[string]string{".docker/config.json": auths("r.example", "ann", "r.example/team", "ben", "r.example/team/app", "cid")}, nil, "r.example", "team/app2", "ben"},
		{"deeper path", map[string]string{".docker/config.json": auths("r.example", "ann", "r.example/team", "ben")}, nil, "r.example", "team/a/b/c", "ben"},
		{"no path fits", map[string]string{".docker/config.json": auths("r.example", "ann", "r.example/team", "ben")}, nil, "r.example", "teams/a", "ann"},
		{"path alone, for another", map[string]string{".docker/config.json": auths("r.example/team", "ben")}, nil, "r.example", "other/a", ""},
		{"path, in another file", map[string]string{"auth.json": auths("r.example/team", "ben"), ".docker/config.json": auths("r.example", "ann")}, map[string]string{"REGISTRY_AUTH_FILE": "HOME/auth.json"}, "r.example", "x/a", "ann"},
		{"port", map[string]string{".docker/config.json": auths("r.example:5000", "ann")}, nil, "r.example", "a", ""},
		{"URL", map[string]string{".docker/config.json": auths("https://r.example/v1/", "ann")}, nil, "r.example", "a", "ann"},
		{"URL beside the host", map[string]string{".docker/config.json": auths("https://r.example/v1/", "ann", "r.example", "ben")}, nil, "r.example", "a", "ben"},
		{"docker.io by its old name", map[string]string{".docker/config.json": auths("https://index.docker.io/v1/", "ann")}, nil, "registry-1.docker.io", "a", "ann"},
		{"docker.io with a path", map[string]string{".docker/config.json": auths("docker.io/me", "ann")}, nil, "registry-1.docker.io", "me/a", "ann"},
	} {
		t.Run(test.name, func(t *testing.T) {
			home := t.TempDir()
			for name, text := range test.files {
				path := filepath.Join(home, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			k := &keyring{getenv: func(name string) string {
				if name == "HOME" || name == "XDG_RUNTIME_DIR" && test.env[name] == "" {
					return home
				}
				return strings.ReplaceAll(test.env[name], "HOME", home)
			}}
			cred, err := k.get(context.Background(), k.scope(test.host, test.repo))
			if err != nil || cred.Username != test.want || test.want != "" && cred.Password != test.want+"-secret" {
				t.Errorf("got %q, %v; want %q", cred.Username, err, test.want)
			}
		})
	}
}

// TestUnreadableFile pulls what is public though a file of credentials cannot be read, and tells of it where one is wanted.
func TestUnreadableFile(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root can read everything")
	}
	f, have, dir := newFake(t), newStore(), t.TempDir()
	f.seed("app", "v1", have, have.image(amd64, 10))
	f.auth = "bearer"
	if err := os.WriteFile(filepath.Join(dir, "config.json"), nil, 0o000); err != nil {
		t.Fatal(err)
	}
	if _, err := newClient(t, Options{ConfigDir: dir}).Pull(t.Context(), pullOf(f), newStore()); err != nil {
		t.Error(err)
	}
	f.auth = "basic"
	_, err := newClient(t, Options{ConfigDir: dir}).Pull(t.Context(), pullOf(f), newStore())
	if e := asError(t, err); !strings.Contains(e.Hint, "config.json may have a credential, and this user cannot read it") {
		t.Errorf("got %v", err)
	}
}

func TestDamagedVariable(t *testing.T) {
	k := &keyring{getenv: func(name string) string {
		return map[string]string{"DOCKER_AUTH_CONFIG": `{"auths":{"r.example":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("hush-hush")) + `"}}}`}[name]
	}}
	_, err := k.get(context.Background(), "r.example")
	if err == nil || !strings.Contains(err.Error(), "$DOCKER_AUTH_CONFIG has a malformed entry for r.example") || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v", err)
	}
}

// TestScopedCredentials uses one credential for a part of a registry and another for the rest, at the same time.
func TestScopedCredentials(t *testing.T) {
	f, have, dir := newFake(t), newStore(), t.TempDir()
	desc := have.image(amd64, 100)
	f.seed("team/app", "v1", have, desc)
	f.seed("other/app", "v1", have, desc)
	var users []string
	f.fault("/v2/", -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		user, _, ok := r.BasicAuth()
		if !ok && r.URL.Path != "/v2/" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		f.mu.Lock()
		users = append(users, user+" "+repoOf(r.URL.Path))
		f.mu.Unlock()
		next(w, r)
	})
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(auths(f.host(), "ann", f.host()+"/team", "ben")), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Options{ConfigDir: dir})
	for _, repo := range []string{"other/app", "team/app", "other/app"} {
		if _, err := c.Pull(context.Background(), PullRequest{Repo: f.repo(repo), Reference: "v1", Platforms: only(amd64)}, newStore()); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range users {
		if line != "ann other/app" && line != "ben team/app" && line != " " {
			t.Errorf("%s", line)
		}
	}
}

func TestScopedLogin(t *testing.T) {
	f, dir := newFake(t), t.TempDir()
	f.auth, f.user, f.password = "basic", "ann", secret
	c := newClient(t, Options{ConfigDir: dir})
	if _, err := c.Login(context.Background(), f.host()+"/team/", "ann", secret); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(filepath.Join(dir, "config.json"))
	if !strings.Contains(string(text), `"`+f.host()+`/team"`) {
		t.Errorf("%s", text)
	}
	fresh := newClient(t, Options{ConfigDir: dir})
	if _, err := collect(fresh.Tags(t.Context(), f.repo("team/app"))); asError(t, err).Status != http.StatusNotFound {
		t.Errorf("below the path: %v", err)
	}
	if _, err := collect(fresh.Tags(t.Context(), f.repo("other"))); asError(t, err).Status != http.StatusUnauthorized {
		t.Errorf("beside the path: %v", err)
	}
	if _, err := fresh.Logout(context.Background(), f.host()); !errors.Is(err, ErrNotLoggedIn) {
		t.Errorf("logout of the host: %v", err)
	}
	if _, err := fresh.Logout(context.Background(), f.host()+"/team"); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"credsStore":"fake"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := newClient(t, Options{ConfigDir: dir}).Login(context.Background(), f.host()+"/team", "ann", secret)
	if e := asError(t, err); !strings.Contains(e.Error(), "keeps credentials of whole hosts only") {
		t.Errorf("got %v", err)
	}
}

// TestLoginToAFile stores where REGISTRY_AUTH_FILE says, as podman does, and tells what else has a credential.
func TestLoginToAFile(t *testing.T) {
	f, home := newFake(t), t.TempDir()
	f.auth, f.user, f.password = "basic", "ann", secret
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", filepath.Join(home, "docker"))
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(home, "deep/auth.json"))
	t.Setenv("DOCKER_AUTH_CONFIG", auths(f.host(), "old"))
	c := New(Options{Hosts: newClient(t, Options{}).places})
	warnings, err := c.Login(context.Background(), f.host(), "ann", secret)
	if err != nil || len(warnings) != 2 || !strings.Contains(warnings[1], "$DOCKER_AUTH_CONFIG has another credential") {
		t.Fatalf("%q %v", warnings, err)
	}
	if _, err := os.Stat(filepath.Join(home, "docker")); err == nil {
		t.Error("docker's file was touched")
	}
	var file struct{ Auths map[string]any }
	text, _ := os.ReadFile(filepath.Join(home, "deep/auth.json"))
	if err := json.Unmarshal(text, &file); err != nil || file.Auths[f.host()] == nil {
		t.Errorf("%s", text)
	}
	warnings, err = c.Logout(context.Background(), f.host())
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "$DOCKER_AUTH_CONFIG still has") {
		t.Errorf("%q %v", warnings, err)
	}
}

// TestIdentityToken trades a stored identity token for access tokens, as OAuth2 has it, anew when they expire.
func TestIdentityToken(t *testing.T) {
	f, have, dir := newFake(t), newStore(), t.TempDir()
	f.seed("app", "v1", have, have.image(amd64, 10, 20, 30))
	f.auth, f.user = "bearer", "nobody"
	var forms []string
	f.fault("POST /token", -1, func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		_ = r.ParseForm()
		f.mu.Lock()
		defer f.mu.Unlock()
		forms = append(forms, r.Form.Get("grant_type")+" "+r.Form.Get("scope")+" "+r.Form.Get("service")+" "+r.Form.Get("client_id"))
		if r.Form.Get("refresh_token") != "identity-secret" || r.Header.Get("Authorization") != "" {
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "bad token identity-secret")
			return
		}
		name := fmt.Sprintf("token-%d", len(f.tokens))
		f.tokens[name] = &token{uses: 2}
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": name, "expires_in": 60})
	})
	for _, config := range []string{
		`{"auths":{"HOST":{"identitytoken":"identity-secret"}}}`,
		`{"auths":{"HOST":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("<token>:")) + `","identitytoken":"identity-secret"}}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(strings.ReplaceAll(config, "HOST", f.host())), 0o600); err != nil {
			t.Fatal(err)
		}
		forms = nil
		if _, err := newClient(t, Options{ConfigDir: dir, Parallel: 1}).Pull(context.Background(), pullOf(f), newStore()); err != nil {
			t.Fatal(err)
		}
		if len(forms) < 2 || forms[0] != "refresh_token repository:app:pull fake ocibuild" {
			t.Errorf("%q", forms)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"auths":{"`+f.host()+`":{"identitytoken":"wrong-secret"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := newClient(t, Options{ConfigDir: dir}).Pull(context.Background(), pullOf(f), newStore())
	if e := asError(t, err); e.Status != http.StatusUnauthorized || strings.Contains(e.Error(), "wrong-secret") {
		t.Errorf("got %v", err)
	}
}

// TestRegistryToken sends a token that was stored as it is.
func TestRegistryToken(t *testing.T) {
	f, have, dir := newFake(t), newStore(), t.TempDir()
	f.seed("app", "v1", have, have.image(amd64, 10))
	f.auth = "bearer"
	f.tokens["stored-secret"] = &token{uses: -1}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"auths":{"`+f.host()+`":{"registrytoken":"stored-secret"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newClient(t, Options{ConfigDir: dir}).Pull(context.Background(), pullOf(f), newStore()); err != nil {
		t.Error(err)
	}
	if f.count("/token") != 0 {
		t.Error("another token was asked for")
	}
}

// TestGlobalHelpers asks the helpers that registries.conf names, before and after the files.
func TestGlobalHelpers(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	for _, name := range []string{"one", "two"} {
		text := fmt.Sprintf("#!/bin/sh\nread host\necho $host >>%s/asked-%s\ntest %s = two || { echo 'credentials not found in native keychain'; exit 1; }\necho '{\"Username\":\"ann\",\"Secret\":\"x\"}'\n", dir, name, name)
		if err := os.WriteFile(filepath.Join(bin, "docker-credential-"+name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for _, test := range []struct {
		helpers string
		host    string
		want    string
	}{
		{`["containers-auth.json"]`, "r.example", ""},
		{`["one"]`, "r.example", ""},
		{`["one", "two"]`, "r.example", "ann"},
		{`["containers-auth.json", "two"]`, "s.example", "ben"},
		{`["two", "containers-auth.json"]`, "s.example", "ann"},
	} {
		home := t.TempDir()
		if err := errors.Join(os.Mkdir(filepath.Join(home, ".docker"), 0o700), os.WriteFile(filepath.Join(home, ".docker/config.json"), []byte(auths("s.example", "ben")), 0o600)); err != nil {
			t.Fatal(err)
		}
		conf := configured(t, map[string]string{"registries.conf": "credential-helpers = " + test.helpers + "\n"})
		k := &keyring{helpers: conf.CredentialHelpers, getenv: func(name string) string {
			return map[string]string{"HOME": home, "XDG_RUNTIME_DIR": home}[name]
		}}
		cred, err := k.get(context.Background(), test.host)
		if err != nil || cred.Username != test.want {
			t.Errorf("%s %s: %q %v", test.helpers, test.host, cred.Username, err)
		}
	}
}

// TestRedirectsTellNothing redirects every kind of request to another host, which must see no credential.
func TestRedirectsTellNothing(t *testing.T) {
	for _, auth := range []string{"basic", "bearer"} {
		f, have := newFake(t), newStore()
		desc := have.image(amd64, 1000)
		f.seed("app", "v1", have, desc)
		f.auth, f.user, f.password = auth, "ann", secret
		asked := 0
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			for name, values := range r.Header {
				for _, v := range values {
					if strings.Contains(v, secret) || name == "Authorization" || name == "Cookie" {
						t.Errorf("%s: %s %s was told %s", auth, r.Method, r.URL, name)
					}
				}
			}
			if strings.Contains(r.URL.RawQuery, "ann") {
				t.Errorf("%s: the query was told the user", auth)
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="give it to me"`)
			w.WriteHeader(http.StatusUnauthorized)
		}))
		f.fault("/v2/app/", -1, func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
			if r.Header.Get("Authorization") == "" {
				next(w, r)
				return
			}
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
		})
		c := newClient(t, Options{Credentials: static("ann", secret)})
		_, manifestErr := c.Resolve(t.Context(), f.repo("app"), "v1")
		_, _, getErr := c.Manifest(t.Context(), f.repo("app"), "v1")
		_, blobErr := c.Blob(t.Context(), f.repo("app"), have.layers(t, desc)[0])
		_, tagsErr := collect(c.Tags(t.Context(), f.repo("app")))
		_, pushErr := c.Push(t.Context(), PushRequest{Repo: f.repo("app"), Reference: "v2", Descriptor: have.image(amd64, 2000)}, have)
		for _, err := range []error{manifestErr, getErr, blobErr, tagsErr, pushErr} {
			if e := asError(t, err); strings.Contains(e.Error(), secret) || strings.Contains(e.Error(), "token-") {
				t.Errorf("%v", err)
			}
		}
		if asked < 5 {
			t.Errorf("%s: the other host was asked %d times", auth, asked)
		}
		other.Close()
	}
}

func FuzzAuthFile(f *testing.F) {
	f.Add(auths("https://index.docker.io/v1/", "ann", "r.example/team", "ben"))
	f.Add(`{"auths":{"a":{"auth":"!"}},"credHelpers":{"b/c":"x"},"credsStore":""}`)
	f.Fuzz(func(t *testing.T, text string) {
		file := parseAuthFile("f", []byte(text))
		file.store, file.helpers = "", nil // which would be run
		for _, key := range []string{"docker.io", "r.example/team/app"} {
			if _, err := file.get(context.Background(), key); err != nil && !strings.HasPrefix(err.Error(), "f ") {
				t.Errorf("%v", err)
			}
		}
	})
}
