package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	maxRetries = 5
	firstPause = 500 * time.Millisecond
	maxPause   = 20 * time.Second
	// maxAsked is the longest pause that a server may ask for.
	maxAsked = 2 * time.Minute
)

// retrier pauses between attempts. Its clock and dice can be replaced.
type retrier struct {
	sleep  func(context.Context, time.Duration) error
	random func() float64 // in [0,1)
}

func newRetrier() retrier { return retrier{sleep: sleep, random: rand.Float64} }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// passingError is a failure that may be gone at the next attempt.
type passingError struct {
	err error
	// after is the pause that the server asks for, or 0.
	after time.Duration
}

// Error is the failure's own text: that it may pass is for attempts.
func (e *passingError) Error() string { return e.err.Error() }

// Unwrap gives the failure.
func (e *passingError) Unwrap() error { return e.err }

// attempts calls try until it succeeds, fails for good, or has failed too often
// without getting any further.
func (r retrier) attempts(ctx context.Context, try func() (further bool, err error)) error {
	for n := 0; ; n++ {
		further, err := try()
		var passing *passingError
		if !errors.As(err, &passing) {
			return err
		}
		if further {
			n = 0
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n == maxRetries || passing.after > maxAsked {
			return passing.err
		}
		if err := r.pause(ctx, n, passing.after); err != nil {
			return err
		}
	}
}

func (r retrier) pause(ctx context.Context, n int, asked time.Duration) error {
	d := min(firstPause<<n, maxPause)
	d = d/2 + time.Duration(r.random()*float64(d/2))
	return r.sleep(ctx, max(d, asked))
}

// statusError makes an error of an answer that is not what was asked for.
func statusError(source string, resp *http.Response) error {
	status := resp.StatusCode
	text := strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status))
	err := &Error{Source: source, Err: errors.New("the server answers " + text), Hint: statusHint(source, status)}
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &passingError{err, retryAfter(resp.Header.Get("Retry-After"))}
	}
	return err
}

func statusHint(source string, status int) string {
	switch status {
	case http.StatusNotFound, http.StatusGone:
		return "check the URL"
	case http.StatusUnauthorized, http.StatusForbidden:
		return "give a token with --secret id=HTTP_AUTH_TOKEN_" + hostOf(source) + ",env=NAME, or a whole header as HTTP_AUTH_HEADER_" + hostOf(source)
	}
	return ""
}

// retryAfter reads a Retry-After header: seconds, or a date.
func retryAfter(value string) time.Duration {
	if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}

// transportError is an error of the way to a server. One that may pass is a
// *passingError, that of a cancelled context its cause.
func transportError(ctx context.Context, source string, err error) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, errStalled) {
		err = cause
	} else if cause != nil {
		return cause
	}
	e := &Error{Source: source, Err: plain(err)}
	if passes(e.Err) {
		return &passingError{err: e}
	}
	return e
}

// passes reports whether an error of the transport may be gone next time.
func passes(err error) bool {
	var (
		timeout net.Error
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		noTLS   tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &cert), errors.As(err, &noTLS), errors.Is(err, syscall.ECONNREFUSED),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	}
	return errors.As(err, &timeout) && timeout.Timeout() || brokenOff(err)
}

var errStalled = errors.New("the server has stopped sending")

// brokenOff reports whether err says that a connection ended early. HTTP/2's
// errors have no exported types, hence the texts.
func brokenOff(err error) bool {
	for _, target := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, errStalled} {
		if errors.Is(err, target) {
			return true
		}
	}
	text := err.Error()
	return strings.Contains(text, "http2: ") || strings.Contains(text, "stream error: ") || strings.Contains(text, "server closed idle connection")
}
