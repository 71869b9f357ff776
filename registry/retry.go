package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/ocibuild/ocibuild/registry/retry"
)

// retrier decides what is worth another attempt, and when. Its clock and dice can be replaced.
type retrier struct {
	sleep  func(context.Context, time.Duration) error
	now    func() time.Time
	random func() float64 // in [0,1)
	note   func(host, text string)
	stall  time.Duration
	seen   sync.Map // hosts that have answered: a refused connection to one of them may pass
	limits sync.Map // *hostLimit, by host
}

func newRetrier(note func(host, text string)) *retrier {
	return &retrier{sleep: retry.Sleep, now: time.Now, random: rand.Float64, note: note, stall: stallTimeout}
}

// verdict says whether an outcome may be better next time, and what pause the registry asks for (0: none).
type verdict struct {
	again bool
	after time.Duration
}

// judge looks at the outcome of one attempt.
func (r *retrier) judge(ctx context.Context, host string, resp *http.Response, err error) verdict {
	if err != nil {
		return verdict{again: ctx.Err() == nil && r.passing(host, err)}
	}
	r.seen.Store(host, true)
	if !retry.Status(resp.StatusCode) {
		return verdict{}
	}
	after := retry.After(resp.Header.Get("Retry-After"), r.now())
	return verdict{again: after <= retry.MaxAsked, after: after}
}

// passing reports whether an error of the transport may be gone next time.
func (r *retrier) passing(host string, err error) bool {
	var fromHere *sourceError
	// A dialer's and a transport's own timeouts call themselves context.DeadlineExceeded too, and may pass.
	if errors.Is(err, context.Canceled) || errors.As(err, &fromHere) {
		return false
	}
	_, seen := r.seen.Load(host)
	return retry.Passing(err, seen)
}

// pause waits before the attempt that follows attempt number n (from 0).
func (r *retrier) pause(ctx context.Context, host string, n int, v verdict, why string) error {
	d := retry.Pause(n, r.random())
	if v.after > 0 {
		d = v.after + time.Duration(r.random()*float64(v.after/10)) // never sooner than asked, and not all clients at once
	}
	r.note(nameHost(host), fmt.Sprintf("%s: try again in %s", why, d.Round(time.Millisecond)))
	if v.after == 0 {
		return r.sleep(ctx, d)
	}
	limit, until := r.host(host), r.now().Add(d) // nobody else disturbs a host that has asked for a pause
	limit.hush(until)
	defer limit.speak(until)
	return r.sleep(ctx, d)
}

// withoutRetry marks requests that their sender repeats itself, if at all.
func withoutRetry(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutRetryKey{}, true)
}

type withoutRetryKey struct{}

// retryTransport repeats requests as its retrier sees fit, and opens their bodies anew for that.
type retryTransport struct {
	base  http.RoundTripper
	retry *retrier
}

// RoundTrip carries out one request.
func (t *retryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	once := ctx.Value(withoutRetryKey{}) != nil
	for n := 0; ; n++ {
		resp, err := t.attempt(req)
		v := t.retry.judge(ctx, req.URL.Host, resp, err)
		if once || !v.again || n == retry.Most {
			return resp, err
		}
		next, ok := rewound(req)
		if !ok {
			return resp, err
		}
		if err := t.retry.pause(ctx, req.URL.Host, n, v, outcome(resp, err)); err != nil {
			discard(resp)
			return nil, err
		}
		discard(resp)
		req = next
	}
}

// rewound returns the request with its body at the start, if that can be had.
func rewound(req *http.Request) (*http.Request, bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, false
	}
	next := *req
	next.Body = body
	return &next, true
}

// outcome names the outcome of an attempt in a few words.
func outcome(resp *http.Response, err error) string {
	if err != nil {
		return printable(redactURLs(err.Error()))
	}
	return strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode)
}

// discard reads a little of what is left, so that the connection can be used again, and closes.
func discard(resp *http.Response) {
	if resp == nil {
		return
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 16<<10)
	resp.Body.Close()
}
