package retry

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// Most is how often an attempt is repeated.
	Most = 5
	// MaxAsked is the longest pause that a server may ask for. Beyond it the user is told instead.
	MaxAsked = 2 * time.Minute

	firstPause = 500 * time.Millisecond
	maxPause   = 20 * time.Second
)

// Pause is the wait after attempt number n, from 0, that failed: it doubles, up to 20 s, and random, in [0,1), takes
// up to half of it away.
func Pause(n int, random float64) time.Duration {
	d := min(firstPause<<min(n, 16), maxPause)
	return d/2 + time.Duration(random*float64(d/2))
}

// Sleep waits. It ends with the context's error when that has ended before.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Status reports whether the status of an answer speaks of the moment and not of the request.
func Status(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusInsufficientStorage,
		http.StatusLoopDetected, http.StatusNotExtended, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return status >= 500 && status <= 599
}

// After reads a Retry-After header (RFC 9110, 10.2.3), seconds or a date. It is 0 if there is none, and a year at most.
func After(value string, now time.Time) time.Duration {
	const year = 365 * 24 * time.Hour
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
		return time.Duration(min(seconds, uint64(year/time.Second))) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return year
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// Passing reports whether an error of the transport, and not of a context, may be gone next time. A host that cannot be reached may come back
// if it is known to have been there.
func Passing(err error, known bool) bool {
	var (
		timeout net.Error
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		noTLS   tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &cert), errors.As(err, &noTLS):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound && !strings.Contains(dns.Err, "connection refused") // no such name; no name server at all
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return known
	case errors.As(err, &timeout) && timeout.Timeout():
		return true
	}
	return brokenOff(err)
}

// brokenOff reports whether err says that a connection ended early. HTTP/2's errors have no exported types, hence the texts.
func brokenOff(err error) bool {
	for _, target := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE} {
		if errors.Is(err, target) {
			return true
		}
	}
	text := err.Error()
	return strings.Contains(text, "http2: ") || strings.Contains(text, "stream error: ") || strings.Contains(text, "server closed idle connection")
}
