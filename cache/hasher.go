package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"strconv"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
)

// schema is hashed into every key. A change to the framing below, or to what a field of a key means, must change it.
const schema = "ocibuild cache key 1"

// maxTrailValue is the longest value, in bytes, that a Trail holds as it is.
const maxTrailValue = 200

// Key says what was asked: the SHA-256, in lower-case hex, of the named fields that went into a Hasher.
type Key string

// valid reports whether k has the form of a key, and so is safe as a file name.
func (k Key) valid() bool {
	return isHex(string(k))
}

// Field is one named value of a key, as a person may read it.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Trail lists the fields that went into a key, in their order. A value longer than 200 bytes stands there as its digest and
// length; one that is not UTF-8 is quoted as Go quotes it.
type Trail []Field

// Hasher makes a Key out of named fields. Names, values, their lengths and their kinds are all hashed, so that no two
// different sequences of calls give the same key. A Hasher is for one goroutine.
type Hasher struct {
	sum   hash.Hash
	trail Trail
	buf   []byte
}

// NewHasher returns a Hasher for keys of one kind ("run", "copy", …). Keys of different kinds never meet.
func NewHasher(kind string) *Hasher {
	h := &Hasher{sum: sha256.New()}
	h.frame('v', schema)
	h.frame('k', kind)
	return h
}

// String adds a text.
func (h *Hasher) String(name, value string) {
	h.frame('n', name)
	h.frame('s', value)
	h.record(name, value)
}

// Strings adds a list of texts, whose order counts. A nil list and an empty one are the same.
func (h *Hasher) Strings(name string, values []string) {
	h.frame('n', name)
	h.frame('l', strconv.Itoa(len(values)))
	for _, v := range values {
		h.frame('s', v)
	}
	h.record(name, listText(values))
}

// Digest adds the digest of something. An empty digest is a value too.
func (h *Hasher) Digest(name string, d digest.Digest) {
	h.frame('n', name)
	h.frame('d', string(d))
	h.record(name, string(d))
}

// Bool adds a truth value.
func (h *Hasher) Bool(name string, value bool) {
	h.frame('n', name)
	h.frame('b', strconv.FormatBool(value))
	h.record(name, strconv.FormatBool(value))
}

// Int adds a number.
func (h *Hasher) Int(name string, value int64) {
	h.frame('n', name)
	h.frame('i', strconv.FormatInt(value, 10))
	h.record(name, strconv.FormatInt(value, 10))
}

// Sum returns the key of the fields so far, and their trail. More fields may follow it.
func (h *Hasher) Sum() (Key, Trail) {
	return Key(hex.EncodeToString(h.sum.Sum(nil))), append(Trail(nil), h.trail...)
}

// frame hashes one value with its kind and its length.
func (h *Hasher) frame(kind byte, value string) {
	h.buf = append(h.buf[:0], kind)
	h.buf = binary.BigEndian.AppendUint64(h.buf, uint64(len(value)))
	h.buf = append(h.buf, value...)
	h.sum.Write(h.buf)
}

// record appends a field to the trail in the form that Trail describes.
func (h *Hasher) record(name, value string) {
	h.trail = append(h.trail, Field{Name: legible(name), Value: legible(value)})
}

// legible shortens and quotes a value so that JSON keeps it as it is.
func legible(s string) string {
	if len(s) > maxTrailValue {
		return fmt.Sprintf("%s (%d bytes)", digest.FromString(s), len(s))
	}
	if !utf8.ValidString(s) {
		return strconv.QuoteToASCII(s)
	}
	return s
}

// listText writes a list as JSON, the form that Dockerfiles use for lists.
func listText(values []string) string {
	if len(values) == 0 {
		return "[]"
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = v
		if !utf8.ValidString(v) {
			quoted[i] = strconv.QuoteToASCII(v)
		}
	}
	text, err := json.Marshal(quoted)
	if err != nil {
		panic("internal error: marshal strings: " + err.Error())
	}
	return string(text)
}

// isHex reports whether s is 64 lower-case hexadecimal digits.
func isHex(s string) bool {
	if len(s) != 2*sha256.Size {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
