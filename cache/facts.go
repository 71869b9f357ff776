package cache

import (
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
)

// GetFact returns what PutFact kept, and marks it used. A fact is the answer to a question that always has the same answer:
// its key must hold everything that the answer depends on.
func (s *Store) GetFact(kind string, key Key) ([]byte, bool) {
	if !validKind(kind) || !key.valid() {
		return nil, false
	}
	body, err := s.recall(Facts(kind), string(key), "fact")
	return body, err == nil
}

// PutFact keeps a fact. A kind is a short word in lower case that names the question.
func (s *Store) PutFact(kind string, key Key, value []byte) error {
	if !validKind(kind) || !key.valid() {
		return fmt.Errorf("put fact: %.80q of kind %.80q is not a key", string(key), kind)
	}
	if err := writeSealed(s.path(factsDir, kind, string(key)), "fact", value); err != nil {
		return fmt.Errorf("put %s fact %s: %w", kind, key, err)
	}
	return nil
}

// GetTOC returns the table of contents that PutTOC kept for a layer, and marks it used.
func (s *Store) GetTOC(diffID digest.Digest) ([]byte, bool) {
	hex, ok := sha256Hex(diffID)
	if !ok {
		return nil, false
	}
	body, err := s.recall(TOCs, hex, "toc")
	return body, err == nil
}

// PutTOC keeps the table of contents of a layer, bytes that this package does not look into.
func (s *Store) PutTOC(diffID digest.Digest, toc []byte) error {
	hex, ok := sha256Hex(diffID)
	if !ok {
		return fmt.Errorf("put table of contents: %.80q is not a sha256 digest", string(diffID))
	}
	if err := writeSealed(s.path(tocDir, hex), "toc", toc); err != nil {
		return fmt.Errorf("put table of contents %s: %w", diffID, err)
	}
	return nil
}

// validKind reports whether kind is safe as a directory name.
func validKind(kind string) bool {
	for i := range len(kind) {
		if c := kind[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return kind != "" && len(kind) <= 64
}

// sha256Hex returns the digits of a sha256 digest.
func sha256Hex(d digest.Digest) (string, bool) {
	const prefix = "sha256:"
	if len(d) < len(prefix) || d[:len(prefix)] != prefix || !isHex(string(d[len(prefix):])) {
		return "", false
	}
	return string(d[len(prefix):]), true
}

// FactKeys lists the keys of the facts of a kind.
func (s *Store) FactKeys(kind string) ([]Key, error) {
	if !validKind(kind) {
		return nil, fmt.Errorf("list facts: %.80q is no kind", kind)
	}
	entries, err := os.ReadDir(s.path(factsDir, kind))
	if err != nil {
		return nil, ignoreGone(err)
	}
	var keys []Key
	for _, e := range entries {
		if key := Key(e.Name()); key.valid() {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
