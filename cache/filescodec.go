package cache

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxPath bounds a remembered path.
const maxPath = 1 << 16

// entrySize is the size of an entry after its path.
const entrySize = 5*8 + 4 + 1 + 32

// encodeFiles writes the body of a memo.
func encodeFiles(context string, entries map[string]*entry) []byte {
	size := len(context) + binary.MaxVarintLen64
	for path := range entries {
		size += len(path) + 3 + entrySize
	}
	b := appendText(make([]byte, 0, size), context)
	paths := slices.AppendSeq(make([]string, 0, len(entries)), maps.Keys(entries))
	slices.Sort(paths)
	for _, path := range paths {
		e := entries[path]
		b = appendText(b, path)
		b = binary.LittleEndian.AppendUint64(b, e.stat.Ino)
		b = binary.LittleEndian.AppendUint64(b, e.stat.Dev)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.stat.Size))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.stat.MTimeNs))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.stat.CTimeNs))
		b = binary.LittleEndian.AppendUint32(b, e.stat.Mode)
		b = append(b, e.age)
		b = append(b, e.sum[:]...)
	}
	return b
}

// decodeFiles reads the body of a memo. The entries and the paths of all files share two allocations, which are no larger than they
// must be: those of a large context last as long as the build.
func decodeFiles(context string, body []byte) (map[string]*entry, error) {
	name, rest, ok := cutText(body)
	if !ok || string(name) != context {
		return nil, fmt.Errorf("%w: memo of another context", ErrDamaged)
	}
	var paths strings.Builder
	count, length, err := measureEntries(rest)
	if err != nil {
		return nil, err
	}
	paths.Grow(length)
	slab := make([]entry, 0, count)
	entries := make(map[string]*entry, count)
	for len(rest) > 0 {
		path, after, _ := cutText(rest)
		at := paths.Len()
		paths.Write(path)
		slab = append(slab, decodeEntry(after))
		entries[paths.String()[at:]] = &slab[len(slab)-1]
		rest = after[entrySize:]
	}
	if len(entries) != len(slab) {
		return nil, fmt.Errorf("%w: a path stands twice", ErrDamaged)
	}
	return entries, nil
}

// measureEntries tells how many entries follow each other, and how long their paths are together.
func measureEntries(rest []byte) (count, length int, err error) {
	for len(rest) > 0 {
		path, after, ok := cutText(rest)
		if !ok || len(path) == 0 || len(after) < entrySize {
			return 0, 0, fmt.Errorf("%w: entry is cut short", ErrDamaged)
		}
		count, length = count+1, length+len(path)
		rest = after[entrySize:]
	}
	return count, length, nil
}

// decodeEntry reads the fixed part of an entry.
func decodeEntry(b []byte) entry {
	e := entry{
		stat: Stat{
			Ino:     binary.LittleEndian.Uint64(b),
			Dev:     binary.LittleEndian.Uint64(b[8:]),
			Size:    int64(binary.LittleEndian.Uint64(b[16:])),
			MTimeNs: int64(binary.LittleEndian.Uint64(b[24:])),
			CTimeNs: int64(binary.LittleEndian.Uint64(b[32:])),
			Mode:    binary.LittleEndian.Uint32(b[40:]),
		},
		age: b[44],
	}
	copy(e.sum[:], b[45:])
	return e
}

// appendText writes a text with its length.
func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// cutText reads what appendText wrote and returns what follows it.
func cutText(b []byte) (text, rest []byte, ok bool) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > maxPath || n > uint64(len(b)-used) {
		return nil, nil, false
	}
	return b[used : used+int(n)], b[used+int(n):], true
}
