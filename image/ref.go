package image

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

const defaultTag = "latest"

// Ref is an image reference in normal form: a registry host, a repository,
// and a tag, a digest, both or neither. Values can be compared with ==. The
// zero value names nothing.
type Ref struct {
	host, repo, tag string
	digest          digest.Digest
}

// RefError says what is wrong with the text of a reference.
type RefError struct {
	Name string
	Err  error
	Hint string // may be empty
}

// Error says what is wrong and, where that is known, what may have been meant.
func (e *RefError) Error() string {
	text := fmt.Sprintf("invalid image reference %q: %v", e.Name, e.Err)
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

// Unwrap is the cause.
func (e *RefError) Unwrap() error { return e.Err }

// ParseRef reads a reference as Docker does: app stands for
// docker.io/library/app, and no tag is added. Errors are *RefError.
func ParseRef(s string) (Ref, error) {
	r, err := parseRef(s)
	if err != nil {
		return Ref{}, explainRef(s, err)
	}
	return r, nil
}

var errNotRef = errors.New("it is no image reference")

// parseRef says no more of what is wrong than that something is.
func parseRef(s string) (Ref, error) {
	if isHexID(s) && len(s) == 64 {
		return Ref{}, errNotRef
	}
	host, rest := cutHost(s)
	rest, sum, digested := strings.Cut(rest, "@")
	path, tag, tagged := strings.Cut(rest, ":")
	switch {
	case !isHost(host), !isRepository(path), len(path) > maxRepository, tagged && !isTag(tag):
		return Ref{}, errNotRef
	}
	r := Ref{host: host, repo: path, tag: tag}
	if digested {
		var err error
		if r.digest, err = digest.Parse(sum); err != nil {
			return Ref{}, err
		}
	}
	return r, nil
}

// cutHost parts the registry from the rest: what comes before the first slash, if it looks like a host and not
// like a user of Docker's own registry.
func cutHost(s string) (host, rest string) {
	first, after, many := strings.Cut(s, "/")
	switch {
	case !many:
		return dockerHost, officialPrefix + s
	case first == "index.docker.io":
		first = dockerHost
	case first != "localhost" && !strings.ContainsAny(first, ".:") && strings.ToLower(first) == first:
		return dockerHost, s
	}
	if first == dockerHost && !strings.Contains(after, "/") {
		after = officialPrefix + after
	}
	return first, after
}

const (
	dockerHost     = "docker.io"
	officialPrefix = "library/"
)

// isHost reports whether s is a domain name or an address, and perhaps a port.
func isHost(s string) bool {
	name, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		name, port = s[:i], s[i+1:]
		if port == "" || !consists(port, isDigit) {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && consists(inner, func(c byte) bool { return c == ':' || isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' })
	}
	for part := range strings.SplitSeq(name, ".") {
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' || !consists(part, func(c byte) bool { return c == '-' || isDigit(c) || isLetter(c) }) {
			return false
		}
	}
	return true
}

// isRepository reports whether s is parts of lower-case letters and digits, with a dot, one or two underscores or
// dashes between them, and slashes between the parts.
func isRepository(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if !isComponent(part) {
			return false
		}
	}
	return true
}

func isComponent(part string) bool {
	word := func(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'z' }
	for {
		end := strings.IndexFunc(part, func(r rune) bool { return r >= 0x80 || !word(byte(r)) })
		if end < 0 {
			return part != ""
		}
		if end == 0 {
			return false
		}
		part = part[end:]
		rest := strings.TrimLeft(part, "._-")
		switch sign := part[:len(part)-len(rest)]; {
		case sign == ".", sign == "_", sign == "__", sign != "" && strings.Trim(sign, "-") == "":
		default:
			return false
		}
		part = rest
	}
}

func isTag(tag string) bool {
	return tag != "" && len(tag) <= 128 && tag[0] != '.' && tag[0] != '-' &&
		consists(tag, func(c byte) bool { return c == '.' || c == '-' || c == '_' || isDigit(c) || isLetter(c) })
}

// isHexID reports whether s is an image id or the beginning of one.
func isHexID(s string) bool {
	return s != "" && len(s) <= 64 && consists(s, func(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' })
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// consists reports whether all bytes of s are of a kind.
func consists(s string, kind func(byte) bool) bool {
	for i := range len(s) {
		if !kind(s[i]) {
			return false
		}
	}
	return true
}

// name is the reference without tag and digest, in the form that is given.
func (r Ref) name() string { return r.host + "/" + r.repo }

func (r Ref) suffix() string {
	text := ""
	if r.tag != "" {
		text += ":" + r.tag
	}
	if r.digest != "" {
		text += "@" + r.digest.String()
	}
	return text
}

// String is the full reference: docker.io/library/app:v1.
func (r Ref) String() string {
	if r.IsZero() {
		return ""
	}
	return r.name() + r.suffix()
}

// Familiar is the short form that Docker shows: app:v1.
func (r Ref) Familiar() string {
	if r.IsZero() {
		return ""
	}
	return r.familiarName() + r.suffix()
}

func (r Ref) familiarName() string {
	if r.host != "docker.io" {
		return r.name()
	}
	short, official := strings.CutPrefix(r.repo, "library/")
	if official && !strings.Contains(short, "/") {
		return short
	}
	return r.repo
}

// FamiliarName is the short form without tag and digest: app.
func (r Ref) FamiliarName() string {
	if r.IsZero() {
		return ""
	}
	return r.familiarName()
}

// Host is the registry: docker.io, localhost:5000.
func (r Ref) Host() string { return r.host }

// Repository is the path within the registry: library/app.
func (r Ref) Repository() string { return r.repo }

// Tag is the tag, or empty.
func (r Ref) Tag() string { return r.tag }

// Digest is the digest, or empty.
func (r Ref) Digest() digest.Digest { return r.digest }

// IsZero reports whether r names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// WithTag is the same repository with another tag and no digest.
func (r Ref) WithTag(tag string) (Ref, error) { return ParseRef(r.name() + ":" + tag) }

// WithDefaultTag adds the tag latest where there is neither tag nor digest.
func (r Ref) WithDefaultTag() Ref {
	if !r.IsZero() && r.tag == "" && r.digest == "" {
		r.tag = defaultTag
	}
	return r
}
