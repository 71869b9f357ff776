package image

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// explainRef says what is wrong with a reference that cannot be read. err is
// what is said where nothing better is known.
func explainRef(s string, err error) *RefError {
	e := &RefError{Name: s, Err: err}
	scheme, _, isURL := strings.Cut(s, "://")
	switch {
	case strings.TrimSpace(s) == "":
		e.Err = errors.New("it is empty")
	case isURL:
		e.Err, e.Hint = errors.New("it is a URL"), "leave the "+scheme+":// out"
	case isHexID(s) && len(s) == 64:
		e.Err, e.Hint = errors.New("it is an image id"), "a name cannot be 64 hexadecimal digits"
	case strings.ContainsAny(s, " \t\r\n"):
		e.Err = errors.New("it has a blank in it")
	default:
		name, sum, digested := strings.Cut(s, "@")
		path, tag, tagged := cutTag(name)
		if cause := nameFault(path); cause != nil {
			e.Err, e.Hint = cause, lowerHint(s, path)
		} else if cause := tagFault(tag); tagged && cause != nil {
			e.Err = cause
		} else if cause := digestFault(sum); digested && cause != nil {
			e.Err = cause
		}
	}
	return e
}

// cutTag splits a name at the colon that no port follows.
func cutTag(name string) (path, tag string, ok bool) {
	colon := strings.LastIndexByte(name, ':')
	if colon <= strings.LastIndexByte(name, '/') {
		return name, "", false
	}
	return name[:colon], name[colon+1:], true
}

// lowerHint gives the same reference in lower case, if that is all it needs.
func lowerHint(s, path string) string {
	lower := strings.ToLower(path)
	meant := lower + s[len(path):]
	if _, err := parseRef(meant); lower == path || err != nil {
		return ""
	}
	return "did you mean " + meant + "?"
}

// maxRepository is how long the name of a repository may be.
const maxRepository = 255

// nameFault says what is wrong with registry and repository.
func nameFault(path string) error {
	host, rest, many := strings.Cut(path, "/")
	if many && (strings.ContainsAny(host, ".:") || host == "localhost" || strings.HasPrefix(host, "[")) {
		if !isHost(host) {
			return fmt.Errorf("%q is no registry: it takes a host and perhaps a port", host)
		}
	} else {
		rest = path
	}
	if len(rest) > maxRepository {
		return fmt.Errorf("the repository has %d characters, and %d are allowed", len(rest), maxRepository)
	}
	if strings.Contains(rest, ":") {
		return errors.New("it has more than one tag: a colon comes before the tag and after a registry's host only")
	}
	for _, part := range strings.Split(rest, "/") {
		if fault := componentFault(part); fault != nil {
			return fault
		}
	}
	return nil
}

func componentFault(part string) error {
	const allowed = "a repository takes lower-case letters, digits, and single . _ - or __ or several - between them"
	stranger := strings.IndexFunc(part, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789._-", r) })
	switch {
	case isComponent(part):
		return nil
	case part == "":
		return errors.New("a part of the repository is empty: a slash begins or ends it, or two are side by side")
	case strings.ToLower(part) != part:
		return errors.New("the repository has upper-case letters")
	case stranger >= 0:
		return fmt.Errorf("%q has %q in it: %s", part, []rune(part[stranger:])[0], allowed)
	case strings.Trim(part, "._-") != part:
		return fmt.Errorf("%q begins or ends with %q: %s", part, strings.Replace(part, strings.Trim(part, "._-"), "", 1)[:1], allowed)
	}
	return fmt.Errorf("%q has the signs between its words wrong: %s", part, allowed)
}

func tagFault(tag string) error {
	switch {
	case isTag(tag):
		return nil
	case tag == "":
		return errors.New("the tag after the colon is empty")
	case len(tag) > 128:
		return fmt.Errorf("the tag has %d characters, and 128 are allowed", len(tag))
	case strings.ContainsAny(tag[:1], ".-"):
		return fmt.Errorf("the tag %q begins with %q: it must begin with a letter, a digit or _", tag, tag[:1])
	}
	return fmt.Errorf("the tag %q has more in it than letters, digits and _ . -", tag)
}

func digestFault(sum string) error {
	algorithm, hex, ok := strings.Cut(sum, ":")
	d := digest.Algorithm(algorithm)
	switch {
	case sum == "":
		return errors.New("the digest after the @ is empty")
	case !ok:
		return errors.New("the digest after the @ has no algorithm, such as sha256, before it")
	case !d.Available():
		return fmt.Errorf("the digest's algorithm %q is not known (sha256 and sha512 are)", algorithm)
	case len(hex) != d.Size()*2:
		return fmt.Errorf("the digest has %d digits, and %s has %d", len(hex), algorithm, d.Size()*2)
	case digest.Digest(sum).Validate() != nil:
		return errors.New("the digest has more in it than the digits 0-9 and a-f")
	}
	return nil
}
