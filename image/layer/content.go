package layer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
)

// contentSalt versions the recipe of Digests.Content.
const contentSalt = "ocibuild layer content 1\n"

// contentHash accumulates Digests.Content.
type contentHash struct {
	sum hash.Hash
	buf []byte
}

func newContentHash() *contentHash {
	return &contentHash{sum: sha256.New(), buf: append(make([]byte, 0, 8<<10), contentSalt...)}
}

// add takes in one entry: every field but the times and the place in the tar, each
// framed by its length or self-delimiting.
func (c *contentHash) add(e *Entry) {
	b := appendString(c.buf, e.Name)
	b = append(b, e.Type)
	b = binary.AppendUvarint(b, uint64(e.Mode))
	b = binary.AppendUvarint(b, uint64(e.UID))
	b = binary.AppendUvarint(b, uint64(e.GID))
	b = binary.AppendUvarint(b, uint64(e.Size))
	b = appendString(b, e.Linkname)
	b = binary.AppendUvarint(b, uint64(e.Devmajor))
	b = binary.AppendUvarint(b, uint64(e.Devminor))
	b = appendXattrs(b, e.Xattrs)
	b = appendString(b, string(e.Digest))
	c.buf = b
	if len(b) > 4<<10 {
		c.flush()
	}
}

func (c *contentHash) flush() {
	c.sum.Write(c.buf)
	c.buf = c.buf[:0]
}

func (c *contentHash) digest() digest.Digest {
	c.flush()
	return sumDigest(c.sum)
}

// appendString appends s framed by its length.
func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// appendXattrs appends the number of attributes and each of them, sorted by name.
func appendXattrs(b []byte, xattrs map[string]string) []byte {
	b = binary.AppendUvarint(b, uint64(len(xattrs)))
	if len(xattrs) == 0 {
		return b
	}
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		b = appendString(b, name)
		b = appendString(b, xattrs[name])
	}
	return b
}

// sumDigest returns the digest that a SHA-256 stands at.
func sumDigest(h hash.Hash) digest.Digest {
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return rawDigest(sum[:])
}

// digestPrefix is how the digests of this package begin.
const digestPrefix = "sha256:"

// rawDigest returns the digest with the given SHA-256.
func rawDigest(sum []byte) digest.Digest {
	var text [len(digestPrefix) + 2*sha256.Size]byte
	copy(text[:], digestPrefix)
	hex.Encode(text[len(digestPrefix):], sum)
	return digest.Digest(text[:])
}
