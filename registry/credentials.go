package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// The variables that say where credentials are.
const (
	envAuthConfig = "DOCKER_AUTH_CONFIG" // holds what a config.json would
	envAuthFile   = "REGISTRY_AUTH_FILE" // names a file, as podman and skopeo have it
	envConfigDir  = "DOCKER_CONFIG"
)

// keyring finds credentials where other programs keep them: in the variable DOCKER_AUTH_CONFIG, the file REGISTRY_AUTH_FILE, Docker's
// config.json and podman's auth.json, and with the helpers that these and registries.conf name.
type keyring struct {
	dir     string // Docker's, if it is given: then nothing else counts
	getenv  func(string) string
	helpers func() []string // those of registries.conf

	once   sync.Once
	files  []*authFile
	denied string // a file that is there and cannot be read
}

// authFile is one place of credentials, as it was read.
type authFile struct {
	name    string // the file, or the variable
	entries map[string]json.RawMessage
	helpers map[string]helperEntry
	store   string // the helper for all hosts
	keys    []string
	err     error
}

// helperEntry is a helper and what it calls the host.
type helperEntry struct{ helper, server string }

// authKey makes host[/path] of a key in a file of credentials, which may be a URL.
func authKey(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, path, _ := strings.Cut(strings.Trim(key, "/"), "/")
	if path == "v1" || path == "v2" {
		path = ""
	}
	if host = nameHost(host); path == "" {
		return host
	}
	return host + "/" + path
}

// scopes lists the keys that may be for a repository, the longest first: host/a/b, host/a, host.
func scopes(key string) []string {
	list := []string{key}
	for i := strings.LastIndexByte(key, '/'); i > 0; i = strings.LastIndexByte(key, '/') {
		key = key[:i]
		list = append(list, key)
	}
	return list
}

// path returns where Docker's config.json is or would be; links are followed, so that writing keeps them.
func (k *keyring) path() (string, error) {
	dir := k.dir
	if dir == "" {
		dir = k.getenv(envConfigDir)
	}
	if dir == "" {
		home := k.getenv("HOME")
		if home == "" {
			return "", errors.New("find docker's config.json: $HOME is not set")
		}
		dir = filepath.Join(home, ".docker")
	}
	return followed(filepath.Join(dir, "config.json")), nil
}

func followed(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// loginPath returns the file that a login writes to: that which counts most.
func (k *keyring) loginPath() (path string, podman bool, err error) {
	if file := k.getenv(envAuthFile); file != "" && k.dir == "" {
		return followed(file), true, nil
	}
	path, err = k.path()
	return path, false, err
}

// paths lists the files, those that count most first.
func (k *keyring) paths() []string {
	var list []string
	add := func(path string, ok bool) {
		if ok {
			list = append(list, path)
		}
	}
	docker, err := k.path()
	if k.dir != "" {
		add(docker, err == nil)
		return list
	}
	own := k.getenv(envAuthFile)
	add(own, own != "")
	add(docker, err == nil)
	if own != "" {
		return list
	}
	runtime, home := k.getenv("XDG_RUNTIME_DIR"), k.getenv("HOME")
	add(filepath.Join(runtime, "containers/auth.json"), runtime != "")
	for _, uid := range userIDs() {
		add(fmt.Sprintf("/run/containers/%d/auth.json", uid), runtime == "")
	}
	config := k.getenv("XDG_CONFIG_HOME")
	if config == "" {
		config = filepath.Join(home, ".config")
	}
	add(filepath.Join(config, "containers/auth.json"), home != "" || k.getenv("XDG_CONFIG_HOME") != "")
	return list
}

// userIDs are the ids that the user has: in this user namespace, and outside of it.
func userIDs() []int {
	list := []int{os.Getuid()}
	text, err := os.ReadFile("/proc/self/uid_map")
	var inside, outside, n int
	if _, scanErr := fmt.Sscan(string(text), &inside, &outside, &n); err == nil && scanErr == nil && inside == list[0] && outside != inside {
		list = append(list, outside)
	}
	return list
}

// read reads all places, once.
func (k *keyring) read() []*authFile {
	k.once.Do(func() {
		if text := k.getenv(envAuthConfig); text != "" && k.dir == "" {
			k.files = append(k.files, parseAuthFile("$"+envAuthConfig, []byte(text)))
		}
		for _, path := range k.paths() {
			text, err := os.ReadFile(path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case errors.Is(err, fs.ErrPermission): // as docker does: what is public can be had nevertheless
				k.denied = path
			case err != nil:
				k.files = append(k.files, &authFile{name: path, err: &credentialError{what: "read credentials", err: err}})
			default:
				k.files = append(k.files, parseAuthFile(path, text))
			}
		}
	})
	return k.files
}

// parseAuthFile reads what a config.json or auth.json says of credentials. What is wrong with the text stays out of the error: the
// entries are only base64.
func parseAuthFile(name string, text []byte) *authFile {
	f := &authFile{name: name, entries: map[string]json.RawMessage{}, helpers: map[string]helperEntry{}}
	var doc struct {
		Auths   map[string]json.RawMessage `json:"auths"`
		Helpers map[string]string          `json:"credHelpers"`
		Store   string                     `json:"credsStore"`
	}
	if strings.TrimSpace(string(text)) == "" {
		return f
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		f.err = f.damaged("")
		return f
	}
	f.store = doc.Store
	f.keys = slices.Sorted(maps.Keys(doc.Auths))
	for _, key := range f.keys {
		if _, ok := f.entries[authKey(key)]; !ok || key == authKey(key) { // the plain spelling wins
			f.entries[authKey(key)] = doc.Auths[key]
		}
	}
	for key, helper := range doc.Helpers {
		f.helpers[authKey(key)] = helperEntry{helper, key}
	}
	return f
}

// hint tells of a file that may have had a credential.
func (k *keyring) hint() string {
	if k.read(); k.denied == "" {
		return ""
	}
	return " (" + k.denied + " may have a credential, and this user cannot read it)"
}

// damaged is the error for a place that cannot be understood.
func (f *authFile) damaged(key string) error {
	what := f.name + " is damaged"
	if key != "" {
		what = f.name + " has a malformed entry for " + key
	}
	hint := "mend or remove it, then log in again"
	if strings.HasPrefix(f.name, "$") {
		hint = `it holds JSON such as {"auths":{"registry.example.com":{"auth":"..."}}}`
	}
	return &credentialError{what: what, hint: hint}
}

// get returns the credential of host[/path], the zero one if there is none.
func (f *authFile) get(ctx context.Context, key string) (auth.Credential, error) {
	if f.err != nil {
		return auth.EmptyCredential, f.err
	}
	for _, scope := range scopes(key) {
		cred, err := f.exactly(ctx, scope)
		if err != nil || cred != auth.EmptyCredential {
			return cred, err
		}
	}
	return auth.EmptyCredential, nil
}

// exactly returns the credential that is stored for a key and for no part of it. Helpers win over what stands in the file.
func (f *authFile) exactly(ctx context.Context, scope string) (auth.Credential, error) {
	ask, ok := f.helpers[scope]
	if !ok && f.store != "" && !strings.Contains(scope, "/") {
		ask, ok = helperEntry{f.store, credentials.ServerAddressFromRegistry(scope)}, true
	}
	if ok {
		cred, err := ask.get(ctx)
		if err != nil {
			return cred, &credentialError{what: "get the credential for " + scope + " from docker-credential-" + printable(ask.helper), hint: "see credsStore and credHelpers in " + f.name, err: err}
		}
		if cred != auth.EmptyCredential {
			return cred, nil
		}
	}
	return f.entry(scope)
}

func (e helperEntry) get(ctx context.Context) (auth.Credential, error) {
	if strings.ContainsAny(e.helper, "/\x00") {
		return auth.EmptyCredential, fmt.Errorf("%q is no name of a helper", printable(e.helper))
	}
	return credentials.NewNativeStore(e.helper).Get(ctx, e.server)
}

// entry decodes an entry of the file.
func (f *authFile) entry(scope string) (auth.Credential, error) {
	raw, ok := f.entries[scope]
	if !ok {
		return auth.EmptyCredential, nil
	}
	text := append(append([]byte(`{"auths":{"it":`), raw...), "}}"...)
	store, err := credentials.NewMemoryStoreFromDockerConfig(text)
	if err != nil {
		return auth.EmptyCredential, f.damaged(scope)
	}
	cred, err := store.Get(context.Background(), "it")
	cred.Password = strings.Trim(cred.Password, "\x00") // as docker does
	return cred, err
}

// get returns the credential for host[/path]: that of the first place that has one. What is wrong with a place counts only if no
// other has one.
func (k *keyring) get(ctx context.Context, key string) (auth.Credential, error) {
	var first error
	for _, f := range k.sources() {
		cred, err := f.get(ctx, key)
		if err == nil && cred != auth.EmptyCredential {
			return cred, nil
		}
		if first == nil {
			first = err
		}
	}
	return auth.EmptyCredential, first
}

// containersFiles stands for files in the list of helpers of registries.conf.
const containersFiles = "containers-auth.json"

// sources are the files, and before and behind them the helpers that registries.conf names.
func (k *keyring) sources() []*authFile {
	files := k.read()
	if k.helpers == nil || k.dir != "" {
		return files
	}
	var before, after []*authFile
	list := k.helpers()
	at := slices.Index(list, containersFiles)
	for i, helper := range list {
		if helper == containersFiles {
			continue
		}
		f := &authFile{name: "registries.conf", store: helper}
		if at < 0 || i < at {
			before = append(before, f)
		} else {
			after = append(after, f)
		}
	}
	return append(append(before, files...), after...)
}

// scope returns the key whose credential a repository's requests use: a part of its name that is in one of the files, else the host.
func (k *keyring) scope(host, repository string) string {
	host = nameHost(host)
	if repository == "" {
		return host
	}
	for _, f := range k.read() {
		for _, scope := range scopes(host + "/" + repository) {
			_, entry := f.entries[scope]
			_, helper := f.helpers[scope]
			if scope != host && (entry || helper) {
				return scope
			}
		}
	}
	return host
}

// holder names the place that has a credential for exactly this key, empty if none has.
func (k *keyring) holder(ctx context.Context, key string) (*authFile, bool) {
	for _, f := range k.read() {
		if cred, err := f.exactly(ctx, key); err == nil && cred != auth.EmptyCredential {
			return f, true
		}
	}
	return nil, false
}
