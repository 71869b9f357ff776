package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// tokenServer gives out tokens that a real registry believes: to ann for everything, to ben for reading, to strangers for reading what is
// below public.
type tokenServer struct {
	*httptest.Server
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert []byte

	mu    sync.Mutex
	asked []string // "METHOD user scope scope"
}

func newTokenServer(t *testing.T) *tokenServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tokens"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s := &tokenServer{t: t, key: key, cert: cert}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

// config is what a registry is to be told of the server.
func (s *tokenServer) config(dir string) string {
	bundle := filepath.Join(dir, "tokens.crt")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert}), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("auth:\n  token:\n    realm: %s/token\n    service: test\n    issuer: tester\n    rootcertbundle: %s\n", s.URL, bundle)
}

func (s *tokenServer) serve(w http.ResponseWriter, r *http.Request) {
	user, password, basic := r.BasicAuth()
	scopes := r.URL.Query()["scope"]
	known := map[string]string{"ann": secret, "ben": secret}
	switch {
	case r.Method == http.MethodPost:
		_ = r.ParseForm()
		scopes = strings.Fields(r.Form.Get("scope"))
		user, _ = strings.CutSuffix(r.Form.Get("refresh_token"), "-identity")
		if known[user] == "" || r.Form.Get("grant_type") != "refresh_token" {
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "the refresh token is none of ours")
			return
		}
	case basic && known[user] != password:
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	s.mu.Lock()
	s.asked = append(s.asked, strings.TrimSpace(r.Method+" "+user+" "+strings.Join(scopes, " ")))
	s.mu.Unlock()
	token := s.sign(map[string]any{
		"iss": "tester", "sub": user, "aud": "test", "jti": fmt.Sprint(time.Now().UnixNano()), "access": granted(user, scopes),
		"exp": time.Now().Add(time.Hour).Unix(), "nbf": time.Now().Add(-time.Hour).Unix(), "iat": time.Now().Unix(),
	})
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "expires_in": 300})
}

// granted keeps of what was asked for what a user may do.
func granted(user string, scopes []string) []map[string]any {
	list := []map[string]any{}
	for _, scope := range scopes {
		parts := strings.SplitN(scope, ":", 3)
		actions := slices.DeleteFunc(strings.Split(parts[2], ","), func(action string) bool {
			return user != "ann" && (action != "pull" || user == "" && !strings.HasPrefix(parts[1], "public/"))
		})
		list = append(list, map[string]any{"type": parts[0], "name": parts[1], "actions": actions})
	}
	return list
}

func (s *tokenServer) sign(claims map[string]any) string {
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			s.t.Error(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	text := part(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.cert)}}) + "." + part(claims)
	sum := sha256.Sum256([]byte(text))
	a, b, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		s.t.Error(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(append(a.FillBytes(make([]byte, 32)), b.FillBytes(make([]byte, 32))...))
}

// scopesAsked are the scopes that a user has asked for, each once.
func (s *tokenServer) scopesAsked(user string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, line := range s.asked {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[1] == user {
			list = append(list, fields[2:]...)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// TestTokenServer pushes to, reads from and deletes at a registry that wants tokens of a server.
func TestTokenServer(t *testing.T) { eachRegistry(t, testTokenServer) }

func testTokenServer(t *testing.T, impl implementation) {
	t.Setenv("REGISTRY_STORAGE_DELETE_ENABLED", "true")
	tokens, ctx, have := newTokenServer(t), context.Background(), newStore()
	host := impl.startWith(t, tokens.config(t.TempDir()))
	repo := func(name string) Repository { return Repository{Host: host, Name: name} }
	desc := have.image(amd64, 1000, 2000)
	ann := newClient(t, Options{Credentials: static("ann", secret)})
	for _, name := range []string{"private/app", "public/app"} {
		if _, err := ann.Push(ctx, PushRequest{Repo: repo(name), Reference: "v1", Descriptor: desc}, have); err != nil {
			t.Fatal(err)
		}
	}
	pull := func(c *testClient, name string) error {
		_, err := c.Pull(ctx, PullRequest{Repo: repo(name), Reference: "v1", Platforms: only(amd64)}, newStore())
		return err
	}
	t.Run("anonymous", func(t *testing.T) {
		c := newClient(t, Options{})
		if err := pull(c, "public/app"); err != nil {
			t.Error(err)
		}
		if e := asError(t, pull(c, "private/app")); e.Status != http.StatusUnauthorized || !strings.Contains(e.Hint, "ocibuild login "+host) {
			t.Errorf("got %v", e)
		}
	})
	t.Run("who may only read", func(t *testing.T) {
		c := newClient(t, Options{Credentials: static("ben", secret)})
		if err := pull(c, "private/app"); err != nil {
			t.Error(err)
		}
		_, err := c.Push(ctx, PushRequest{Repo: repo("private/app"), Reference: "v2", Descriptor: have.image(amd64, 5)}, have)
		if e := asError(t, err); e.Status != http.StatusUnauthorized || !strings.Contains(e.Hint, "with an account that may push there") {
			t.Errorf("got %v", err)
		}
		if got := strings.Join(tokens.scopesAsked("ben"), " "); !strings.HasPrefix(got, "repository:private/app:pull") {
			t.Errorf("asked for %s", got)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		err := pull(newClient(t, Options{Credentials: static("ann", "wrong-secret")}), "private/app")
		if e := asError(t, err); !strings.Contains(e.Error(), "incorrect username or password") || strings.Contains(e.Error(), "wrong-secret") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("identity token", func(t *testing.T) {
		c := newClient(t, Options{Credentials: func(context.Context, string) (Credential, error) {
			return Credential{IdentityToken: "ann-identity"}, nil
		}})
		if _, err := c.Push(ctx, PushRequest{Repo: repo("private/two"), Reference: "v1", Descriptor: desc, MountFrom: []Repository{repo("private/app")}}, have); err != nil {
			t.Fatal(err)
		}
		if !c.noted(NoteMounted) {
			t.Error("nothing was mounted, though the tokens allow it")
		}
		c = newClient(t, Options{Credentials: func(context.Context, string) (Credential, error) {
			return Credential{IdentityToken: "eve-identity"}, nil
		}})
		if e := asError(t, pull(c, "private/app")); e.Status != http.StatusUnauthorized || strings.Contains(e.Error(), "eve-identity") {
			t.Errorf("got %v", e)
		}
	})
	t.Run("copy, list, delete", func(t *testing.T) {
		got, err := ann.Copy(ctx, CopyRequest{From: repo("private/app"), Reference: "v1", To: repo("private/copy"), Tag: "v1"})
		if err != nil || got.Digest != desc.Digest {
			t.Fatalf("%v %v", got, err)
		}
		if names, err := collect(ann.Catalog(ctx, host)); err != nil || !strings.Contains(names, "private/copy") {
			t.Errorf("%s %v", names, err)
		}
		if _, err := ann.Delete(ctx, repo("private/copy"), "v1", false); err != nil {
			t.Error(err)
		}
		asked := tokens.scopesAsked("ann")
		for _, want := range []string{"registry:catalog:*", "repository:private/app:pull,push"} {
			if !slices.Contains(asked, want) {
				t.Errorf("%s is not in %q", want, asked)
			}
		}
		if !slices.ContainsFunc(asked, func(s string) bool {
			return strings.HasPrefix(s, "repository:private/copy:") && strings.Contains(s, "delete")
		}) {
			t.Errorf("nothing was asked for the deletion: %q", asked)
		}
	})
	t.Run("nobody may delete but ann", func(t *testing.T) {
		_, err := newClient(t, Options{Credentials: static("ben", secret)}).Delete(ctx, repo("private/app"), desc.Digest.String(), false)
		if e := asError(t, err); e.Status != http.StatusUnauthorized {
			t.Errorf("got %v", err)
		}
	})
}
