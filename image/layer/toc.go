package layer

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// tocMagic begins a marshalled TOC; its seventh byte is the version.
const tocMagic = "ocitoc\x01\x00"

// Flags of a marshalled entry: the parts that it has.
const (
	tocDigest = 1 << iota
	tocLinkname
	tocDevice
	tocXattrs
	tocNanos
	tocKnown = tocDigest | tocLinkname | tocDevice | tocXattrs | tocNanos
)

// minEntry is the least number of bytes that an entry takes.
const minEntry = 9

// ErrTOC says that bytes are no table of contents, or a damaged one.
var ErrTOC = errors.New("not a valid table of contents")

// Marshal returns the table in the form that the package comment describes.
func (t *TOC) Marshal() []byte {
	b := make([]byte, 0, len(tocMagic)+len(t.Entries)*96)
	b = append(b, tocMagic...)
	b = binary.AppendUvarint(b, uint64(len(t.Entries)))
	for i := range t.Entries {
		b = appendEntry(b, &t.Entries[i])
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func appendEntry(b []byte, e *Entry) []byte {
	flags := entryFlags(e)
	b = append(b, flags, e.Type)
	b = appendString(b, e.Name)
	b = binary.AppendUvarint(b, uint64(e.Mode))
	b = binary.AppendUvarint(b, uint64(e.UID))
	b = binary.AppendUvarint(b, uint64(e.GID))
	b = binary.AppendUvarint(b, uint64(e.Size))
	b = binary.AppendVarint(b, e.Offset)
	b = binary.AppendVarint(b, e.ModTime.Unix())
	if flags&tocNanos != 0 {
		b = binary.AppendUvarint(b, uint64(e.ModTime.Nanosecond()))
	}
	if flags&tocDigest != 0 {
		var err error
		if b, err = hex.AppendDecode(b, []byte(e.Digest[len(digestPrefix):])); err != nil {
			panic("internal error: entry with a malformed digest: " + err.Error())
		}
	}
	if flags&tocLinkname != 0 {
		b = appendString(b, e.Linkname)
	}
	if flags&tocDevice != 0 {
		b = binary.AppendUvarint(b, uint64(e.Devmajor))
		b = binary.AppendUvarint(b, uint64(e.Devminor))
	}
	if flags&tocXattrs != 0 {
		b = appendXattrs(b, e.Xattrs)
	}
	return b
}

func entryFlags(e *Entry) byte {
	var flags byte
	if e.Digest != "" {
		flags |= tocDigest
	}
	if e.Linkname != "" {
		flags |= tocLinkname
	}
	if e.Devmajor != 0 || e.Devminor != 0 {
		flags |= tocDevice
	}
	if len(e.Xattrs) > 0 {
		flags |= tocXattrs
	}
	if e.ModTime.Nanosecond() != 0 {
		flags |= tocNanos
	}
	return flags
}

// UnmarshalTOC reads what Marshal wrote. The error is an ErrTOC when the bytes are
// damaged, of another version, or no table at all.
func UnmarshalTOC(data []byte) (*TOC, error) {
	if len(data) < len(tocMagic)+4 || string(data[:len(tocMagic)]) != tocMagic {
		return nil, fmt.Errorf("%w: unknown header", ErrTOC)
	}
	body, sum := data[:len(data)-4], data[len(data)-4:]
	if crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(sum) {
		return nil, fmt.Errorf("%w: wrong checksum", ErrTOC)
	}
	d := &tocDecoder{rest: string(body[len(tocMagic):])} // names are cut from this one string
	count := d.uvarint()
	if count > uint64(len(d.rest)/minEntry) {
		return nil, fmt.Errorf("%w: %d entries in %d bytes", ErrTOC, count, len(d.rest))
	}
	d.digests.Grow(int(count) * len(digestPrefix+sha256Zero))
	t := &TOC{Entries: make([]Entry, count)}
	for i := range t.Entries {
		d.entry(&t.Entries[i])
	}
	if d.bad || d.rest != "" {
		return nil, fmt.Errorf("%w: malformed entries", ErrTOC)
	}
	return t, nil
}

// sha256Zero has the length of a SHA-256 in hexadecimal.
const sha256Zero = "0000000000000000000000000000000000000000000000000000000000000000"

// tocDecoder takes a table apart. The first malformed value sets bad and empties
// rest, so that whatever is read afterwards is zero.
type tocDecoder struct {
	rest string
	bad  bool
	// digests backs the text of all digests, so that they are one allocation.
	digests strings.Builder
}

func (d *tocDecoder) fail() { d.bad, d.rest = true, "" }

func (d *tocDecoder) entry(e *Entry) {
	flags := d.byte()
	if flags&^tocKnown != 0 {
		d.fail()
	}
	e.Type = d.byte()
	e.Name = d.string()
	e.Mode = d.int63()
	e.UID = int(d.int63())
	e.GID = int(d.int63())
	e.Size = d.int63()
	e.Offset = d.varint()
	seconds, nanos := d.varint(), int64(0)
	if flags&tocNanos != 0 {
		nanos = d.int63()
	}
	if nanos >= int64(time.Second) {
		d.fail()
	}
	e.ModTime = time.Unix(seconds, nanos).UTC()
	if flags&tocDigest != 0 {
		e.Digest = d.digest()
	}
	if flags&tocLinkname != 0 {
		e.Linkname = d.string()
	}
	if flags&tocDevice != 0 {
		e.Devmajor, e.Devminor = d.int63(), d.int63()
	}
	if flags&tocXattrs != 0 {
		e.Xattrs = d.xattrs()
	}
}

func (d *tocDecoder) xattrs() map[string]string {
	n := d.uvarint()
	if n > uint64(len(d.rest)/2) {
		d.fail()
		return nil
	}
	xattrs := make(map[string]string, n)
	for range n {
		name := d.string()
		xattrs[name] = d.string()
	}
	return xattrs
}

func (d *tocDecoder) digest() digest.Digest {
	const size = len(sha256Zero) / 2
	if len(d.rest) < size {
		d.fail()
		return ""
	}
	var text [len(digestPrefix) + 2*size]byte
	copy(text[:], digestPrefix)
	const digits = "0123456789abcdef"
	for i := range size {
		text[len(digestPrefix)+2*i] = digits[d.rest[i]>>4]
		text[len(digestPrefix)+2*i+1] = digits[d.rest[i]&15]
	}
	d.rest = d.rest[size:]
	start := d.digests.Len()
	d.digests.Write(text[:])
	return digest.Digest(d.digests.String()[start:])
}

func (d *tocDecoder) byte() byte {
	if d.rest == "" {
		d.fail()
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *tocDecoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

// int63 is a uvarint that fits an int64.
func (d *tocDecoder) int63() int64 {
	v := d.uvarint()
	if v > 1<<63-1 {
		d.fail()
		return 0
	}
	return int64(v)
}

func (d *tocDecoder) varint() int64 {
	u := d.uvarint()
	v := int64(u >> 1)
	if u&1 != 0 {
		v = ^v
	}
	return v
}

func (d *tocDecoder) uvarint() uint64 {
	var v uint64
	for i, shift := 0, uint(0); i < len(d.rest) && i < binary.MaxVarintLen64; i, shift = i+1, shift+7 {
		b := d.rest[i]
		if i == binary.MaxVarintLen64-1 && b > 1 {
			break
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			d.rest = d.rest[i+1:]
			return v
		}
	}
	d.fail()
	return 0
}
