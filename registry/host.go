package registry

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"

	"oras.land/oras-go/v2/registry/remote/auth"
)

const (
	dockerHub     = "docker.io"
	dockerHubHost = "registry-1.docker.io"
	maxRedirects  = 10
)

var (
	hostPattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)
	})
	repositoryPattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	})
	tagPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`) })
)

// dialHost returns the host that serves the registry of that name.
func dialHost(host string) string {
	if host == dockerHub || host == "index.docker.io" {
		return dockerHubHost
	}
	return host
}

// nameHost undoes dialHost.
func nameHost(host string) string {
	if host == dockerHubHost || host == "index.docker.io" {
		return dockerHub
	}
	return host
}

// registryHost reads the host out of what a user may give to login: a host, or a URL of a registry's API.
func registryHost(s string) (string, error) {
	host := strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	host, path, _ := strings.Cut(host, "/")
	if path = strings.Trim(path, "/"); path != "" && path != "v1" && path != "v2" {
		return "", &Error{Op: "find registry", Host: host, Message: fmt.Sprintf("%q has a path", s), Hint: "give the host alone: " + host}
	}
	if !hostPattern().MatchString(host) {
		return "", &Error{Op: "find registry", Host: host, Message: fmt.Sprintf("%q is no registry host", s), Hint: "give host or host:port"}
	}
	return nameHost(host), nil
}

// isLoopback reports whether a host[:port] is this machine.
func isLoopback(host string) bool {
	name := hostname(host)
	if strings.EqualFold(name, "localhost") || strings.HasSuffix(strings.ToLower(name), ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback()
}

// hostname returns a host[:port] without its port and brackets.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// insecure reports whether the user has allowed the host to go without a valid certificate.
func (c *Client) insecure(host string) bool {
	for _, entry := range c.options.Insecure {
		if strings.EqualFold(entry, host) || strings.EqualFold(strings.Trim(entry, "[]"), hostname(host)) {
			return true
		}
	}
	return false
}

// settle finds out which scheme an endpoint speaks. That is asked once, and only where there is a choice.
func (c *Client) settle(ctx context.Context, e *endpoint) {
	s := e.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scheme == "" {
		scheme, sure := s.ask(ctx)
		if !sure {
			e.scheme = scheme
			return
		}
		s.scheme = scheme
	}
	e.scheme = s.scheme
}

// ask finds out how a server wants to be spoken to. It is not sure when the server gives no answer; the request that follows then
// fails with the reason, or is retried.
func (s *server) ask(ctx context.Context) (scheme string, sure bool) {
	var order []string
	switch {
	case s.insecure:
		order = []string{"https", "http"}
	case isLoopback(s.host):
		order = []string{"http", "https"}
	default:
		return "https", true
	}
	for _, scheme := range order {
		switch s.speaks(ctx, scheme) {
		case scheme:
			return scheme, true
		case "https":
			return "https", true // whatever its certificate is worth: the request that follows will tell
		}
	}
	return order[0], false
}

// speaks asks the server for its API version in a scheme, without credentials and without retries. It returns the scheme that the
// answer speaks for, "" if there is none.
func (s *server) speaks(ctx context.Context, scheme string) string {
	req, err := http.NewRequestWithContext(withoutRetry(ctx), http.MethodGet, scheme+"://"+s.host+"/v2/", nil)
	if err != nil {
		return ""
	}
	req.Header.Set("User-Agent", s.c.options.UserAgent)
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	if scheme == "http" && resp.StatusCode == http.StatusBadRequest {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		if strings.Contains(string(text), "HTTPS") { // what Go's and nginx's TLS listeners say to plain http
			return "https"
		}
	}
	return scheme
}

// authClient returns a client that answers the challenges of one server.
func (c *Client) authClient(s *server, credential auth.CredentialFunc, cache auth.Cache) *auth.Client {
	a := &auth.Client{
		Client:     &http.Client{Transport: s.transport, CheckRedirect: c.checkRedirect},
		Header:     http.Header{"User-Agent": {c.options.UserAgent}},
		Credential: credential,
		ClientID:   defaultUserAgent,
	}
	if cache != nil {
		a.Cache = &notingCache{Cache: cache, secrets: &c.secrets}
	}
	if isLoopback(s.host) {
		a.BlockedRealmPrefixes = []netip.Prefix{} // its token service may well be on this machine too
	}
	return a
}

// checkRedirect keeps redirects few and lets none leave https, but for hosts that may be insecure.
func (c *Client) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("stop after %d redirects", maxRedirects)
	}
	from := via[len(via)-1].URL
	if from.Scheme == "https" && req.URL.Scheme == "http" && !c.insecure(req.URL.Host) {
		return fmt.Errorf("refuse a redirect from https to plain http at %s", req.URL.Host)
	}
	return nil
}
