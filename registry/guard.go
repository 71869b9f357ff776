package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// maxRequests is how many requests of a kind, those that read and those that write, are under way at one host at once.
	maxRequests = 8
	// minProgress is how many bytes a body must give for each stallTimeout that is spent waiting for it.
	minProgress = 4 << 10
)

// hostLimit bounds the requests to one host. Reads and writes have limits of their own, so that an upload of what is being downloaded
// from the same host never waits for itself.
type hostLimit struct {
	reads, writes *semaphore.Weighted

	mu    sync.Mutex
	quiet time.Time // until when the host wants to be left alone
}

func (r *retrier) host(name string) *hostLimit {
	if l, ok := r.limits.Load(name); ok {
		return l.(*hostLimit)
	}
	l, _ := r.limits.LoadOrStore(name, &hostLimit{reads: semaphore.NewWeighted(maxRequests), writes: semaphore.NewWeighted(maxRequests)})
	return l.(*hostLimit)
}

// enter waits for a request's turn; leave ends it.
func (l *hostLimit) enter(ctx context.Context, method string) (leave func(), err error) {
	kind := l.writes
	if method == http.MethodGet || method == http.MethodHead {
		kind = l.reads
	}
	if err := kind.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { kind.Release(1) }), nil
}

// hush notes that the host wants no request before a time.
func (l *hostLimit) hush(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until.After(l.quiet) {
		l.quiet = until
	}
}

// speak ends a pause that was waited for.
func (l *hostLimit) speak(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.quiet.Equal(until) {
		l.quiet = time.Time{}
	}
}

// silence is how long the host still wants to be left alone.
func (l *hostLimit) silence(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.quiet.IsZero() {
		return 0
	}
	return max(0, l.quiet.Sub(now))
}

// attempt carries out a request once, when the host lets it. The answer's body is guarded.
func (t *retryTransport) attempt(req *http.Request) (*http.Response, error) {
	leave, err := t.turn(req)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	ctx, cancel := context.WithCancel(req.Context())
	resp, err := t.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel()
		leave()
		return nil, err
	}
	resp.Request = req
	g := &guarded{body: resp.Body, cancel: cancel, leave: leave, stall: t.retry.stall}
	if resp.Body == http.NoBody {
		g.end()
		return resp, nil
	}
	g.dog = time.AfterFunc(g.stall, g.bark)
	g.dog.Stop()
	resp.Body = g
	return resp, nil
}

// turn waits until the host may be asked.
func (t *retryTransport) turn(req *http.Request) (leave func(), err error) {
	limit := t.retry.host(req.URL.Host)
	if d := limit.silence(t.retry.now()); d > 0 {
		if err := t.retry.sleep(req.Context(), d); err != nil {
			return nil, err
		}
	}
	return limit.enter(req.Context(), req.Method)
}

// guarded is a body that breaks off when it gives next to nothing for long. The time that its reader spends elsewhere does not count.
type guarded struct {
	body   io.ReadCloser
	cancel context.CancelFunc // ends the request
	leave  func()
	stall  time.Duration
	dog    *time.Timer

	mu     sync.Mutex
	waited time.Duration // in reads since the last reckoning
	got    int           // bytes since then
	since  time.Time     // when the read under way began
	barked bool
}

// Read reads on.
func (g *guarded) Read(p []byte) (int, error) {
	g.mu.Lock()
	g.since = time.Now()
	g.dog.Reset(g.stall - g.waited)
	g.mu.Unlock()
	n, err := g.body.Read(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dog.Stop()
	g.got += n
	g.waited += time.Since(g.since)
	g.since = time.Time{}
	g.reckon()
	if g.barked && err != nil {
		err = fmt.Errorf("fewer than %d bytes in %s: %w", minProgress, g.stall, io.ErrUnexpectedEOF)
	}
	if err != nil {
		g.leave()
	}
	return n, err
}

// reckon begins the next period when enough has come in this one.
func (g *guarded) reckon() {
	if g.got >= minProgress {
		g.waited, g.got = 0, 0
	}
	g.waited = min(g.waited, g.stall-1)
}

// bark ends a read that takes too long.
func (g *guarded) bark() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.since.IsZero() {
		return // it has just come back
	}
	g.barked = true
	g.cancel()
}

func (g *guarded) end() {
	g.cancel()
	g.leave()
}

// Close ends the request.
func (g *guarded) Close() error {
	g.end()
	return g.body.Close()
}
