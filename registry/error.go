package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/ocibuild/ocibuild/registry/retry"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

const (
	maxErrorBody = 64 << 10
	maxMessage   = 500 // characters of a registry's message that are shown
)

// Error is a failure that a registry, or the way to it, has caused.
type Error struct {
	// Op is what was being done: "pull", "push", "resolve", "login", ...
	Op string
	// Host, Repository and Reference say to what. Reference is a tag or a digest; it and Repository may be empty.
	Host, Repository, Reference string
	// Status is the HTTP status, 0 if there was no answer.
	Status int
	// Code and Message are the registry's own words; where it had none, Message says what is wrong with its answer.
	Code, Message string
	// Hint is the next step for the user. Error's text ends with it.
	Hint string
	// Err is the cause where it is not the registry's answer.
	Err error
	// At is the host that said so, where it stands in for Host.
	At string
	// Others is what others have said that were asked before.
	Others []string

	corrupt bool // the content was not what its descriptor says: worth one more download
	cut     bool // the content broke off
}

// Error says what failed and where, why, and what to do next.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if target := e.target(); target != "" {
		b.WriteString(" " + target)
	}
	if e.At != "" {
		b.WriteString(": at " + e.At)
	}
	if why := e.why(); why != "" {
		b.WriteString(": " + why)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if len(e.Others) > 0 {
		b.WriteString(" (asked before: " + strings.Join(e.Others, ", ") + ")")
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func (e *Error) target() string {
	target := e.Host
	if e.Repository != "" {
		target += "/" + e.Repository
	}
	if strings.Contains(e.Reference, ":") {
		return target + "@" + e.Reference
	}
	if e.Reference != "" {
		target += ":" + e.Reference
	}
	return target
}

func (e *Error) why() string {
	why := e.Message
	if why == "" {
		why = strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))
	}
	var status string
	if e.Status != 0 {
		status = strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status)))
	}
	detail := strings.Trim(e.Code+", "+status, ", ")
	switch {
	case why == "":
		return detail
	case detail == "":
		return why
	}
	return why + " (" + detail + ")"
}

// errorf returns an error of the job with a message of ours.
func (j job) errorf(hint, format string, args ...any) *Error {
	return &Error{
		Op: j.op, Host: nameHost(j.repo.Host), At: j.at, Repository: j.repo.Name, Reference: j.reference,
		Message: printable(fmt.Sprintf(format, args...)), Hint: hint,
	}
}

// answerError makes an error of an answer that is none of those wanted, and closes its body.
func (j job) answerError(resp *http.Response) *Error {
	defer discard(resp)
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	e := j.errorf("", "")
	e.Others, _ = resp.Request.Context().Value(refusalsKey{}).([]string)
	asked := answeredBy(resp)
	if asked != nil && asked.host != dialHost(j.repo.Host) {
		e.At = nameHost(asked.host)
	}
	e.Status = resp.StatusCode
	e.Code, e.Message = errorWords(resp.Header.Get("Content-Type"), text)
	e.Code, e.Message = j.c.secrets.redact(e.Code), j.c.secrets.redact(e.Message)
	e.Hint = j.statusHint(e)
	if at := resp.Request.URL.Host; asked != nil && at != asked.host {
		e.Message = strings.TrimSuffix("at "+at+", where the registry sends us: "+e.Message, ": ")
		e.Hint = "the storage behind the registry is in trouble: try again later"
	}
	if after := resp.Header.Get("Retry-After"); after != "" && resp.StatusCode == http.StatusTooManyRequests {
		e.Hint = fmt.Sprintf("the registry asks to wait %s; %s", retry.After(after, j.c.retry.now()), e.Hint)
	}
	return e
}

// errorWords finds a registry's own code and message in the body of its answer.
func errorWords(contentType string, body []byte) (code, message string) {
	var doc struct {
		Errors []struct {
			Code    any `json:"code"`
			Message any `json:"message"`
			Detail  any `json:"detail"`
		} `json:"errors"`
		Message any `json:"message"`
		Details any `json:"details"`
		Error   any `json:"error"`
	}
	if json.Unmarshal(body, &doc) != nil {
		if strings.HasPrefix(contentType, "text/plain") {
			return "", printable(string(body))
		}
		return "", ""
	}
	for _, e := range doc.Errors {
		code, message = word(e.Code), word(e.Message)
		if message == "" {
			message = word(e.Detail)
		}
		if code != "" || message != "" {
			return code, message
		}
	}
	for _, v := range []any{doc.Message, doc.Details, doc.Error} {
		if message = word(v); message != "" {
			return "", message
		}
	}
	return "", ""
}

func word(v any) string {
	s, _ := v.(string)
	return printable(s)
}

// printable makes outside text fit for a line on a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > maxMessage {
		s = string(runes[:maxMessage]) + "..."
	}
	return s
}

// transportError makes an error of a request that got no answer it could use. A cancelled context stays what it is.
func (j job) transportError(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("%s %s: %w", j.op, j.errorf("", "").target(), cause)
	}
	e := j.errorf("", "")
	var (
		answer *errcode.ErrorResponse
		cred   *credentialError
	)
	switch {
	case errors.As(err, &cred):
		e.Message, e.Hint, e.Err = cred.what, cred.hint, j.c.redacted(cred.err)
	case errors.As(err, &answer): // from the token service
		e.Status = answer.StatusCode
		if len(answer.Errors) > 0 {
			e.Code, e.Message = printable(answer.Errors[0].Code), j.c.secrets.redact(printable(answer.Errors[0].Message))
		}
		e.Hint = j.statusHint(e)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		e.Status = http.StatusUnauthorized
		e.Message = "the registry wants a user name and a password"
		e.Hint = j.statusHint(e)
	case strings.Contains(err.Error(), "missing username or password for basic auth"): // oras exports no sentinel for it
		e.Status = http.StatusUnauthorized
		e.Message = "the registry wants a user name and a password, and what is stored is a token"
		e.Hint = j.statusHint(e)
	default:
		host := j.host()
		if other := hostOf(err); other != "" && other != host {
			e.Message, host = "at "+other+", where the registry sends us", other
		}
		e.Err, e.Hint = j.c.redacted(withoutURL(err)), networkHint(err, host)
	}
	return e
}

// host is the host that is asked.
func (j job) host() string {
	if j.at != "" {
		return j.at
	}
	return nameHost(j.repo.Host)
}

// hostOf gives the host of the request that an error is about.
func hostOf(err error) string {
	var u *url.Error
	if !errors.As(err, &u) {
		return ""
	}
	at, parseErr := url.Parse(u.URL)
	if parseErr != nil {
		return ""
	}
	return nameHost(at.Host)
}

// withoutURL returns what is inside http.Client's error, which repeats the URL.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// redactedError has another's identity, but a text that can be shown.
type redactedError struct {
	text string
	err  error
}

// Error is the text without secrets.
func (e *redactedError) Error() string { return e.text }

// Unwrap gives the error whose text must not be shown.
func (e *redactedError) Unwrap() error { return e.err }

// redacted returns err with a text without secrets.
func (c *Client) redacted(err error) error {
	if err == nil {
		return nil
	}
	return &redactedError{text: printable(c.secrets.redact(redactURLs(err.Error()))), err: err}
}

var urlPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`https?://[^\s"'<>]+`) })

// redactURLs cuts queries, fragments and user names out of URLs in a text: they may be signed.
func redactURLs(text string) string {
	return urlPattern().ReplaceAllStringFunc(text, func(s string) string {
		u, err := url.Parse(s)
		if err != nil {
			s, _, _ = strings.Cut(s, "?")
			return s
		}
		return u.Scheme + "://" + u.Host + u.EscapedPath()
	})
}

// secrets remembers what must never be shown.
type secrets struct {
	mu    sync.Mutex
	known []string
}

// add remembers a secret. Very short ones are left out, for hiding them would tell more than showing the text.
func (s *secrets) add(values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		if len(v) >= 4 && !slices.Contains(s.known, v) {
			s.known = append(s.known, v)
		}
	}
	slices.SortFunc(s.known, func(a, b string) int { return len(b) - len(a) }) // one may be part of another
}

func (s *secrets) redact(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range s.known {
		text = strings.ReplaceAll(text, secret, "***")
	}
	return text
}

// notingCache is a token cache that tells secrets of the tokens that come by.
type notingCache struct {
	auth.Cache
	secrets *secrets
}

// Set fetches and caches a token.
func (c *notingCache) Set(ctx context.Context, registry string, scheme auth.Scheme, key string, fetch func(context.Context) (string, error)) (string, error) {
	return c.Cache.Set(ctx, registry, scheme, key, func(ctx context.Context) (string, error) {
		token, err := fetch(ctx)
		c.secrets.add(token)
		return token, err
	})
}
