package hosts

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// dockerHub is served by another host than the one that it is named by.
const (
	dockerHub     = "docker.io"
	dockerHubHost = "registry-1.docker.io"
)

// Config is what the files of this machine say. Its zero value says nothing. It is safe for concurrent use.
type Config struct {
	places Places

	once       sync.Once
	registries *registries
	err        error

	mu    sync.Mutex
	files map[string]read  // by host: what its hosts.toml says
	certs map[string]trust // by host: what certs.d has
}

type trust struct {
	tls TLS
	err error
}

type read struct {
	list []Endpoint
	file string
	err  error
}

// New returns the configuration that is in some places. They are read when they are needed.
func New(p Places) *Config { return &Config{places: p} }

func (c *Config) load() (*registries, error) {
	c.once.Do(func() { c.registries, c.err = c.places.readRegistries() })
	return c.registries, c.err
}

// Endpoints lists where a repository can be had, in the order in which they are to be asked; there is always one. reference is the tag or
// digest that the user has given, and may be empty, as the name may, for what is about a host alone.
func (c *Config) Endpoints(host, name, reference string, use Use) ([]Endpoint, error) {
	all, err := c.load()
	if err != nil {
		return nil, err
	}
	places, err := all.places(host, name, reference, use)
	if err != nil {
		return nil, err
	}
	var list []Endpoint
	for i, p := range places {
		servers, err := c.servers(p, use)
		if err != nil {
			return nil, err
		}
		for j, e := range servers {
			e.Mirror = i < len(places)-1 || j < len(servers)-1
			list = append(list, e)
		}
	}
	return c.suitable(list, host, use)
}

// suitable keeps what the use can be made of: of changes and lists, the one place where they belong.
func (c *Config) suitable(list []Endpoint, host string, use Use) ([]Endpoint, error) {
	switch use {
	case List:
		return list[len(list)-1:], nil
	case Push:
		for _, e := range list {
			if e.Can&CanPush != 0 {
				e.Mirror = false
				return []Endpoint{e}, nil
			}
		}
		file := c.fileOf(host)
		return nil, &Error{File: file, Message: "it names no server that may be pushed to", Hint: `add "push" to the capabilities of one of them`}
	}
	return list, nil
}

// places gives the names that registries.conf has for a repository.
func (r *registries) places(host, name, reference string, use Use) ([]Endpoint, error) {
	full := host
	if name != "" {
		full += "/" + name
	}
	digest := strings.Contains(reference, ":")
	rule, ok := r.find(withReference(full, reference, digest))
	if !ok {
		return []Endpoint{{Host: host, Name: name}}, nil
	}
	if rule.blocked {
		return nil, &Error{File: rule.file, Line: rule.line, Message: fmt.Sprintf("%s is blocked", rule.prefix), Hint: "blocked = true stands there"}
	}
	if use == Push || name == "" {
		return []Endpoint{{Host: host, Name: name, Insecure: rule.insecure}}, nil
	}
	var list []Endpoint
	for _, m := range rule.mirrors {
		if use == Pull && (digest && m.byDigest || !digest && m.byTag) {
			list = append(list, Endpoint{Host: rule.at(m.location, full), Insecure: m.insecure})
		}
	}
	list = append(list, Endpoint{Host: rule.at(rule.location, full), Insecure: rule.insecure})
	for i, e := range list {
		to := e.Host
		list[i].Host, list[i].Name, _ = strings.Cut(to, "/")
		if list[i].Name == "" || strings.ContainsAny(list[i].Name, ":@") {
			return nil, &Error{File: rule.file, Line: rule.line, Message: fmt.Sprintf("it makes %q of %s, which is no name of a repository", to, full)}
		}
	}
	return list, nil
}

func withReference(name, reference string, digest bool) string {
	switch {
	case reference == "" || !strings.Contains(name, "/"):
		return name
	case digest:
		return name + "@" + reference
	}
	return name + ":" + reference
}

// servers gives what a host's hosts.toml says, else the host itself, with the certificates that are there for it.
func (c *Config) servers(place Endpoint, use Use) ([]Endpoint, error) {
	list, err := c.hostsOf(place.Host)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		list = []Endpoint{{Can: canAll, Root: "/v2"}}
	}
	if place.Name == "" {
		list = list[len(list)-1:]
	}
	out := make([]Endpoint, 0, len(list))
	for i, e := range list {
		e.Name = place.Name
		if e.Host == "" {
			e.Host = place.Host
		}
		if e.Host != place.Host && (place.Host != dockerHub || e.Host != dockerHubHost) {
			e.For = place.Host
		}
		if i == len(list)-1 {
			e.Insecure = place.Insecure
		}
		certs, err := c.Certificates(e.Host)
		if err != nil {
			return nil, err
		}
		e.TLS = e.TLS.and(certs)
		out = append(out, e)
	}
	return out, nil
}

func (c *Config) hostsOf(host string) ([]Endpoint, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.files[host]; ok {
		return r.list, r.err
	}
	if c.files == nil {
		c.files = map[string]read{}
	}
	var r read
	if r.file, r.err = c.places.hostsFile(host); r.err == nil && r.file != "" {
		r.list, r.err = readHosts(r.file)
	}
	c.files[host] = r
	return r.list, r.err
}

func (c *Config) fileOf(host string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.files[host].file
}

// Certificates gives what certs.d has for a host, such as one that a registry has led to.
func (c *Config) Certificates(host string) (TLS, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.certs[host]; ok {
		return t.tls, t.err
	}
	if c.certs == nil {
		c.certs = map[string]trust{}
	}
	var t trust
	t.tls, t.err = c.places.certificates(host)
	c.certs[host] = t
	return t.tls, t.err
}

// ShortName lists the names that registries.conf gives a name without a host. ocibuild does not follow them, for a short name is
// Docker's; they are for hints.
func (c *Config) ShortName(name string) []string {
	all, err := c.load()
	if err != nil {
		return nil
	}
	if full, ok := all.aliases[name]; ok && full != "" {
		return []string{full}
	}
	var list []string
	for _, host := range all.unqualified {
		if host != dockerHub {
			list = append(list, host+"/"+name)
		}
	}
	return list
}

// CredentialHelpers lists the helpers that registries.conf names for all hosts, those that stand before and behind containers-auth.json.
func (c *Config) CredentialHelpers() []string {
	all, err := c.load()
	if err != nil {
		return nil
	}
	return all.helpers
}

func isAny(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
