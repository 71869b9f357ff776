package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/ocibuild/ocibuild/registry/retry"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// sourceError is a failure to read what is to be uploaded: none of the registry's.
type sourceError struct{ err error }

// Error is the source's own text.
func (e *sourceError) Error() string { return e.err.Error() }

// Unwrap gives the source's own error.
func (e *sourceError) Unwrap() error { return e.err }

// upload is a blob that a repository is to have.
type upload struct {
	j      job
	src    Growing
	memory Memory // nil: nothing is remembered
	// shown is what progress calls the blob while its digest is not known.
	shown ocispec.Descriptor
	// key tells the blob from all others while its digest is not known.
	key string
	// desc is the blob; its digest is empty as long as it is not known.
	desc ocispec.Descriptor
	// mountFrom lists repositories of the same host that may have the blob, beside those that are remembered.
	mountFrom []Repository
	// doubt asks the registry for what is remembered of it, absent does not ask for what can hardly be there.
	doubt, absent bool
	// least is the size that the registry wants chunks to have at least, where it has said so.
	least int64

	mu     sync.Mutex
	failed error // the first error of a source; a body of an earlier attempt may still be read while the next begins
}

// uploaded says how a repository has come to have a blob.
type uploaded struct {
	ocispec.Descriptor
	remembered bool // it was not asked whether it has
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
	src := &storedBlob{desc: desc, open: open}
	defer src.close()
	u := &upload{j: j, desc: desc, src: src}
	_, err = u.run(ctx)
	return err
}

// Stream is a blob that is sent while it is made.
type Stream struct {
	Growing
	// Key tells it from all others in this process and in later ones: the same bytes have the same key.
	Key string
	// Shown is what progress calls it before it has a digest of its own.
	Shown ocispec.Descriptor
}

// PushStream makes a repository have a blob that may still be in the making: large ones are sent as they are made. What is remembered
// of uploads is in memory. The blob becomes part of an image by a later Push.
func (c *Client) PushStream(ctx context.Context, repo Repository, s Stream, memory Memory) (ocispec.Descriptor, error) {
	j, err := c.newJob(opPush, repo, "")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	u := &upload{j: j, src: s.Growing, key: s.Key, shown: s.Shown, memory: memory}
	done, err := u.run(ctx)
	return done.Descriptor, err
}

// CheckPush asks the registry whether it would take an upload to a repository.
func (c *Client) CheckPush(ctx context.Context, repo Repository) error {
	j, err := c.newJob(opPush, repo, "")
	if err != nil {
		return err
	}
	u := &upload{j: j}
	e, err := j.origin(ctx)
	if err != nil {
		return err
	}
	session, err := u.begin(ctx, e)
	if err == nil {
		u.abandon(ctx, session)
	}
	return err
}

// run makes the repository have the blob: it is there, or mounted, or uploaded.
func (u *upload) run(ctx context.Context) (uploaded, error) {
	if u.key == "" {
		u.key = u.desc.Digest.String()
	}
	unlock, err := u.j.c.pushing.lock(ctx, u.place()+" "+u.key)
	if err != nil {
		return uploaded{}, u.j.transportError(ctx, err)
	}
	defer unlock()
	if u.desc.Digest == "" {
		small, err := u.whole(ctx)
		if err != nil {
			return uploaded{}, err
		}
		if !small {
			err := u.stream(ctx)
			return uploaded{Descriptor: u.desc}, err
		}
	}
	return u.known(ctx)
}

// place names the repository.
func (u *upload) place() string { return u.j.repo.Host + "/" + u.j.repo.Name }

// whole waits for the first bytes of a blob, and finds out whether these are all.
func (u *upload) whole(ctx context.Context) (bool, error) {
	_, all, err := u.src.Available(ctx, u.j.c.chunkSize+1)
	if err == nil && all {
		u.desc, err = u.src.Descriptor(ctx)
	}
	return all, err
}

// known makes the repository have a blob whose digest is known.
func (u *upload) known(ctx context.Context) (uploaded, error) {
	if here, known := u.remembered(); known {
		if !here {
			u.report(NoteExists, u.desc.Size, true)
		}
		return uploaded{u.desc, true}, nil
	}
	session, there, note, err := u.find(ctx)
	if err != nil {
		return uploaded{}, err
	}
	if there {
		u.report(note, u.desc.Size, true)
		return uploaded{u.desc, false}, u.remember(false)
	}
	if u.desc.Size > 2*u.j.c.chunkSize && !u.monolithic() {
		err = u.inChunks(ctx, session)
	} else {
		err = u.send(ctx, session)
	}
	if err != nil {
		return uploaded{}, err
	}
	return uploaded{u.desc, false}, u.remember(true)
}

// find finds out whether the repository has the blob or can have it from another. Where it has not, it may have opened a session for the
// upload: asking for a mount does both at once, also one from the repository itself.
func (u *upload) find(ctx context.Context) (session *url.URL, there bool, note string, err error) {
	session, there, err = u.mountAny(ctx)
	if err != nil || there {
		return nil, there, NoteMounted, err
	}
	if u.absent {
		return session, false, "", nil
	}
	if _, no := u.j.c.noSelfMount.Load(u.j.repo.Host); session == nil && !no && !u.doubt {
		session, there, err = u.mount(ctx, u.j.repo)
		if err != nil || there || session != nil {
			return session, there, NoteExists, err
		}
		u.j.c.noSelfMount.Store(u.j.repo.Host, true)
	}
	there, err = u.j.exists(ctx, "blobs", u.desc.Digest)
	if there && session != nil {
		u.abandon(ctx, session)
	}
	return session, there, NoteExists, err
}

// remembered reports whether the repository was found to have the blob not long ago, and whether by this client.
func (u *upload) remembered() (here, known bool) {
	if u.doubt {
		return false, false
	}
	if _, ok := u.j.c.sent.Load(u.name()); ok {
		return true, true
	}
	return false, u.memory != nil && u.j.c.retry.now().Sub(u.memory.SeenAt(u.desc.Digest, u.j.repo.Host, u.j.repo.Name)) < trusted
}

// name names the blob at the repository.
func (u *upload) name() string { return u.place() + "@" + u.desc.Digest.String() }

// remember notes that the repository has the blob, and whether that is new to it.
func (u *upload) remember(fresh bool) error {
	u.j.c.sent.Store(u.name(), fresh)
	if u.memory == nil {
		return nil
	}
	if err := u.memory.Seen(u.desc, u.j.repo.Host, u.j.repo.Name); err != nil {
		return fmt.Errorf("remember blob %s: %w", u.desc.Digest, err)
	}
	return nil
}

// forget takes that back.
func (u *upload) forget() error {
	u.j.c.sent.Delete(u.name())
	if u.memory == nil {
		return nil
	}
	return u.memory.Lost(u.desc.Digest, u.j.repo.Host, u.j.repo.Name)
}

// report tells of the blob's state.
func (u *upload) report(note string, offset int64, done bool) {
	u.j.report(u.display(), note, offset, done)
}

// display is what progress calls the blob.
func (u *upload) display() ocispec.Descriptor {
	shown := u.desc
	if u.shown.Digest != "" {
		shown.Digest = u.shown.Digest
	}
	if guess, ok := u.src.(interface{ Estimate() int64 }); ok && u.desc.Digest == "" {
		shown.Size = guess.Estimate()
	}
	return shown
}

// monolithic reports whether the host has refused chunks.
func (u *upload) monolithic() bool {
	_, refused := u.j.c.noChunks.Load(u.j.repo.Host)
	return refused
}

// send uploads in one piece, anew from a fresh session when that fails in passing: what a broken session holds nobody knows.
func (u *upload) send(ctx context.Context, session *url.URL) error {
	if err := u.j.c.slots.Acquire(ctx, 1); err != nil {
		return u.j.transportError(ctx, err)
	}
	defer u.j.c.slots.Release(1)
	for n := 0; ; n++ {
		v, err := u.sendOnce(ctx, session)
		if err == nil {
			u.report(NotePushing, u.desc.Size, true)
			return nil
		}
		if !v.again || n == retry.Most {
			return err
		}
		if err := u.j.c.retry.pause(ctx, dialHost(u.j.repo.Host), n, v, "upload of "+u.desc.Digest.String()+" broke off"); err != nil {
			return u.j.transportError(ctx, err)
		}
		session = nil
		if there, err := u.j.exists(ctx, "blobs", u.desc.Digest); err == nil && there {
			u.report(NotePushing, u.desc.Size, true) // only the answer was lost
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
	resp, v, err := u.put(ctx, e, call{method: http.MethodPut, url: finishing(session, u.desc.Digest)}, 0, u.desc.Size)
	if err != nil {
		return v, err
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

// put sends n bytes from an offset on, once, and says whether a failure may be gone next time. The caller closes the answer's body.
func (u *upload) put(ctx context.Context, e *endpoint, r call, offset, n int64) (*http.Response, verdict, error) {
	inner, cancel := context.WithCancelCause(withoutRetry(u.j.withScopes(ctx, e, nil)))
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set("Content-Type", "application/octet-stream")
	r.body, r.size = func() (io.ReadCloser, error) { return u.body(ctx, cancel, offset, n) }, n
	resp, err := u.do(inner, e, r)
	if failed := u.sourceFailure(); failed != nil && ctx.Err() == nil {
		if err == nil {
			discard(resp)
		}
		cancel(nil)
		return nil, verdict{}, failed
	}
	if err != nil {
		if cause := context.Cause(inner); errors.Is(cause, errStalled) {
			err = cause
		}
		v := u.j.c.retry.judge(ctx, e.host, nil, err)
		cancel(nil)
		return nil, v, u.j.transportError(ctx, err)
	}
	resp.Body = &answering{resp.Body, cancel}
	return resp, u.j.c.retry.judge(ctx, e.host, resp, nil), nil
}

// answering ends a request with its answer.
type answering struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

// Close closes the answer's body.
func (a *answering) Close() error {
	defer a.cancel(nil)
	return a.ReadCloser.Close()
}

func (u *upload) do(ctx context.Context, e *endpoint, r call) (*http.Response, error) {
	req, err := r.request(ctx, e)
	if err != nil {
		return nil, err
	}
	return e.auth.Do(req)
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
