package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// sourceError is a failure to read what is to be uploaded: none of the registry's.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// upload is a blob that a repository is to have.
type upload struct {
	j    job
	desc ocispec.Descriptor
	// open gives the bytes from the start, once for each attempt.
	open func(context.Context) (io.ReadCloser, error)
	// mountFrom lists repositories of the same host that may have the blob.
	mountFrom []Repository

	mu     sync.Mutex
	failed error // the first error of a source; a body of an earlier attempt may still be read while the next begins
}

// PushBlob uploads a blob unless the repository has it. open gives its bytes anew for each attempt; an error of its or of its reader's
// is returned as it is.
func (c *Client) PushBlob(ctx context.Context, repo Repository, desc ocispec.Descriptor, open func(context.Context) (io.ReadCloser, error)) error {
	j, err := c.newJob(opPush, repo, desc.Digest.String())
	if err != nil {
		return err
	}
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("push blob %q: %w", desc.Digest, err)
	}
	u := &upload{j: j, desc: desc, open: open}
	return u.run(ctx)
}

// MountBlob makes a blob of another repository of the same host part of repo. It is false if the registry would not, which is no error.
func (c *Client) MountBlob(ctx context.Context, repo, from Repository, d digest.Digest) (bool, error) {
	j, err := c.newJob(opPush, repo, d.String())
	if err != nil {
		return false, err
	}
	if _, err := c.newJob(opPush, from, ""); err != nil {
		return false, err
	}
	if dialHost(repo.Host) != dialHost(from.Host) {
		return false, nil
	}
	u := &upload{j: j, desc: ocispec.Descriptor{Digest: d}}
	session, mounted, err := u.mount(ctx, from)
	if err != nil {
		return false, err
	}
	if session != nil {
		u.abandon(ctx, session)
	}
	return mounted, nil
}

// run makes the repository have the blob: it is there, or mounted, or uploaded.
func (u *upload) run(ctx context.Context) error {
	there, err := u.j.exists(ctx, "blobs", u.desc.Digest)
	if err != nil {
		return err
	}
	if there {
		u.j.report(u.desc, NoteExists, u.desc.Size, true)
		return nil
	}
	session, mounted, err := u.mountAny(ctx)
	if err != nil {
		return err
	}
	if mounted {
		u.j.report(u.desc, NoteMounted, u.desc.Size, true)
		return nil
	}
	if err := u.j.c.slots.Acquire(ctx, 1); err != nil {
		return u.j.transportError(ctx, err)
	}
	defer u.j.c.slots.Release(1)
	return u.send(ctx, session)
}

// mountAny tries the repositories that may have the blob. What it gives is an upload's session if a registry opened one instead.
func (u *upload) mountAny(ctx context.Context) (session *url.URL, mounted bool, err error) {
	for _, from := range u.mountFrom {
		if session != nil {
			u.abandon(ctx, session)
		}
		session, mounted, err = u.mount(ctx, from)
		if err != nil || mounted {
			return nil, mounted, err
		}
	}
	return session, false, nil
}

// mount asks the registry to take the blob over from another repository. A refusal is no error: there is the upload.
func (u *upload) mount(ctx context.Context, from Repository) (session *url.URL, mounted bool, err error) {
	e, err := u.j.origin(ctx)
	if err != nil {
		return nil, false, err
	}
	resp, err := u.j.answer(ctx, e, call{
		method: http.MethodPost, path: u.j.name("blobs", "uploads", ""),
		query:  url.Values{"mount": {u.desc.Digest.String()}, "from": {from.Name}},
		scopes: []string{auth.ScopeRepository(from.Name, auth.ActionPull)},
	})
	if ctx.Err() != nil {
		return nil, false, u.j.transportError(ctx, ctx.Err())
	}
	if err != nil {
		return nil, false, nil
	}
	defer discard(resp)
	switch resp.StatusCode {
	case http.StatusCreated:
		return nil, true, nil
	case http.StatusAccepted:
		session, err := u.location(e, resp)
		return session, false, err
	}
	return nil, false, nil
}

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

// send uploads in one piece, anew from a fresh session when that fails in passing: what a broken session holds nobody knows.
func (u *upload) send(ctx context.Context, session *url.URL) error {
	for n := 0; ; n++ {
		v, err := u.sendOnce(ctx, session)
		if err == nil {
			u.j.report(u.desc, NotePushing, u.desc.Size, true)
			return nil
		}
		if !v.again || n == maxRetries {
			return err
		}
		if err := u.j.c.retry.pause(ctx, dialHost(u.j.repo.Host), n, v, "upload of "+u.desc.Digest.String()+" broke off"); err != nil {
			return u.j.transportError(ctx, err)
		}
		session = nil
		if there, err := u.j.exists(ctx, "blobs", u.desc.Digest); err == nil && there {
			u.j.report(u.desc, NotePushing, u.desc.Size, true) // only the answer was lost
			return nil
		}
	}
}

// sendOnce is one attempt. Beginning a session repeats itself as all small requests do; its errors are final.
func (u *upload) sendOnce(ctx context.Context, session *url.URL) (verdict, error) {
	e, err := u.j.origin(ctx)
	if err != nil {
		return verdict{}, err
	}
	if session == nil {
		if session, err = u.begin(ctx, e); err != nil {
			return verdict{}, err
		}
	}
	query := session.Query()
	query.Set("digest", u.desc.Digest.String())
	put := *session
	put.RawQuery = query.Encode()
	req, err := call{
		method: http.MethodPut, url: &put, header: http.Header{"Content-Type": {"application/octet-stream"}},
		body: func() (io.ReadCloser, error) { return u.body(ctx) }, size: u.desc.Size,
	}.request(withoutRetry(u.j.withScopes(ctx, e, nil)), e)
	if failed := u.sourceFailure(); failed != nil {
		return verdict{}, failed
	}
	if err != nil {
		return verdict{}, err
	}
	resp, err := e.auth.Do(req)
	v := u.j.c.retry.judge(e.host, resp, err)
	if failed := u.sourceFailure(); failed != nil && ctx.Err() == nil {
		if err == nil {
			discard(resp)
		}
		return verdict{}, failed
	}
	if err != nil {
		return v, u.j.transportError(ctx, err)
	}
	switch resp.StatusCode {
	case http.StatusCreated, http.StatusOK, http.StatusNoContent:
		discard(resp)
		return verdict{}, nil
	}
	answer := u.j.answerError(resp)
	v.again = v.again || answer.Code == "BLOB_UPLOAD_UNKNOWN" // the session has got lost, say in a restart
	return v, answer
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

// body opens the source for one attempt.
func (u *upload) body(ctx context.Context) (io.ReadCloser, error) {
	rc, err := u.open(ctx)
	if err != nil {
		return nil, u.fail(err)
	}
	return &uploadBody{u: u, rc: rc, meter: u.j.meter(rc, u.desc, NotePushing)}, nil
}

// fail remembers the first failure of a source.
func (u *upload) fail(err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failed == nil {
		u.failed = err
	}
	return &sourceError{err}
}

func (u *upload) sourceFailure() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed
}

// uploadBody is the body of one attempt.
type uploadBody struct {
	u      *upload
	rc     io.Closer
	meter  *meter
	closed atomic.Bool // HTTP/2 closes a body that it no longer wants while it reads it
}

// Read reads on; a failure of the source ends the whole upload.
func (b *uploadBody) Read(p []byte) (int, error) {
	n, err := b.meter.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !b.closed.Load() {
		err = b.u.fail(fmt.Errorf("read blob %s: %w", b.u.desc.Digest, err))
	}
	return n, err
}

// Close closes the source.
func (b *uploadBody) Close() error {
	b.closed.Store(true)
	return b.rc.Close()
}
