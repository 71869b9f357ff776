package remote

import (
	"errors"
	"net/url"
	"strings"
	"unicode"
)

// Error is a failure that a server, or the way to it, has caused.
type Error struct {
	// Source is the URL, without what may be secret in it.
	Source string
	// Hint is the next step for the user, or empty.
	Hint string
	Err  error
}

// Error names the source and the cause.
func (e *Error) Error() string { return e.Source + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// MismatchError is content, or a commit, that is not the one wanted, or not there.
type MismatchError struct {
	Source string
	Msg    string
	// Hint is the next step for the user, or empty.
	Hint string
}

// Error says what was found and what was wanted.
func (e *MismatchError) Error() string { return e.Source + ": " + e.Msg }

// GitMissingError says that there is no usable git on this machine.
type GitMissingError struct{ Msg string }

// Error says what is missing.
func (e *GitMissingError) Error() string { return e.Msg }

// plain takes away the URL that net/http puts around an error: it has secrets in it.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Redact gives a URL, or what git takes for one, without passwords and without
// its query, which may be signed.
func Redact(source string) string {
	scheme, _, ok := strings.Cut(source, "://")
	if !ok {
		source, _, _ = strings.Cut(source, "?")
		return printable(source)
	}
	u, err := url.Parse(source)
	if err != nil {
		return printable(scheme + "://...") // who knows what is what in it
	}
	if user := u.User; user != nil {
		u.User = nil
		if u.Scheme == "ssh" {
			u.User = url.User(user.Username())
		}
	}
	u.RawQuery, u.ForceQuery = "", false
	return printable(u.String())
}

// maxMessage bounds what is shown of a text from outside.
const maxMessage = 1000

// printable makes a text from outside fit for one line.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxMessage {
		s = s[:maxMessage] + "..."
	}
	return s
}
