package remote

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/registry/retry"
)

// retrier pauses between attempts. Its clock and dice can be replaced.
type retrier struct {
	sleep  func(context.Context, time.Duration) error
	random func() float64 // in [0,1)
}

func newRetrier() retrier { return retrier{sleep: retry.Sleep, random: rand.Float64} }

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
		if n == retry.Most || passing.after > retry.MaxAsked {
			return passing.err
		}
		if r.pause(ctx, n, passing.after) != nil {
			return context.Cause(ctx)
		}
	}
}

func (r retrier) pause(ctx context.Context, n int, asked time.Duration) error {
	return r.sleep(ctx, max(retry.Pause(n, r.random()), asked))
}

// statusError makes an error of an answer that is not what was asked for.
func statusError(source string, resp *http.Response) error {
	status := resp.StatusCode
	text := strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status))
	err := &Error{Source: source, Err: errors.New("the server answers " + text), Hint: statusHint(source, status)}
	if retry.Status(status) {
		return &passingError{err, retry.After(resp.Header.Get("Retry-After"), time.Now())}
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
	if errors.Is(e.Err, errStalled) || retry.Passing(e.Err, false) {
		return &passingError{err: e}
	}
	return e
}

// errStalled ends a download that gives no byte for long. It may pass.
var errStalled = errors.New("the server has stopped sending")
