package rootfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Dirent is one name in a directory.
type Dirent struct {
	Name string
	// Type is the DT_ constant that the file system gives, DT_UNKNOWN if it gives none.
	Type uint8
}

// List returns what is in the directory fd, sorted by name. The descriptor must be
// at the start of the directory.
func List(fd int) ([]Dirent, error) {
	var out []Dirent
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			break
		}
		out = appendDirents(out, buf[:n])
	}
	slices.SortFunc(out, func(a, b Dirent) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// appendDirents appends what getdents64 put into buf: inode (8 bytes), offset (8),
// record length (2), type (1), name and zero bytes.
func appendDirents(out []Dirent, buf []byte) []Dirent {
	const header = 19
	for len(buf) > header {
		length := int(binary.NativeEndian.Uint16(buf[16:]))
		record := buf[:length]
		buf = buf[length:]
		name := record[header:]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		if s := string(name); s != "." && s != ".." {
			out = append(out, Dirent{Name: s, Type: record[18]})
		}
	}
	return out
}

// ReadlinkAt returns the text of the symbolic link name in the directory fd, or of
// fd itself (opened with O_PATH|O_NOFOLLOW) when name is "".
func ReadlinkAt(fd int, name string) (string, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(fd, name, buf)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(buf[:n]), nil
		}
	}
}

// RemoveAt removes name in the directory fd and everything below it; no link is
// followed. It is no error if it is not there.
func RemoveAt(fd int, name string) error {
	err := unix.Unlinkat(fd, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	dir, openErr := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if openErr == unix.ENOTDIR {
		return err // no directory, so unlinkat's word stands
	}
	if openErr != nil {
		return openErr
	}
	entries, err := List(dir)
	for _, e := range entries {
		if err != nil {
			break
		}
		err = RemoveAt(dir, e.Name)
	}
	unix.Close(dir)
	if err != nil {
		return err
	}
	return unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
}

// WalkEntry is one file that Walk comes by.
type WalkEntry struct {
	// Path leads to the file from the root.
	Path string
	// Dir is a descriptor of the directory that holds it, open during the call only;
	// Name is its name there ("." for the root itself).
	Dir  int
	Name string
	Stat unix.Stat_t
}

// Walk calls fn for path and everything below it, sorted, each directory before
// what is in it. Links above path are followed inside the root; path itself and
// what is below are not followed. When fn returns fs.SkipDir for a directory, it
// is not entered.
func (r *Root) Walk(path string, fn func(WalkEntry) error) error {
	dir, base, err := r.Parent(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return walkAt(WalkEntry{Path: strings.Trim(path, "/"), Dir: int(dir.Fd()), Name: base}, fn)
}

func walkAt(e WalkEntry, fn func(WalkEntry) error) error {
	if err := unix.Fstatat(e.Dir, e.Name, &e.Stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "stat", Path: e.Path, Err: err}
	}
	isDir := e.Stat.Mode&unix.S_IFMT == unix.S_IFDIR
	err := fn(e)
	if isDir && errors.Is(err, fs.SkipDir) {
		return nil
	}
	if err != nil || !isDir {
		return err
	}
	fd, err := unix.Openat(e.Dir, e.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: e.Path, Err: err}
	}
	defer unix.Close(fd)
	entries, err := List(fd)
	if err != nil {
		return &fs.PathError{Op: "read", Path: e.Path, Err: err}
	}
	for _, c := range entries {
		child := WalkEntry{Path: c.Name, Dir: fd, Name: c.Name}
		if e.Path != "" && e.Path != "." {
			child.Path = e.Path + "/" + c.Name
		}
		if err := walkAt(child, fn); err != nil {
			return err
		}
	}
	return nil
}
