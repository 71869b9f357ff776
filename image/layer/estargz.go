package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// An eStargz layer is a gzipped tar that can be read from the middle: the bytes of each regular file are gzip members of their own,
// the last file of the tar is a table of contents that says where they are, and a footer says where that is. An image's manifest
// has the digest of the table (https://github.com/containerd/stargz-snapshotter/blob/main/docs/estargz.md).
const (
	// stargzTOC is the name of the table of contents in the tar.
	stargzTOC = "stargz.index.json"
	// stargzLandmark is a file that says that nothing need be fetched ahead.
	stargzLandmark         = ".no.prefetch.landmark"
	stargzPrefetchLandmark = ".prefetch.landmark"
	landmarkContent        = "\x0f"
	// stargzChunk is how much of a file one member holds at most.
	stargzChunk = 4 << 20
)

// stargzEntry is a line of the table of contents.
type stargzEntry struct {
	Name        string            `json:"name"`
	Type        string            `json:"type"`
	Size        int64             `json:"size,omitempty"`
	ModTime     string            `json:"modtime,omitempty"`
	LinkName    string            `json:"linkName,omitempty"`
	Mode        int64             `json:"mode,omitempty"`
	UID         int               `json:"uid,omitempty"`
	GID         int               `json:"gid,omitempty"`
	Uname       string            `json:"userName,omitempty"`
	Gname       string            `json:"groupName,omitempty"`
	Offset      int64             `json:"offset,omitempty"`
	DevMajor    int64             `json:"devMajor,omitempty"`
	DevMinor    int64             `json:"devMinor,omitempty"`
	Xattrs      map[string][]byte `json:"xattrs,omitempty"`
	Digest      digest.Digest     `json:"digest,omitempty"`
	ChunkOffset int64             `json:"chunkOffset,omitempty"`
	ChunkSize   int64             `json:"chunkSize,omitempty"`
	ChunkDigest digest.Digest     `json:"chunkDigest,omitempty"`

	member *piece // where the bytes are
}

// stargz writes one layer.
type stargz struct {
	p     *Packer
	level int
	line  *line
	tar   *tar.Writer
	// member is what has been written to the tar since the last cut, which goes into one gzip member.
	member  bytes.Buffer
	of      []*stargzEntry // the files whose bytes the member under way begins with
	diff    hash.Hash
	size    int64
	entries []*stargzEntry
}

// Write takes a piece of the tar.
func (s *stargz) Write(b []byte) (int, error) {
	s.diff.Write(b)
	s.size += int64(len(b))
	return s.member.Write(b)
}

func (p *Packer) packEStargz(ctx context.Context, w io.Writer, r io.Reader, level int) (Packed, error) {
	s := &stargz{p: p, level: level, line: p.line(ctx, w), diff: sha256.New()}
	s.tar = tar.NewWriter(s)
	err := s.file(&tar.Header{Typeflag: tar.TypeReg, Name: stargzLandmark, Size: int64(len(landmarkContent))}, strings.NewReader(landmarkContent))
	if err == nil {
		err = s.copy(r)
	}
	s.cut()
	if endErr := s.line.end(); err == nil {
		err = endErr
	}
	if err != nil {
		return Packed{}, err
	}
	return s.finish(w)
}

// copy takes over the members of a tar, less those that another eStargz has left in it.
func (s *stargz) copy(r io.Reader) error {
	t := tar.NewReader(r)
	for s.line.going() {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch path.Clean("/" + h.Name) {
		case "/" + stargzTOC, "/" + stargzLandmark, "/" + stargzPrefetchLandmark:
			continue
		}
		if err := s.file(h, t); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
	return nil
}

// file adds a member of the tar, and its lines of the table.
func (s *stargz) file(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeGNUSparse || h.PAXRecords["GNU.sparse.major"]+h.PAXRecords["GNU.sparse.map"] != "" {
		h = dense(h)
	}
	e, err := newStargzEntry(h)
	if err != nil {
		return err
	}
	if err := s.tar.WriteHeader(h); err != nil {
		return err
	}
	if s.member.Len() > stargzChunk {
		s.cut() // directories and links without end
	}
	s.entries = append(s.entries, e)
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	whole := digest.SHA256.Digester()
	first := e
	for offset := int64(0); offset < h.Size; {
		n := min(h.Size-offset, stargzChunk)
		if offset > 0 {
			e = &stargzEntry{Name: h.Name, Type: "chunk", ChunkOffset: offset}
			s.entries = append(s.entries, e)
		}
		if err := s.chunk(e, whole.Hash(), r, n); err != nil {
			return err
		}
		if n == stargzChunk {
			e.ChunkSize = n
		}
		offset += n
	}
	first.Digest = whole.Digest()
	return s.tar.Flush()
}

// chunk begins a member with n bytes of a file.
func (s *stargz) chunk(e *stargzEntry, whole io.Writer, r io.Reader, n int64) error {
	s.cut()
	part := digest.SHA256.Digester()
	if _, err := io.CopyN(io.MultiWriter(s.tar, whole, part.Hash()), r, n); err != nil {
		return err
	}
	e.ChunkDigest = part.Digest()
	s.of = append(s.of, e)
	return nil
}

// cut ends the member under way.
func (s *stargz) cut() {
	if s.member.Len() == 0 {
		return
	}
	in := bytes.Clone(s.member.Bytes())
	s.member.Reset()
	member := s.line.add(func(out []byte) []byte { return s.p.gzipMember(s.level, in, out) })
	for _, e := range s.of {
		e.member = member
	}
	s.of = nil
}

// dense is the header of a sparse file as one that has all its bytes.
func dense(h *tar.Header) *tar.Header {
	d := *h
	d.Typeflag, d.Format, d.PAXRecords = tar.TypeReg, tar.FormatUnknown, map[string]string{}
	for k, v := range h.PAXRecords {
		if !strings.HasPrefix(k, "GNU.sparse.") {
			d.PAXRecords[k] = v
		}
	}
	return &d
}

func newStargzEntry(h *tar.Header) (*stargzEntry, error) {
	e := &stargzEntry{Name: h.Name, Mode: h.Mode, UID: h.Uid, GID: h.Gid, Uname: h.Uname, Gname: h.Gname}
	if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 {
		e.ModTime = h.ModTime.UTC().Round(time.Second).Format(time.RFC3339)
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, paxXattr); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string][]byte{}
			}
			e.Xattrs[name] = []byte(v)
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		e.Type, e.Size = "reg", h.Size
	case tar.TypeDir:
		e.Type = "dir"
	case tar.TypeSymlink:
		e.Type, e.LinkName = "symlink", h.Linkname
	case tar.TypeLink:
		e.Type, e.LinkName = "hardlink", h.Linkname
	case tar.TypeChar:
		e.Type, e.DevMajor, e.DevMinor = "char", h.Devmajor, h.Devminor
	case tar.TypeBlock:
		e.Type, e.DevMajor, e.DevMinor = "block", h.Devmajor, h.Devminor
	case tar.TypeFifo:
		e.Type = "fifo"
	default:
		return nil, fmt.Errorf("unsupported file type %q", h.Typeflag)
	}
	return e, nil
}

// gzipMember appends a whole gzip member to out.
func (p *Packer) gzipMember(level int, in, out []byte) []byte {
	out = append(out, gzipHeader...)
	out = p.deflate(level, nil, in, true, out)
	return gzipTrailer(out, crc32.ChecksumIEEE(in), int64(len(in)))
}

// finish writes the table of contents and the footer.
func (s *stargz) finish(w io.Writer) (Packed, error) {
	for _, e := range s.entries {
		if e.member != nil {
			e.Offset = e.member.offset
		}
	}
	table, err := json.Marshal(struct {
		Version int            `json:"version"`
		Entries []*stargzEntry `json:"entries"`
	}{1, s.entries})
	if err != nil {
		return Packed{}, err
	}
	s.member.Reset()
	err = s.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: stargzTOC, Size: int64(len(table))})
	if err == nil {
		_, err = s.tar.Write(table)
	}
	if err == nil {
		err = s.tar.Close()
	}
	if err == nil {
		_, err = w.Write(append(s.p.gzipMember(s.level, s.member.Bytes(), nil), stargzFooter(s.line.offset)...))
	}
	return Packed{DiffID: sumDigest(s.diff), Size: s.size, TOC: digest.FromBytes(table)}, err
}

// stargzFooter is an empty gzip member with a field that says where the table of contents begins.
func stargzFooter(offset int64) []byte {
	field := fmt.Sprintf("%016xSTARGZ", offset)
	b := append([]byte(nil), gzipHeader...)
	b[3] = 4 // there is an extra field
	b = binary.LittleEndian.AppendUint16(b, uint16(4+len(field)))
	b = append(b, 'S', 'G')
	b = binary.LittleEndian.AppendUint16(b, uint16(len(field)))
	b = append(b, field...)
	b = append(b, 1, 0, 0, 0xff, 0xff) // an empty stored block, the last
	return gzipTrailer(b, 0, 0)
}
