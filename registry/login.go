package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

// Error says what failed; the text of the cause, which might hold a secret, is not added.
func (e *credentialError) Error() string { return e.what }

// Unwrap gives the cause.
func (e *credentialError) Unwrap() error { return e.err }

// credentialKey says which of the stored credentials a repository's requests use.
func (c *Client) credentialKey(host, repository string) string {
	if c.options.Credentials != nil {
		return nameHost(host)
	}
	return c.keys.scope(host, repository)
}

// credentialFor gives what challenges are answered with that are about what a key is for.
func (c *Client) credentialFor(key string) auth.CredentialFunc {
	return func(ctx context.Context, _ string) (auth.Credential, error) { return c.credential(ctx, key) }
}

// credential gets the credential of a host[/path].
func (c *Client) credential(ctx context.Context, key string) (auth.Credential, error) {
	if c.options.Credentials == nil {
		cred, err := c.keys.get(ctx, key)
		c.secrets.add(cred.Password, cred.RefreshToken, cred.AccessToken)
		return cred, err
	}
	own, err := c.options.Credentials(ctx, key)
	if err != nil {
		return auth.EmptyCredential, &credentialError{what: "get the credential for " + key, err: err}
	}
	c.secrets.add(own.Password, own.IdentityToken)
	return auth.Credential{Username: own.Username, Password: own.Password, RefreshToken: own.IdentityToken}, nil
}

// Login checks a user name and a password against the registry and stores them: in the file that $REGISTRY_AUTH_FILE names, else where
// Docker's config.json says, which is the host's credential helper, the credential store, or the file itself. target is a host, or
// a host and the beginning of the names that the credential is for. The warnings are for the user.
func (c *Client) Login(ctx context.Context, target, user, secret string) (warnings []string, err error) {
	host, key, err := loginTarget(target)
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
	plain, err := c.storeCredential(ctx, key, cred)
	if err != nil {
		return warnings, j.transportError(ctx, err)
	}
	if plain != "" {
		warnings = append(warnings, "the password is stored unencrypted in "+plain+"; configure a credential helper to change that")
	}
	if f, ok := c.keys.holder(ctx, key); ok && strings.HasPrefix(f.name, "$") {
		warnings = append(warnings, f.name+" has another credential for "+key+", which counts more than the stored one")
	}
	return warnings, nil
}

// loginTarget splits what is given to login: a host, host/path, or the URL of a registry's API.
func loginTarget(target string) (host, key string, err error) {
	key = authKey(target)
	host, path, scoped := strings.Cut(key, "/")
	if host, err = registryHost(host); err != nil {
		return "", "", err
	}
	if scoped && !repositoryPattern().MatchString(path) {
		e := (job{op: opLogin, repo: Repository{Host: host}}).errorf("give a host, or a host and the beginning of a name: ghcr.io/team", "%q is no name of repositories", path)
		return "", "", e
	}
	return host, key, nil
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
func (c *Client) storeCredential(ctx context.Context, key string, cred auth.Credential) (plain string, err error) {
	path, podman, err := c.keys.loginPath()
	if err != nil {
		return "", &credentialError{what: "store the credential: " + err.Error(), hint: "set $DOCKER_CONFIG to a directory"}
	}
	store, err := openKeys(path, credentials.StoreOptions{DetectDefaultNativeStore: !podman && !strings.Contains(key, "/")})
	if err != nil {
		return "", err
	}
	server := key
	if !podman {
		server = credentials.ServerAddressFromRegistry(key)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", &credentialError{what: "store the credential", err: err}
	}
	if f := parseAuthFile(path, readOrNothing(path)); strings.Contains(key, "/") && f.store != "" && f.helpers[key].helper == "" {
		return "", &credentialError{
			what: "the credential store of " + path + " keeps credentials of whole hosts only",
			hint: "log in to the host alone, or set $REGISTRY_AUTH_FILE to a file of its own",
		}
	}
	if err = store.Put(ctx, server, cred); err == nil {
		return "", nil
	}
	if !errors.Is(err, credentials.ErrPlaintextPutDisabled) {
		return "", &credentialError{what: "store the credential", hint: "see credsStore and credHelpers in " + path, err: err}
	}
	if store, err = openKeys(path, credentials.StoreOptions{AllowPlaintextPut: true}); err != nil {
		return "", err
	}
	if err := store.Put(ctx, server, cred); err != nil {
		return "", &credentialError{what: "store the credential", err: err}
	}
	return path, nil
}

func readOrNothing(path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return text
}

// openKeys opens a file of credentials for changes.
func openKeys(path string, o credentials.StoreOptions) (*credentials.DynamicStore, error) {
	store, err := credentials.NewStore(path, o)
	switch {
	case err == nil:
		return store, nil
	case strings.Contains(err.Error(), "invalid config format"): // oras exports no sentinel for it, and its text may hold a secret
		return nil, (&authFile{name: path}).damaged("")
	}
	return nil, &credentialError{what: "open " + path, err: err}
}

// Logout forgets the credential of a host or host/path where a login would store it, in all the spellings that its key may have. It
// returns ErrNotLoggedIn when there is none. The warnings are for the user.
func (c *Client) Logout(ctx context.Context, target string) (warnings []string, err error) {
	host, key, err := loginTarget(target)
	if err != nil {
		return nil, err
	}
	j := job{c: c, op: opLogout, repo: Repository{Host: host}}
	path, _, err := c.keys.loginPath()
	if err != nil {
		return nil, ErrNotLoggedIn
	}
	found, err := forget(ctx, path, key)
	if err != nil {
		return nil, j.transportError(ctx, err)
	}
	rest := &keyring{dir: c.keys.dir, getenv: c.keys.getenv} // which reads anew
	if f, ok := rest.holder(ctx, key); ok {
		warnings = append(warnings, f.name+" still has a credential for "+key)
	}
	if !found {
		return warnings, ErrNotLoggedIn
	}
	return warnings, nil
}

// forget removes all entries of a file that are for a key.
func forget(ctx context.Context, path, key string) (found bool, err error) {
	store, err := openKeys(path, credentials.StoreOptions{})
	if err != nil {
		return false, err
	}
	f := parseAuthFile(path, readOrNothing(path))
	for _, server := range f.spellings(key) {
		there := slices.Contains(f.keys, server)
		if f.store != "" || f.helpers[key].helper != "" {
			cred, err := store.Get(ctx, server)
			there = err != nil || cred != auth.EmptyCredential
		}
		if !there {
			continue
		}
		if err := store.Delete(ctx, server); err != nil {
			return found, &credentialError{what: "forget the credential", hint: "see " + path, err: err}
		}
		found = true
	}
	return found, nil
}

// spellings lists the keys by which a credential may be stored.
func (f *authFile) spellings(key string) []string {
	list := []string{credentials.ServerAddressFromRegistry(key)}
	for _, stored := range append(f.keys, f.helpers[key].server) {
		if stored != "" && authKey(stored) == key && !slices.Contains(list, stored) {
			list = append(list, stored)
		}
	}
	if key == dockerHub || strings.Contains(key, "/") {
		return list
	}
	for _, other := range []string{"https://" + key, "https://" + key + "/", "http://" + key, "https://" + key + "/v1/", "https://" + key + "/v2/"} {
		if !slices.Contains(list, other) {
			list = append(list, other)
		}
	}
	return list
}
