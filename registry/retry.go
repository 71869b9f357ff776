package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxRetries = 5
	firstPause = 500 * time.Millisecond
	maxPause   = 20 * time.Second
	// maxAsked is the longest pause that a registry may ask for. Beyond it the user is told instead.
	maxAsked = 2 * time.Minute
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
	return &retrier{sleep: sleep, now: time.Now, random: rand.Float64, note: note, stall: stallTimeout}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// verdict says whether an outcome may be better next time, and what pause the registry asks for (0: none).
type verdict struct {
	again bool
	after time.Duration
}

// judge looks at the outcome of one attempt.
func (r *retrier) judge(host string, resp *http.Response, err error) verdict {
	if err != nil {
		return verdict{again: r.passing(host, err)}
	}
	r.seen.Store(host, true)
	if !passingStatus(resp.StatusCode) {
		return verdict{}
	}
	after := retryAfter(resp.Header.Get("Retry-After"), r.now())
	return verdict{again: after <= maxAsked, after: after}
}

// passingStatus reports whether a status speaks of the moment and not of the request.
func passingStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusInsufficientStorage,
		http.StatusLoopDetected, http.StatusNotExtended, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return status >= 500 && status <= 599
}

// passing reports whether an error of the transport may be gone next time.
func (r *retrier) passing(host string, err error) bool {
	var (
		timeout  net.Error
		dns      *net.DNSError
		cert     *tls.CertificateVerificationError
		noTLS    tls.RecordHeaderError
		fromHere *sourceError
	)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &fromHere), errors.As(err, &cert), errors.As(err, &noTLS):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound && !strings.Contains(dns.Err, "connection refused") // no such name; no name server at all
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		_, seen := r.seen.Load(host)
		return seen
	case errors.As(err, &timeout) && timeout.Timeout():
		return true
	}
	return brokenConnection(err)
}

// brokenConnection reports whether err says that a connection ended early. HTTP/2's errors have no exported types, hence the texts.
func brokenConnection(err error) bool {
	for _, target := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE} {
		if errors.Is(err, target) {
			return true
		}
	}
	text := err.Error()
	return strings.Contains(text, "http2: ") || strings.Contains(text, "stream error: ") || strings.Contains(text, "server closed idle connection")
}

// retryAfter reads a Retry-After header: seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
		return time.Duration(min(seconds, 365*24*3600)) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return 365 * 24 * time.Hour
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// pause waits before the attempt that follows attempt number n (from 0).
func (r *retrier) pause(ctx context.Context, host string, n int, v verdict, why string) error {
	d := min(firstPause<<min(n, 16), maxPause)
	d = d/2 + time.Duration(r.random()*float64(d/2))
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
		v := t.retry.judge(req.URL.Host, resp, err)
		if once || !v.again || n == maxRetries {
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
