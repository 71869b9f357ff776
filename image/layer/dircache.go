package layer

import (
	"archive/tar"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// maxOpenDirs is how many directories are kept open.
const maxOpenDirs = 64

// openDir is a directory that entries are put in. real is its path without
// symbolic links.
type openDir struct {
	fd   int
	real string
	// inherits is set when new files take an access list over from it.
	inherits bool
}

// dirCache holds open directories by the path that the tar has for them. An entry
// is good as long as nothing on that path is removed or replaced.
type dirCache struct {
	byPath map[string]*openDir
}

// put adds a directory, and makes room for it.
func (c *dirCache) put(path string, d *openDir) {
	if len(c.byPath) >= maxOpenDirs {
		c.flush(nil)
	}
	if c.byPath == nil {
		c.byPath = make(map[string]*openDir)
	}
	if old := c.byPath[path]; old != nil {
		unix.Close(old.fd)
	}
	c.byPath[path] = d
}

// flush closes all directories but keep.
func (c *dirCache) flush(keep *openDir) {
	for path, d := range c.byPath {
		if d != keep {
			unix.Close(d.fd)
			delete(c.byPath, path)
		}
	}
}

// openDirFlags open a directory by its name in another one.
const openDirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// parent opens the directory dir of an entry. Links on the way are followed inside
// the root. In Merge format a missing directory is made, with the time mtime. The
// result is good until the next call.
func (a *applier) parent(dir string, mtime time.Time) (*openDir, error) {
	if d := a.dirs.byPath[dir]; d != nil {
		return d, nil
	}
	real := dir
	fd, err := a.root.OpenPlain(real, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ELOOP {
		if real, err = a.root.Resolve(dir); err != nil {
			return nil, a.needsLower(fmt.Errorf("parent directory: %w", err))
		}
		fd, err = a.root.OpenPlain(real, unix.O_RDONLY|unix.O_DIRECTORY)
	}
	if err == unix.ENOENT && a.options.Format == Merge {
		fd, err = a.imply(real, mtime)
	}
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil, a.needsLower(fmt.Errorf("parent directory %q: %w", dir, err))
	}
	if err != nil {
		return nil, fmt.Errorf("parent directory %q: %w", dir, err)
	}
	d := &openDir{fd: fd, real: real}
	if err := a.foreign(d); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("parent directory %q: %w", dir, err)
	}
	a.dirs.put(dir, d)
	return d, nil
}

// needsLower turns an error that the layers below may resolve into ErrNeedsLower.
func (a *applier) needsLower(err error) error {
	if a.options.Format == Overlay {
		return fmt.Errorf("%w: %w", ErrNeedsLower, err)
	}
	return err
}

// imply makes a directory that the tar has no entry for, and opens it.
func (a *applier) imply(real string, mtime time.Time) (int, error) {
	dir, base := splitName(real)
	up, err := a.parent(dir, mtime)
	if err != nil {
		return -1, err
	}
	if err := unix.Mkdirat(up.fd, base, 0o700); err != nil {
		return -1, err
	}
	fd, err := unix.Openat(up.fd, base, openDirFlags, 0)
	if err != nil {
		return -1, err
	}
	e := Entry{Type: tar.TypeDir, Mode: 0o755, ModTime: mtime}
	if err = dropXattrs(fd, nil); err == nil {
		err = a.describeDir(fd, &e)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	a.mark(real)
	a.later(real, &e)
	return fd, nil
}

// foreign sees to it, in Merge format, that a directory that the tar has no entry
// for keeps its time, and that the tar's own whiteouts spare it.
func (a *applier) foreign(d *openDir) error {
	if a.options.Format != Merge {
		return nil
	}
	_, err := unix.Fgetxattr(d.fd, defaultACL, nil)
	d.inherits = err == nil
	if a.made[d.real] {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return err
	}
	a.late = append(a.late, lateDir{path: d.real, mtime: st.Mtim, mode: -1})
	a.mark(d.real)
	for path, _ := splitName(d.real); path != "" && !a.made[path]; path, _ = splitName(path) {
		a.mark(path)
	}
	return nil
}
