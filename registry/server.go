package registry

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ocibuild/ocibuild/registry/hosts"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// server is a host as it is spoken to: the same for all endpoints that say the same of it.
type server struct {
	c         *Client
	host      string
	header    http.Header
	insecure  bool // it may speak plain http and show any certificate
	base      http.RoundTripper
	transport http.RoundTripper // with retries
	trouble   atomic.Bool       // it is asked after others that have the same
	absent    sync.Map          // the repositories of which it lacked a manifest: it is asked after others for what is in them

	mu      sync.Mutex
	scheme  string                  // "" until it is settled
	clients map[string]*auth.Client // by the key of the credential that they use
}

// secretHeader are the names of headers that are likely to hold what must not be shown.
var secretHeader = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)auth|cookie|key|pass|secret|token`) })

// reach returns an endpoint for what the configuration says of one. Its scheme is not settled.
func (c *Client) reach(p hosts.Endpoint) (*endpoint, error) {
	host := dialHost(p.Host)
	if c.insecure(p.Host) || c.insecure(host) {
		p.Insecure = true
	}
	s, err := c.server(host, p)
	if err != nil {
		return nil, err
	}
	return &endpoint{Endpoint: p, scheme: p.Scheme, host: host, server: s, auth: s.client(p.Name)}, nil
}

// server returns the server of an endpoint.
func (c *Client) server(host string, p hosts.Endpoint) (*server, error) {
	if p.Insecure {
		p.TLS.SkipVerify = true
	}
	settings := fmt.Sprintf("%q %q %v %s", p.TLS.CAs, p.TLS.Pairs, p.TLS.SkipVerify, p.DialTimeout)
	key := fmt.Sprintf("%s %s %v %v %s", host, p.Scheme, p.Insecure, p.Header, settings)
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.servers[key]; ok {
		return s, nil
	}
	base, ok := c.transports[settings]
	if !ok {
		conf, err := p.TLS.Config()
		if err != nil {
			return nil, err
		}
		base = c.newTransport(conf, p.DialTimeout)
		c.transports[settings] = base
	}
	for name, values := range p.Header {
		if secretHeader().MatchString(name) {
			c.secrets.add(values...)
		}
	}
	s := &server{c: c, host: host, header: p.Header, insecure: p.Insecure, base: base, scheme: p.Scheme, clients: map[string]*auth.Client{}}
	s.transport = &retryTransport{base: s, retry: c.retry}
	c.servers[key] = s
	return s, nil
}

// RoundTrip sends a request. What is configured for the host, certificates and headers, is for the host alone: where a redirect leads
// elsewhere, what is configured for that place counts.
func (s *server) RoundTrip(req *http.Request) (*http.Response, error) {
	if !strings.EqualFold(req.URL.Host, s.host) {
		other, err := s.c.elsewhere(req.URL.Host)
		if err != nil {
			return nil, err
		}
		return other.RoundTrip(req)
	}
	if len(s.header) > 0 {
		req = req.Clone(req.Context())
		for name, values := range s.header {
			req.Header[name] = values
		}
	}
	return s.base.RoundTrip(req)
}

// elsewhere returns how to reach a host that a registry has led to, and whose place in the configuration is that of its certificates.
func (c *Client) elsewhere(host string) (http.RoundTripper, error) {
	conf, err := c.places.Certificates(host)
	if err != nil {
		return nil, err
	}
	s, err := c.server(host, hosts.Endpoint{TLS: conf, Insecure: c.insecure(host)})
	if err != nil {
		return nil, err
	}
	return s.base, nil
}

// client returns what answers the challenges that are about a repository.
func (s *server) client(repository string) *auth.Client {
	key := s.c.credentialKey(s.host, repository)
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.clients[key]
	if !ok {
		a = s.c.authClient(s, s.c.credentialFor(key), auth.NewCache())
		s.clients[key] = a
	}
	return a
}
