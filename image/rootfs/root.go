package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxRetries bounds how often an open is tried again when the kernel says that
// something was renamed meanwhile.
const maxRetries = 128

// Root is a directory that paths are resolved in. It is safe for concurrent use.
type Root struct {
	f *os.File
	// stepwise is set where openat2 cannot be used.
	stepwise bool
}

// Open opens the directory dir as a root; dir itself is trusted.
func Open(dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return FromFile(os.NewFile(uintptr(fd), dir)), nil
}

// FromFile makes a root of an open directory, which it takes over: Close closes
// it. The directory may be that of a detached mount.
func FromFile(f *os.File) *Root {
	r := &Root{f: f}
	fd, err := r.openat2(".", unix.O_PATH|unix.O_DIRECTORY, 0, unix.RESOLVE_IN_ROOT)
	if err != nil {
		r.stepwise = errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM)
		return r
	}
	unix.Close(fd)
	return r
}

// Close closes the root's file descriptor.
func (r *Root) Close() error { return r.f.Close() }

// FD returns the root's file descriptor, which stays the root's.
func (r *Root) FD() int { return int(r.f.Fd()) }

// OpenFile opens a path as os.OpenFile would inside a chroot: links are followed
// inside the root, the last one too unless flags say O_NOFOLLOW.
func (r *Root) OpenFile(path string, flags int, mode os.FileMode) (*os.File, error) {
	fd, err := r.open(path, flags, unixMode(mode))
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Parent opens the directory that holds path and returns the last component,
// which is not looked at: a plain name, or "." when path is the root.
func (r *Root) Parent(path string) (dir *os.File, base string, err error) {
	parent, base := Split(path)
	if base == ".." {
		// What the last component is called is known only once it is resolved.
		real, err := r.Resolve(path)
		if err != nil {
			return nil, "", err
		}
		parent, base = Split(real)
	}
	if base == "" {
		base = "."
	}
	dir, err = r.OpenFile(parent, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return dir, base, err
}

// Stat describes what path leads to.
func (r *Root) Stat(path string) (unix.Stat_t, error) {
	return r.stat(path, unix.O_PATH)
}

// Lstat describes path itself, a symbolic link included.
func (r *Root) Lstat(path string) (unix.Stat_t, error) {
	return r.stat(strings.TrimRight(path, "/"), unix.O_PATH|unix.O_NOFOLLOW)
}

func (r *Root) stat(path string, flags int) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := r.open(path, flags, 0)
	if err != nil {
		return st, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return st, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return st, nil
}

// Readlink returns the text of the symbolic link path.
func (r *Root) Readlink(path string) (string, error) {
	fd, err := r.open(strings.TrimRight(path, "/"), unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text, err := ReadlinkAt(fd, "")
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: path, Err: err}
	}
	return text, nil
}

// ReadFile returns the bytes of the regular file that path leads to, and an error
// when it is anything else or longer than max.
func (r *Root) ReadFile(path string, max int64) ([]byte, error) {
	f, err := r.OpenFile(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("longer than %d bytes", max)}
	}
	return data, nil
}

// ReadDir returns the names in the directory that path leads to, sorted.
func (r *Root) ReadDir(path string) ([]string, error) {
	fd, err := r.open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	entries, err := List(fd)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name
	}
	return names, nil
}

// MkdirAll makes the directory path and what is missing above it. Only what is
// missing gets the permissions and the owner; links are followed inside the root,
// dangling ones too.
func (r *Root) MkdirAll(path string, perm uint32, uid, gid int) error {
	fd, err := r.open(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		return unix.Close(fd)
	}
	if !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	real, err := r.Resolve(path)
	if err != nil {
		return err
	}
	dir, err := unix.Openat(r.FD(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for _, name := range components(real) {
		if err != nil {
			break
		}
		parent := dir
		dir, err = mkdirOpen(parent, name, perm, uid, gid)
		unix.Close(parent)
	}
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	return unix.Close(dir)
}

// mkdirOpen opens the directory name in parent, which it makes if it is missing.
func mkdirOpen(parent int, name string, perm uint32, uid, gid int) (int, error) {
	made := unix.Mkdirat(parent, name, 0o700)
	if made != nil && made != unix.EEXIST {
		return -1, made
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil || made == unix.EEXIST {
		return fd, err
	}
	if err = unix.Fchown(fd, uid, gid); err == nil {
		err = unix.Fchmod(fd, perm)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// RemoveAll removes path and everything below it. Links above it are followed
// inside the root, and it is no error if it is not there.
func (r *Root) RemoveAll(path string) error {
	dir, base, err := r.Parent(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if base == "." {
		return &fs.PathError{Op: "remove", Path: path, Err: unix.EBUSY}
	}
	if err := RemoveAt(int(dir.Fd()), base); err != nil {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// unixMode returns mode as the system calls have it.
func unixMode(mode os.FileMode) uint32 {
	m := uint32(mode.Perm())
	if mode&os.ModeSetuid != 0 {
		m |= unix.S_ISUID
	}
	if mode&os.ModeSetgid != 0 {
		m |= unix.S_ISGID
	}
	if mode&os.ModeSticky != 0 {
		m |= unix.S_ISVTX
	}
	return m
}
