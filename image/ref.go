package image

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"
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
	if r, ok := parsePlainRef(s); ok {
		return r, nil
	}
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Ref{}, explainRef(s, err)
	}
	r := Ref{host: reference.Domain(named), repo: reference.Path(named)}
	if tagged, ok := named.(reference.Tagged); ok {
		r.tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		r.digest = digested.Digest()
	}
	return r, nil
}

// parsePlainRef reads the references that most are: a registry with a dot or a
// port, a repository of plain words, a tag. It is not ok for all others, which
// are not wrong for that. A table of a thousand names is read with it in a tenth
// of the time.
func parsePlainRef(s string) (r Ref, ok bool) {
	if len(s) > maxRepository {
		return Ref{}, false
	}
	path := s
	if colon := strings.LastIndexByte(s, ':'); colon > strings.LastIndexByte(s, '/') {
		path, r.tag = s[:colon], s[colon+1:]
		if !plainTag(r.tag) {
			return Ref{}, false
		}
	}
	host, rest, many := strings.Cut(path, "/")
	if !many || !plainWords(rest) {
		return Ref{}, false
	}
	if !plainHost(host) || host == "docker.io" && !strings.Contains(rest, "/") {
		return Ref{}, false
	}
	r.host, r.repo = host, rest
	return r, true
}

// plainHost reports whether s has a dot or a port, and nothing that Docker
// reads as something else.
func plainHost(s string) bool {
	name, port, hasPort := strings.Cut(s, ":")
	switch {
	case !plainWords(name) || strings.ContainsAny(name, "/_"), name == "index.docker.io":
		return false
	case hasPort:
		return port != "" && strings.Trim(port, "0123456789") == "" && name != "docker.io"
	}
	return strings.Contains(name, ".")
}

// plainWords reports whether s has lower-case letters and digits alone, with
// single dots, dashes, underscores and slashes between them.
func plainWords(s string) bool {
	between := true
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			between = false
		case !between && (c == '.' || c == '-' || c == '_' || c == '/'):
			between = true
		default:
			return false
		}
	}
	return !between
}

func plainTag(tag string) bool {
	for i := range len(tag) {
		c := tag[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && (i == 0 || c != '.' && c != '-' && c != '_') {
			return false
		}
	}
	return tag != "" && len(tag) <= 128
}

// hexID is an image id or the beginning of one.
var hexID = regexp.MustCompile(`^[0-9a-f]{1,64}$`)

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
