package layer

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// maxName bounds the length of a name, as Linux bounds that of a path.
	maxName = 4095
	// maxID is above every user and group id; it means "leave it" to chown(2).
	maxID = 1<<32 - 1
	// writeBuffer gathers headers and small files into large writes.
	writeBuffer = 256 << 10
)

// Writer writes a layer tar: canonical headers, in the order of the calls. After an
// error it is of no further use. It is for one goroutine.
type Writer struct {
	out     *countingWriter
	tar     *tar.Writer
	copier  *copier
	content *contentHash
	toc     TOC
	keep    func(xattr string) bool
	left    [][]string
}

// countingWriter buffers and counts what passes through it.
type countingWriter struct {
	*bufio.Writer
	n int64
}

// Write counts what the buffer has taken.
func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.n += int64(n)
	return n, err
}

// NewWriter returns a Writer whose tar goes to w.
func NewWriter(w io.Writer) *Writer {
	out := &countingWriter{Writer: bufio.NewWriterSize(w, writeBuffer)}
	return &Writer{out: out, tar: tar.NewWriter(out), copier: newCopier(), content: newContentHash()}
}

// KeepXattrs has the writer leave out every extended attribute that keep is false
// for.
func (w *Writer) KeepXattrs(keep func(name string) bool) { w.keep = keep }

// Write adds a file. body holds the e.Size bytes of a regular file, and may be nil
// where there are none. A digest that e already has is trusted, otherwise it is
// computed. Parts that an entry of its type does not have are left out, and
// the time is cut to whole seconds. A name with a component that begins with
// ".wh." is refused.
func (w *Writer) Write(e Entry, body io.Reader) error {
	err := checkName(e.Name)
	if err == nil {
		err = canonical(&e)
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", e.Name, err)
	}
	e.ModTime = time.Unix(e.ModTime.Unix(), 0).UTC()
	e.Xattrs = w.kept(e.Xattrs)
	if err := w.write(&e, body); err != nil {
		return fmt.Errorf("write %q: %w", e.Name, err)
	}
	return nil
}

// kept gives the attributes that are to be written, all of them or a copy.
func (w *Writer) kept(xattrs map[string]string) map[string]string {
	if w.keep == nil || len(xattrs) == 0 {
		return xattrs
	}
	kept := maps.Clone(xattrs)
	maps.DeleteFunc(kept, func(name, _ string) bool { return !w.keep(name) })
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// Left gives the groups of hard links of which DiffOver has left files out: names
// that are one file in the upper directory, and are not in the layer, or not as one.
func (w *Writer) Left() [][]string { return w.left }

// Whiteout adds the deletion of path in the layers below.
func (w *Writer) Whiteout(path string) error {
	if err := checkName(path); err != nil {
		return fmt.Errorf("write whiteout of %q: %w", path, err)
	}
	dir, base := splitName(path)
	if base == "." {
		return errors.New("write whiteout: the root cannot be deleted")
	}
	return w.marker(joinName(dir, whiteoutPrefix+base))
}

// Opaque hides everything that the layers below have in the directory dir; "" or
// "." is the root.
func (w *Writer) Opaque(dir string) error {
	if dir != "" {
		if err := checkName(dir); err != nil {
			return fmt.Errorf("write opaque marker of %q: %w", dir, err)
		}
	}
	return w.marker(joinName(dir, opaqueMarker))
}

// Mark adds what a file of the name stands for in a layer if it begins with ".wh.":
// it cannot be a file there, and is none in the layers of others. Other names are
// left alone.
func (w *Writer) Mark(name string) (marks bool, err error) {
	dir, base := splitName(name)
	target, marks := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case !marks:
		return false, nil
	case base == opaqueMarker:
		return true, w.Opaque(dir)
	case strings.HasPrefix(target, whiteoutPrefix):
		return true, nil // nobody knows a meaning for it
	}
	return true, w.Whiteout(joinName(dir, target))
}

// marker adds an empty file with a reserved name. Nothing but the name means
// anything, so the rest is zero.
func (w *Writer) marker(name string) error {
	e := Entry{Name: name, Type: tar.TypeReg, ModTime: time.Unix(0, 0).UTC()}
	if err := w.write(&e, nil); err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	return nil
}

// Close ends the tar. It does not close the writer below.
func (w *Writer) Close() (Digests, *TOC, error) {
	err := w.tar.Close()
	if err == nil {
		err = w.out.Flush()
	}
	if err != nil {
		return Digests{}, nil, fmt.Errorf("finish layer: %w", err)
	}
	return Digests{Content: w.content.digest(), Size: w.out.n}, &w.toc, nil
}

// write adds an entry that is canonical.
func (w *Writer) write(e *Entry, body io.Reader) error {
	if err := w.tar.WriteHeader(header(e)); err != nil {
		return err
	}
	if e.Type == tar.TypeReg {
		e.Offset = w.out.n
		if err := w.body(e, body); err != nil {
			return err
		}
	}
	w.content.add(e)
	w.toc.Entries = append(w.toc.Entries, *e)
	return nil
}

func (w *Writer) body(e *Entry, body io.Reader) error {
	if body == nil && e.Size > 0 {
		return errors.New("a regular file without content")
	}
	if e.Size == 0 && body == nil {
		if !e.marker() {
			e.Digest = emptyDigest
		}
		return nil
	}
	sum, err := w.copier.copy(w.tar, body, e.Size, e.Digest == "")
	if err == nil && e.Digest == "" {
		e.Digest = sum
	}
	return err
}

// emptyDigest is the digest of no bytes at all.
const emptyDigest = digest.Digest(digestPrefix + "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

// header returns the tar header of a canonical entry. archive/tar chooses USTAR
// where everything fits and PAX where not.
func header(e *Entry) *tar.Header {
	h := &tar.Header{
		Typeflag: e.Type,
		Name:     e.Name,
		Linkname: e.Linkname,
		Size:     e.Size,
		Mode:     e.Mode,
		Uid:      e.UID,
		Gid:      e.GID,
		ModTime:  e.ModTime,
		Devmajor: e.Devmajor,
		Devminor: e.Devminor,
	}
	if e.Type == tar.TypeDir {
		h.Name += "/"
	}
	for name, value := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string, len(e.Xattrs))
		}
		h.PAXRecords[paxXattr+name] = value
	}
	return h
}

// paxXattr begins the PAX keys of extended attributes.
const paxXattr = "SCHILY.xattr."

// canonical checks all of an entry but its name, and removes what one of its type
// does not have.
func canonical(e *Entry) error { //nolint:cyclop // flat: a case a type
	if e.Name == "." && e.Type != tar.TypeDir {
		return errors.New("the root must be a directory")
	}
	if e.UID < 0 || e.GID < 0 || e.UID >= maxID || e.GID >= maxID {
		return fmt.Errorf("owner %d:%d is out of range", e.UID, e.GID)
	}
	e.Mode &= 0o7777
	e.Offset = 0
	if e.Type != tar.TypeReg {
		e.Size, e.Digest = 0, ""
	}
	if e.Type != tar.TypeChar && e.Type != tar.TypeBlock {
		e.Devmajor, e.Devminor = 0, 0
	}
	switch e.Type {
	case tar.TypeReg:
		return canonicalFile(e)
	case tar.TypeLink:
		e.Xattrs = nil
		return checkName(e.Linkname)
	case tar.TypeSymlink:
		if e.Linkname == "" || strings.IndexByte(e.Linkname, 0) >= 0 {
			return fmt.Errorf("symbolic link to %q", e.Linkname)
		}
		return nil
	case tar.TypeDir, tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		e.Linkname = ""
	default:
		return fmt.Errorf("unsupported file type %q", e.Type)
	}
	return nil
}

func canonicalFile(e *Entry) error {
	e.Linkname = ""
	if e.Size < 0 {
		return fmt.Errorf("size %d is out of range", e.Size)
	}
	if e.Digest == "" {
		return nil
	}
	if !isSHA256(e.Digest) {
		return fmt.Errorf("digest %q is not a SHA-256", e.Digest)
	}
	return nil
}

// isSHA256 is digest.Validate for the one algorithm of layers, without its regular
// expression, which showed in profiles.
func isSHA256(d digest.Digest) bool {
	hex, ok := strings.CutPrefix(string(d), digestPrefix)
	if !ok || len(hex) != 2*sha256.Size {
		return false
	}
	for i := range len(hex) {
		if c := hex[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// checkName makes sure that a name is relative, clean and not reserved.
func checkName(name string) error {
	if err := checkShape(name); err != nil {
		return err
	}
	for c := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(c, whiteoutPrefix) {
			return fmt.Errorf("names that begin with %q are reserved for whiteouts in image layers", whiteoutPrefix)
		}
	}
	return nil
}

// checkShape makes sure that a name is relative and clean.
func checkShape(name string) error {
	if name == "." {
		return nil
	}
	if len(name) > maxName {
		return fmt.Errorf("name is longer than %d bytes", maxName)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return errors.New("name contains a zero byte")
	}
	for c := range strings.SplitSeq(name, "/") {
		if c == "" || c == "." || c == ".." {
			return errors.New("name is not a clean relative path")
		}
	}
	return nil
}
