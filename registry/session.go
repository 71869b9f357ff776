package registry

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
)

// abandon tells the registry that a session will not be used. It tidies up by itself if that does not arrive.
func (u *upload) abandon(ctx context.Context, session *url.URL) {
	e, err := u.j.origin(ctx)
	if err != nil {
		return
	}
	if resp, err := u.j.answer(withoutRetry(ctx), e, call{method: http.MethodDelete, url: session}); err == nil {
		discard(resp)
	}
}

// begin opens a session.
func (u *upload) begin(ctx context.Context, e *endpoint) (*url.URL, error) {
	resp, err := u.j.sendTo(ctx, e, call{method: http.MethodPost, path: u.j.name("blobs", "uploads", ""), want: []int{http.StatusAccepted}})
	if err != nil {
		return nil, err
	}
	defer discard(resp)
	return u.location(e, resp)
}

// location returns where to put the bytes: absolute, or relative to what was asked. A registry behind a proxy that ends TLS may give its
// own address with http: then the scheme that works is kept.
func (u *upload) location(e *endpoint, resp *http.Response) (*url.URL, error) {
	to, err := resp.Location()
	if err != nil {
		return nil, u.j.errorf("", "the registry gives no place for the upload")
	}
	return u.acceptable(e, to)
}

// acceptable returns the place to which an upload may go.
func (u *upload) acceptable(e *endpoint, to *url.URL) (*url.URL, error) {
	if to.Scheme == e.scheme || to.Scheme == "https" {
		return to, nil
	}
	own := &url.URL{Host: e.host}
	if to.Scheme == "http" && strings.EqualFold(to.Hostname(), own.Hostname()) && (to.Port() == own.Port() || to.Port() == "80" || to.Port() == "") {
		moved := *to
		moved.Scheme, moved.Host = e.scheme, e.host
		return &moved, nil
	}
	if to.Scheme == "http" && u.j.c.insecure(to.Host) {
		return to, nil
	}
	return nil, u.j.errorf("its configured address must be an https one", "the registry sends the upload to %s", redactURLs(to.String()))
}

// finishing is where the end of an upload goes.
func finishing(session *url.URL, d digest.Digest) *url.URL {
	query := session.Query()
	query.Set("digest", d.String())
	put := *session
	put.RawQuery = query.Encode()
	return &put
}
