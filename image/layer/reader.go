package layer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
)

const (
	// streamChunk is how much a stream reads at a time, streamChunks how many such
	// pieces are on their way at most.
	streamChunk  = 128 << 10
	streamChunks = 8
)

// stream reads ahead and hashes in goroutines of its own, and counts what has been
// taken from it.
type stream struct {
	free, read, hashed chan chunk
	stop               context.CancelFunc
	ended              chan struct{}
	sum                hash.Hash
	cur                chunk
	rest               []byte
	n                  int64
}

// chunk is a piece of the stream; err is what follows it.
type chunk struct {
	data []byte
	err  error
}

// newStream starts to read r. Close must be called, and waits until r's last Read
// returns.
func newStream(ctx context.Context, r io.Reader) *stream {
	ctx, stop := context.WithCancel(ctx)
	s := &stream{
		free:   make(chan chunk, streamChunks),
		read:   make(chan chunk, streamChunks),
		hashed: make(chan chunk, streamChunks),
		stop:   stop,
		ended:  make(chan struct{}),
		sum:    sha256.New(),
	}
	for range streamChunks {
		s.free <- chunk{}
	}
	go s.readAll(ctx, r)
	go s.hashAll()
	return s
}

// readAll fills chunks until the first error, io.EOF included.
func (s *stream) readAll(ctx context.Context, r io.Reader) {
	defer close(s.read)
	for {
		var c chunk
		select {
		case c = <-s.free:
		case <-ctx.Done():
			s.read <- chunk{err: ctx.Err()}
			return
		}
		if c.data == nil {
			c.data = make([]byte, streamChunk)
		}
		n, err := io.ReadFull(r, c.data[:cap(c.data)])
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		if err == nil {
			err = ctx.Err()
		}
		s.read <- chunk{data: c.data[:n], err: err}
		if err != nil {
			return
		}
	}
}

// hashAll hashes the chunks and passes them on.
func (s *stream) hashAll() {
	defer close(s.ended)
	defer close(s.hashed)
	for c := range s.read {
		s.sum.Write(c.data)
		s.hashed <- c
	}
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	s.n += int64(n)
	return n, nil
}

// next moves on to the next chunk.
func (s *stream) next() error {
	if s.cur.err != nil {
		return s.cur.err
	}
	if s.cur.data != nil {
		s.free <- s.cur
	}
	s.cur = <-s.hashed
	s.rest = s.cur.data
	if len(s.rest) == 0 {
		return s.cur.err
	}
	return nil
}

// finish reads to the end and returns what Digests says of the bytes.
func (s *stream) finish() (Digests, error) {
	for {
		s.n += int64(len(s.rest))
		s.rest = nil
		err := s.next()
		if err == io.EOF {
			<-s.ended
			return Digests{DiffID: sumDigest(s.sum), Size: s.n}, nil
		}
		if err != nil {
			return Digests{}, err
		}
	}
}

// Close stops the goroutines and waits for them.
func (s *stream) Close() {
	s.stop()
	for range s.hashed { // until the reader has seen that
	}
	<-s.ended
}

// tarReader reads the entries of a layer tar that count: pax global headers and the
// notes of aufs are passed over.
type tarReader struct {
	tar *tar.Reader
	// offset returns how many bytes of the tar have been read.
	offset func() int64
}

// next returns the next entry, or io.EOF. It says nothing about the digest of a
// file, whose body is read from r.tar.
func (r *tarReader) next() (Entry, error) {
	for {
		h, err := r.tar.Next()
		if err == io.EOF {
			return Entry{}, err
		}
		if err != nil && err != tar.ErrInsecurePath { // names are our own concern
			return Entry{}, fmt.Errorf("read tar: %w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		e, err := r.entry(h)
		if err == errIgnored {
			continue
		}
		if err != nil {
			return Entry{}, fmt.Errorf("read tar: entry %q: %w", h.Name, err)
		}
		return e, nil
	}
}

// errIgnored marks an entry that means nothing in a layer.
var errIgnored = errors.New("entry without meaning")

// entry makes an Entry of a header.
func (r *tarReader) entry(h *tar.Header) (Entry, error) {
	name, err := cleanName(h.Name)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{
		Name:    name,
		Type:    h.Typeflag,
		Mode:    h.Mode,
		UID:     h.Uid,
		GID:     h.Gid,
		Size:    h.Size,
		ModTime: time.Unix(h.ModTime.Unix(), int64(h.ModTime.Nanosecond())).UTC(),
		Xattrs:  headerXattrs(h),
	}
	if err := reserved(&e); err != nil {
		return Entry{}, err
	}
	switch h.Typeflag {
	case tar.TypeCont, tar.TypeGNUSparse:
		e.Type = tar.TypeReg
	case tar.TypeLink:
		if e.Linkname, err = cleanName(h.Linkname); err != nil {
			return Entry{}, fmt.Errorf("hard link to %q: %w", h.Linkname, err)
		}
	case tar.TypeSymlink:
		e.Linkname = h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		e.Devmajor, e.Devminor = h.Devmajor, h.Devminor
	}
	if e.marker() {
		e = Entry{Name: name, Type: tar.TypeReg, Mode: e.Mode, UID: e.UID, GID: e.GID, ModTime: e.ModTime}
	}
	if err := canonical(&e); err != nil {
		return Entry{}, err
	}
	if e.Type == tar.TypeReg {
		e.Offset = r.offset()
	}
	if sparse(h) {
		e.Offset = -1
	}
	return e, nil
}

// cleanName makes a tar's name relative and clean. It refuses "..": no tar in
// earnest has it.
func cleanName(name string) (string, error) {
	if checkShape(name) == nil {
		return name, nil
	}
	var kept []string
	for c := range strings.SplitSeq(name, "/") {
		switch c {
		case "", ".":
			continue
		case "..":
			return "", errors.New(`".." in a name could lead out of the layer`)
		}
		kept = append(kept, c)
	}
	if len(kept) == 0 {
		return ".", nil
	}
	name = strings.Join(kept, "/")
	return name, checkShape(name)
}

// reserved checks the use of names that begin with ".wh.".
func reserved(e *Entry) error {
	dir, base := splitName(e.Name)
	for c := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(c, whiteoutMetaPrefix) {
			return errIgnored
		}
		if strings.HasPrefix(c, whiteoutPrefix) {
			return errors.New("a whiteout is no directory")
		}
	}
	if base == opaqueMarker || !strings.HasPrefix(base, whiteoutPrefix) {
		return nil
	}
	if strings.HasPrefix(base, whiteoutMetaPrefix) {
		return errIgnored
	}
	switch base[len(whiteoutPrefix):] {
	case "", ".", "..":
		return errors.New("a whiteout of no name")
	}
	return nil
}

// headerXattrs returns the attributes of a header that belong in an image.
func headerXattrs(h *tar.Header) map[string]string {
	var kept map[string]string
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || !KeepXattr(name) {
			continue
		}
		if kept == nil {
			kept = make(map[string]string)
		}
		kept[name] = value
	}
	return kept
}

// sparse reports whether a file's bytes do not lie in the tar in one piece.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}
