package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// ErrNotLoggedIn is what Logout returns when there was nothing to forget.
var ErrNotLoggedIn = errors.New("not logged in")

// CredentialFunc gives the credential for a registry host, the zero Credential when there is none.
type CredentialFunc func(ctx context.Context, host string) (Credential, error)

// Credential is what proves an identity to a registry: user name and password, or an identity token.
type Credential struct {
	// Username and Password are those of the account. The password may be an access token.
	Username, Password string
	// IdentityToken is an OAuth2 refresh token; it takes the place of user name and password.
	IdentityToken string
}

// credentialError is a failure to find a credential. It names no secret.
type credentialError struct {
	what, hint string
	err        error
}

func (e *credentialError) Error() string { return e.what }
func (e *credentialError) Unwrap() error { return e.err }

// dockerConfig is Docker's config.json.
type dockerConfig struct {
	dir  string // empty: where Docker looks
	once sync.Once
	read credentials.Store // nil when there is no place for one
	err  error
}

// path returns where config.json is or would be; links are followed, so that writing keeps them.
func (d *dockerConfig) path() (string, error) {
	dir := d.dir
	if dir == "" {
		dir = os.Getenv("DOCKER_CONFIG")
	}
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find docker's config.json: %w", err)
		}
		dir = filepath.Join(home, ".docker")
	}
	path := filepath.Join(dir, "config.json")
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real, nil
	}
	return path, nil
}

// open reads the file as it is now.
func (d *dockerConfig) open(o credentials.StoreOptions) (*credentials.DynamicStore, error) {
	path, err := d.path()
	if err != nil {
		return nil, err
	}
	return credentials.NewStore(path, o)
}

// get returns the credential for a host; a machine without a home directory has none.
func (d *dockerConfig) get(ctx context.Context, host string) (auth.Credential, error) {
	d.once.Do(func() {
		if _, err := d.path(); err != nil {
			return
		}
		store, err := d.open(credentials.StoreOptions{})
		d.read, d.err = store, err
	})
	if d.err != nil || d.read == nil {
		return auth.EmptyCredential, d.failure(host, d.err)
	}
	cred, err := d.read.Get(ctx, credentials.ServerAddressFromRegistry(host))
	return cred, d.failure(host, err)
}

// failure words an error. Where it is about the file's content its text stays out: the entries are only base64, and the text may
// hold one that is decoded.
func (d *dockerConfig) failure(host string, err error) error {
	if err == nil {
		return nil
	}
	path, _ := d.path()
	what := "get the credential for " + nameHost(host)
	if strings.Contains(err.Error(), "invalid config format") { // oras exports no sentinel for it
		return &credentialError{what: what + ": " + path + " is damaged or has a malformed entry", hint: "mend or remove it, then log in again"}
	}
	return &credentialError{what: what, hint: "see credsStore and credHelpers in " + path, err: err}
}

// credential is what a challenge of the dialled host is answered with.
func (c *Client) credential(ctx context.Context, host string) (auth.Credential, error) {
	if c.options.Credentials == nil {
		cred, err := c.config.get(ctx, host)
		c.secrets.add(cred.Password, cred.RefreshToken, cred.AccessToken)
		return cred, err
	}
	own, err := c.options.Credentials(ctx, nameHost(host))
	if err != nil {
		return auth.EmptyCredential, &credentialError{what: "get the credential for " + nameHost(host), err: err}
	}
	c.secrets.add(own.Password, own.IdentityToken)
	return auth.Credential{Username: own.Username, Password: own.Password, RefreshToken: own.IdentityToken}, nil
}

// Login checks a user name and a password against the registry and stores them where Docker's config.json says: with the host's
// credential helper, in the credential store, else in the file itself. The warnings are for the user.
func (c *Client) Login(ctx context.Context, host, user, secret string) (warnings []string, err error) {
	host, err = registryHost(host)
	if err != nil {
		return nil, err
	}
	j := job{c: c, op: opLogin, repo: Repository{Host: host}}
	if user == "" || secret == "" {
		return nil, j.errorf("give both", "the user name or the password is empty")
	}
	if strings.Contains(user, ":") {
		return nil, j.errorf("check the user name", "the user name has a colon, which cannot be sent")
	}
	c.secrets.add(secret, base64.StdEncoding.EncodeToString([]byte(user+":"+secret)))
	cred := auth.Credential{Username: user, Password: secret}
	asked, err := j.tryCredential(ctx, cred)
	if err != nil {
		return nil, err
	}
	if !asked {
		warnings = append(warnings, host+" lets everybody in: the password was not checked")
	}
	if e, err := j.origin(ctx); err == nil && e.scheme == "http" && !isLoopback(host) {
		warnings = append(warnings, host+" speaks plain http: the password can be read on its way")
	}
	plain, err := c.storeCredential(ctx, host, cred)
	if err != nil {
		return warnings, j.transportError(ctx, err)
	}
	if plain != "" {
		warnings = append(warnings, "the password is stored unencrypted in "+plain+"; configure a credential helper to change that")
	}
	return warnings, nil
}

// tryCredential asks the registry for its API version with a credential, and reports whether it wanted one.
func (j job) tryCredential(ctx context.Context, cred auth.Credential) (asked bool, err error) {
	e, err := j.origin(ctx)
	if err != nil {
		return false, err
	}
	e.auth = j.c.authClient(e.server, func(context.Context, string) (auth.Credential, error) {
		asked = true
		return cred, nil
	}, nil)
	resp, err := j.sendTo(ctx, e, call{method: http.MethodGet})
	if err != nil {
		return false, err
	}
	return asked, resp.Body.Close()
}

// storeCredential stores a credential, and returns the file that now holds it in plain text, if one does.
func (c *Client) storeCredential(ctx context.Context, host string, cred auth.Credential) (plain string, err error) {
	key := credentials.ServerAddressFromRegistry(host)
	store, err := c.config.open(credentials.StoreOptions{DetectDefaultNativeStore: true})
	if err != nil {
		return "", c.config.failure(host, err)
	}
	err = store.Put(ctx, key, cred)
	if err == nil {
		return "", nil
	}
	if !errors.Is(err, credentials.ErrPlaintextPutDisabled) {
		return "", &credentialError{what: "store the credential", hint: "see credsStore and credHelpers in " + store.ConfigPath(), err: err}
	}
	store, err = c.config.open(credentials.StoreOptions{AllowPlaintextPut: true})
	if err != nil {
		return "", c.config.failure(host, err)
	}
	if err := store.Put(ctx, key, cred); err != nil {
		return "", &credentialError{what: "store the credential", err: err}
	}
	return store.ConfigPath(), nil
}

// Logout forgets the credential of a host, in all the spellings that its key may have. It returns ErrNotLoggedIn when there is none.
func (c *Client) Logout(ctx context.Context, host string) error {
	host, err := registryHost(host)
	if err != nil {
		return err
	}
	j := job{c: c, op: opLogout, repo: Repository{Host: host}}
	store, err := c.config.open(credentials.StoreOptions{})
	if err != nil {
		return j.transportError(ctx, c.config.failure(host, err))
	}
	keys := []string{credentials.ServerAddressFromRegistry(host)}
	if host != dockerHub {
		keys = append(keys, "https://"+host, "https://"+host+"/", "http://"+host, "https://"+host+"/v1/", "https://"+host+"/v2/")
	}
	found := false
	for _, key := range keys {
		cred, err := store.Get(ctx, key)
		if err == nil && cred == auth.EmptyCredential {
			continue
		}
		if err := store.Delete(ctx, key); err != nil {
			return j.transportError(ctx, &credentialError{what: "forget the credential", hint: "see " + store.ConfigPath(), err: err})
		}
		found = true
	}
	if !found {
		return ErrNotLoggedIn
	}
	return nil
}

// credentialKey says which of the stored credentials a repository's requests use.
func (c *Client) credentialKey(host, repository string) string { return host }

// credentialFor gives the credential of a key.
func (c *Client) credentialFor(key string) auth.CredentialFunc { return c.credential }
