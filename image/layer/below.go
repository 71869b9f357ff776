package layer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// below are the directories that a directory lies on, the top one first, as far as
// they show through. Overlayfs copies a file up before it is given another name,
// another owner or another mode, and what has been copied may still be what it
// was. BuildKit leaves such files out, so that a new name for a file below is a
// file of its own.
type below []string

// of gives what a directory in one of these directories lies on.
func (l below) of(it *item) (below, error) {
	var out below
	if it.opaque {
		return nil, nil
	}
	for _, dir := range l {
		var st unix.Stat_t
		name := filepath.Join(dir, it.name)
		err := unix.Lstat(name, &st)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look below: %w", err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			break // a whiteout, or a file: neither lets anything through
		}
		out = append(out, name)
		if opaque, err := isOpaque(name); opaque || err != nil {
			return out, err
		}
	}
	return out, nil
}

func isOpaque(dir string) (bool, error) {
	for _, prefix := range []string{trustedOverlay, userOverlay} {
		value, err := pathAttribute(dir, prefix+"opaque")
		if err != nil || value == "y" {
			return value == "y", err
		}
	}
	return false, nil
}

// find looks for the file of an item.
func (l below) find(it *item, st *unix.Stat_t) (name string, err error) {
	for _, dir := range l {
		name := filepath.Join(dir, it.name)
		switch err := unix.Lstat(name, st); {
		case err == unix.ENOENT:
			continue
		case err != nil:
			return "", fmt.Errorf("look below: %w", err)
		case isWhiteout(st):
			return "", nil
		}
		return name, nil
	}
	return "", nil
}

// holds reports whether an item that is no directory is the same file below: in all
// that a layer says of it, its time to the last digit and, where the last digits have
// been lost, its bytes, which data are if it is not large.
func (l below) holds(it *item, data []byte) (bool, error) {
	if it.kind == unix.DT_DIR || isWhiteout(&it.st) {
		return false, nil
	}
	var st unix.Stat_t
	name, err := l.find(it, &st)
	if err != nil || name == "" {
		return false, err
	}
	it.linked = st.Nlink > 1
	where, note := name, ownerNote
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		where, note = filepath.Dir(name), linksNote
	}
	owner, err := pathAttribute(where, note)
	if err != nil && !errors.Is(err, unix.EPERM) {
		return false, err
	}
	noteOwner(&st, owner)
	if !sameStat(&st, &it.st) {
		return false, nil
	}
	kept, err := pathAttribute(name, capability)
	if err != nil || kept != it.xattrs[capability] {
		return false, err
	}
	switch {
	case st.Mtim.Nsec != 0:
		return true, nil
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		target, err := readlink(name)
		return target == it.link, err
	case st.Mode&unix.S_IFMT == unix.S_IFREG:
		return sameBytes(name, it, data)
	}
	return true, nil
}

// sameStat compares what a layer says of a file, and its size and time to the last digit.
func sameStat(a, b *unix.Stat_t) bool {
	return a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid && a.Rdev == b.Rdev &&
		a.Size == b.Size && a.Mtim == b.Mtim
}

// pathAttribute reads one attribute of a path, "" if it is not there.
func pathAttribute(path, name string) (string, error) {
	value, err := xattrSource{
		get: func(attr string, buf []byte) (int, error) { return unix.Lgetxattr(path, attr, buf) },
	}.value(name)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return "", nil
	}
	return value, err
}

func readlink(name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlink(name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// sameBytes compares the file at name with an item, whose bytes are data unless it is
// large.
func sameBytes(name string, it *item, data []byte) (bool, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if !it.large {
		theirs := make([]byte, len(data)+1)
		n, err := io.ReadFull(fdReader(fd), theirs)
		if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
			return false, err
		}
		return bytes.Equal(theirs[:n], data), nil
	}
	own, err := openRegular(it.dir.fd, it.name)
	if err != nil {
		return false, err
	}
	defer unix.Close(own)
	a, b := sha256.New(), sha256.New()
	if _, err := io.Copy(a, fdReader(own)); err != nil {
		return false, err
	}
	if _, err := io.Copy(b, fdReader(fd)); err != nil {
		return false, err
	}
	return bytes.Equal(a.Sum(nil), b.Sum(nil)), nil
}
