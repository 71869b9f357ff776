package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// summariesFile remembers the facts of manifests and the entries of indexes,
// so that a list of a thousand images reads one file and not two thousand. A
// line has a CRC-32C of summariesSchema and the rest in eight digits, the
// digest, JSON of what is remembered, and after a tab that of a manifest's
// details, with blanks between. Lines are only ever added, a damaged
// one is as good as none, and the file may be removed at any time.
const summariesFile = "cache/summaries"

// summariesSchema changes with what a line holds, so that lines of another
// version count as damaged.
const summariesSchema = "1 "

// maxSummaries bounds the file; one that is larger is begun anew.
const maxSummaries = 64 << 20

// remembered is the content of a line: the facts of a manifest, or what an
// index says.
type remembered struct {
	Facts       *Facts               `json:"f,omitempty"`
	Entries     []ocispec.Descriptor `json:"e,omitempty"`
	Annotations map[string]string    `json:"a,omitempty"`
}

// lineSum is the checksum of a line.
func lineSum(rest []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(summariesSchema), castagnoli), castagnoli, rest)
}

// memo reads documents through the file. It is used by one goroutine.
type memo struct {
	store *Store
	lines map[digest.Digest][]byte // JSON, not yet decoded
	known map[digest.Digest]remembered
	size  int64
	fresh bytes.Buffer // lines to add
	table []Reference  // read once
}

// entries lists the table as it was when it was first asked for.
func (m *memo) entries(ctx context.Context) ([]Reference, error) {
	if m.table != nil {
		return m.table, nil
	}
	table, err := m.store.entries(ctx)
	m.table = table
	return table, err
}

func (s *Store) openMemo() *memo {
	m := &memo{store: s, known: make(map[digest.Digest]remembered)}
	info, err := os.Stat(s.path(summariesFile))
	if err != nil || info.Size() > maxSummaries || s.detours.Reread {
		return m
	}
	text, err := os.ReadFile(s.path(summariesFile))
	if err != nil {
		return m
	}
	m.size = int64(len(text))
	m.lines = make(map[digest.Digest][]byte, bytes.Count(text, []byte{'\n'}))
	for line := range bytes.Lines(text) {
		sum, rest, _ := bytes.Cut(bytes.TrimSuffix(line, []byte{'\n'}), []byte{' '})
		if want, err := strconv.ParseUint(string(sum), 16, 32); err != nil || lineSum(rest) != uint32(want) {
			continue
		}
		name, body, _ := bytes.Cut(rest, []byte{' '})
		m.lines[digest.Digest(name)] = body
	}
	return m
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// document gives the facts of a manifest or the entries of an index, and adds
// them to the file when it has not had them.
func (m *memo) document(ctx context.Context, desc ocispec.Descriptor) (remembered, error) {
	if r, ok := m.known[desc.Digest]; ok {
		return r, nil
	}
	r, ok := m.decode(desc.Digest)
	if !ok {
		var err error
		if r, err = m.read(ctx, desc); err != nil {
			return r, err
		}
		m.remember(desc.Digest, r)
	}
	m.known[desc.Digest] = r
	return r, nil
}

// decode reads a line.
func (m *memo) decode(d digest.Digest) (r remembered, ok bool) {
	line, ok := m.lines[d]
	if !ok {
		return r, false
	}
	head, rest, _ := bytes.Cut(line, []byte{'\t'})
	if json.Unmarshal(head, &r) != nil {
		return remembered{}, false
	}
	if r.Facts != nil {
		r.Facts.details = &details{raw: rest}
	}
	return r, true
}

func (m *memo) read(ctx context.Context, desc ocispec.Descriptor) (remembered, error) {
	doc, err := readDocument(ctx, m.store, desc)
	if err != nil {
		return remembered{}, err
	}
	if doc.index != nil {
		return remembered{Entries: doc.index.Manifests, Annotations: doc.index.Annotations}, nil
	}
	facts, err := readFacts(ctx, m.store, desc, doc.manifest)
	return remembered{Facts: facts}, err
}

func (m *memo) remember(d digest.Digest, r remembered) {
	rest := append([]byte(d+" "), mustEncode(r)...)
	if r.Facts != nil {
		rest = append(append(rest, '\t'), mustEncode(r.Facts.details)...)
	}
	fmt.Fprintf(&m.fresh, "%08x %s\n", lineSum(rest), rest)
}

func mustEncode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("internal error: encode summary: " + err.Error())
	}
	return text
}

// mayMention reports whether what is remembered of a document may hold one of
// the digests. It is quick.
func (m *memo) mayMention(d digest.Digest, any ...digest.Digest) bool {
	line, ok := m.lines[d]
	if !ok {
		return true
	}
	return slices.ContainsFunc(any, func(a digest.Digest) bool { return bytes.Contains(line, []byte(a)) })
}

// save adds what is new to the file. Nothing depends on it: a store that
// cannot be written to is listed all the same.
func (m *memo) save() {
	if m.fresh.Len() == 0 {
		return
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if m.size+int64(m.fresh.Len()) > maxSummaries {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(m.store.path(summariesFile), flags, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	// The line break ends a line that somebody did not finish.
	_ = m.store.disk.write(f, append([]byte{'\n'}, m.fresh.Bytes()...))
	m.fresh.Reset()
}
