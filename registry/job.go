package registry

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// job is one thing that a caller has asked for, as its errors name it.
type job struct {
	c         *Client
	op        string
	repo      Repository
	reference string
	at        string // where it is asked, if not at the registry itself
}

const (
	// opPush wants more than to read, and, as opTags, may go without a reference.
	opPush   = "push"
	opDelete = "delete"
	opPing   = "ping"
	opLogin  = "login"
	opLogout = "logout"
)

// newJob checks the names, which become parts of URLs.
func (c *Client) newJob(op string, repo Repository, reference string) (job, error) {
	j := job{c: c, op: op, repo: Repository{Host: nameHost(repo.Host), Name: repo.Name}, reference: reference}
	switch {
	case !hostPattern().MatchString(repo.Host):
		return j, j.errorf("give host or host:port", "%q is no registry host", repo.Host)
	case !repositoryPattern().MatchString(repo.Name) || len(repo.Name) > 255:
		return j, j.errorf("check the name", "%q is no repository name", repo.Name)
	case reference == "" && op != opPush && op != opTags:
		return j, j.errorf("add a tag or a digest to the name", "there is no reference")
	case reference != "" && !validReference(reference):
		return j, j.errorf("check the tag", "%q is neither a tag nor a digest", reference)
	}
	return j, nil
}

func validReference(s string) bool {
	if strings.Contains(s, ":") {
		return digest.Digest(s).Validate() == nil
	}
	return tagPattern().MatchString(s)
}

// call is one request to a registry.
type call struct {
	method string
	path   string   // below the repository, or the host where the job has none
	url    *url.URL // in its place: where the registry said
	query  url.Values
	header http.Header
	// body gives the bytes to send, anew each time; size says how many.
	body func() (io.ReadCloser, error)
	size int64
	// scopes are asked of the token service beside the one that every request of the job has.
	scopes []string
	// want lists the statuses that are no error; none means 200.
	want []int
}

// name returns the path of something in a repository.
func (j job) name(parts ...string) string { return strings.Join(parts, "/") }

// send carries out a call at the first endpoint that has what it asks for. The caller closes the answer's body.
func (j job) send(ctx context.Context, r call) (*http.Response, error) {
	resp, err := j.ask(ctx, r)
	return j.wanted(r, resp, err)
}

// sendTo carries out a call at one endpoint.
func (j job) sendTo(ctx context.Context, e *endpoint, r call) (*http.Response, error) {
	resp, err := j.answer(ctx, e, r)
	return j.wanted(r, resp, err)
}

// wanted makes an error of an answer that is none of those wanted.
func (j job) wanted(r call, resp *http.Response, err error) (*http.Response, error) {
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK && len(r.want) == 0 || slices.Contains(r.want, resp.StatusCode) {
		return resp, nil
	}
	return nil, j.answerError(resp)
}

// answer returns whatever an endpoint answers.
func (j job) answer(ctx context.Context, e *endpoint, r call) (*http.Response, error) {
	if e.host != dialHost(j.repo.Host) {
		j.at = nameHost(e.host)
	}
	ctx = context.WithValue(ctx, endpointKey{}, e)
	j.c.settle(ctx, e)
	req, err := r.request(j.withScopes(ctx, e, r.scopes), e)
	if err != nil {
		return nil, err
	}
	resp, err := e.auth.Do(req)
	if err != nil {
		return nil, j.transportError(ctx, err)
	}
	return resp, nil
}

// withScopes hints at what the token of a request must allow, so that one token does for a whole job.
func (j job) withScopes(ctx context.Context, e *endpoint, more []string) context.Context {
	if j.repo.Name == "" {
		if len(more) > 0 {
			ctx = auth.WithScopesForHost(ctx, e.host, more...)
		}
		return ctx
	}
	actions := []string{auth.ActionPull}
	switch j.op {
	case opPush:
		actions = append(actions, auth.ActionPush)
	case opDelete:
		actions = append(actions, auth.ActionDelete)
	}
	scopes := append([]string{auth.ScopeRepository(e.Name, actions...)}, more...)
	return auth.WithScopesForHost(ctx, e.host, scopes...)
}

func (r call) request(ctx context.Context, e *endpoint) (*http.Request, error) {
	u := r.url
	if u == nil {
		query := r.query
		if e.For != "" {
			query = url.Values{"ns": {e.For}}
			maps.Copy(query, r.query)
		}
		u = &url.URL{Scheme: e.scheme, Host: e.host, Path: e.path(r.path), RawQuery: query.Encode()}
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if r.body == nil {
		return req, nil
	}
	req.ContentLength = r.size
	if r.size == 0 {
		req.Body = http.NoBody
		return req, nil
	}
	req.GetBody = r.body
	req.Body, err = r.body()
	return req, err
}
