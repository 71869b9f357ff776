package layer

import (
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Marker names of the OCI image layer format.
const (
	whiteoutPrefix     = ".wh."
	whiteoutMetaPrefix = ".wh..wh."
	opaqueMarker       = ".wh..wh..opq"
)

// Entry is one member of a layer tar.
type Entry struct {
	// Name is relative and clean, without a slash at either end; any bytes but NUL.
	// The root directory itself is ".".
	Name string
	// Type is one of tar.TypeReg, TypeDir, TypeSymlink, TypeLink, TypeChar, TypeBlock and TypeFifo.
	Type byte
	// Mode holds the permission bits and setuid, setgid and sticky (07777).
	Mode     int64
	UID, GID int
	// Size is the length of a regular file, and 0 for everything else.
	Size    int64
	ModTime time.Time
	// Linkname is the text of a symbolic link, or the Name that a hard link shares its file with.
	Linkname           string
	Devmajor, Devminor int64
	Xattrs             map[string]string
	// Digest is the SHA-256 of a regular file's bytes, and empty for everything else.
	Digest digest.Digest
	// Offset is where a regular file's bytes start in the uncompressed tar. It is -1
	// for a sparse member, whose bytes do not lie there in one piece.
	Offset int64
}

// Whiteout returns the path that the entry deletes, if it is a whiteout.
func (e *Entry) Whiteout() (target string, ok bool) {
	dir, base := splitName(e.Name)
	name, ok := strings.CutPrefix(base, whiteoutPrefix)
	if !ok || base == opaqueMarker {
		return "", false
	}
	return joinName(dir, name), true
}

// Opaque returns the directory whose lower content the entry hides, if it is an
// opaque marker. The root is ".".
func (e *Entry) Opaque() (dir string, ok bool) {
	dir, base := splitName(e.Name)
	if base != opaqueMarker {
		return "", false
	}
	if dir == "" {
		return ".", true
	}
	return dir, true
}

// marker reports whether the entry is a whiteout or an opaque marker.
func (e *Entry) marker() bool {
	_, base := splitName(e.Name)
	return strings.HasPrefix(base, whiteoutPrefix)
}

// splitName splits a clean name into its directory ("" at the top) and last component.
func splitName(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

// joinName joins a directory ("" or "." is the root) and a plain name.
func joinName(dir, base string) string {
	if dir == "" || dir == "." {
		return base
	}
	return dir + "/" + base
}

// Digests are the identities of a layer.
type Digests struct {
	// DiffID is the SHA-256 of the uncompressed tar. Writer leaves it empty: what
	// receives the stream hashes it.
	DiffID digest.Digest
	// Content identifies what the layer holds, modification times left out.
	Content digest.Digest
	// Size is the length of the uncompressed tar.
	Size int64
}

// TOC is a layer's table of contents, in tar order.
type TOC struct {
	Entries []Entry
}
