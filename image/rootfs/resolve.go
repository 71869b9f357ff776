package rootfs

import (
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one path may lead through, as in Linux.
const maxLinks = 40

// Split returns the directory part of path ("" at the top) and the last
// component, which is "" for the root and may be "..". Slashes that are doubled or
// at the end and "." components at the end are dropped.
func Split(path string) (dir, base string) {
	for {
		path = strings.TrimRight(path, "/")
		if path == "" || path == "." {
			return "", ""
		}
		i := strings.LastIndexByte(path, '/')
		dir, base = path[:i+1], path[i+1:]
		if base != "." {
			return strings.TrimRight(dir, "/"), base
		}
		path = dir
	}
}

// components returns the components of path, empty ones and "." dropped.
func components(path string) []string {
	var out []string
	for c := range strings.SplitSeq(path, "/") {
		if c != "" && c != "." {
			out = append(out, c)
		}
	}
	return out
}

// openat2 opens path relative to the root under the rules resolve.
func (r *Root) openat2(path string, flags int, mode uint32, resolve uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Mode:    uint64(mode),
		Resolve: resolve | unix.RESOLVE_NO_MAGICLINKS,
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(r.FD(), path, &how)
		if (err == unix.EAGAIN || err == unix.EINTR) && try < maxRetries {
			continue
		}
		return fd, err
	}
}

// open opens path inside the root; links are followed.
func (r *Root) open(path string, flags int, mode uint32) (int, error) {
	if path == "" {
		path = "."
	}
	if !r.stepwise {
		return r.openat2(path, flags, mode, unix.RESOLVE_IN_ROOT)
	}
	follow := flags&unix.O_NOFOLLOW == 0 && flags&(unix.O_CREAT|unix.O_EXCL) != unix.O_CREAT|unix.O_EXCL
	w := walker{root: r.FD()}
	defer w.close()
	if err := w.walk(path, follow); err != nil {
		return -1, err
	}
	return openPlain(w.root, w.names, flags, mode)
}

// OpenPlain opens a path of which no component is a symbolic link or "..", and
// fails with ELOOP otherwise. It returns a plain file descriptor and bare errno
// values, for callers that open very many.
func (r *Root) OpenPlain(path string, flags int) (int, error) {
	if path == "" {
		path = "."
	}
	if !r.stepwise {
		return r.openat2(path, flags, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	}
	return openPlain(r.FD(), components(path), flags, 0)
}

// openPlain opens names below root, one component at a time and no link followed.
func openPlain(root int, names []string, flags int, mode uint32) (int, error) {
	if len(names) == 0 {
		return unix.Openat(root, ".", flags|unix.O_CLOEXEC, mode)
	}
	dir := root
	for i, name := range names {
		how := unix.O_PATH
		if i == len(names)-1 {
			how = flags
		}
		next, err := unix.Openat(dir, name, how|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		if err == unix.ENOTDIR && (isLink(dir, "") || isLink(dir, name)) {
			err = unix.ELOOP // as openat2 has it
		}
		if dir != root {
			unix.Close(dir)
		}
		if err != nil {
			return -1, err
		}
		dir = next
	}
	return dir, nil
}

// isLink reports whether name in the directory dir, or dir itself when name is "",
// is a symbolic link.
func isLink(dir int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

// Resolve follows every symbolic link in path inside the root and returns the
// path that it leads to, relative and without links ("" is the root). What does
// not exist is kept as it is written, so the end of the path may be missing.
func (r *Root) Resolve(path string) (string, error) {
	w := walker{root: r.FD()}
	defer w.close()
	if err := w.walk(path, true); err != nil {
		return "", &fs.PathError{Op: "resolve", Path: path, Err: err}
	}
	return strings.Join(w.names, "/"), nil
}

// walker follows a path one component at a time. names is where it is, fds the
// descriptors of as much of it as exists.
type walker struct {
	root  int
	fds   []int
	names []string
	links int
}

func (w *walker) close() { w.truncate(0) }

// truncate goes back to the first n components.
func (w *walker) truncate(n int) {
	for i := n; i < len(w.fds); i++ {
		unix.Close(w.fds[i])
	}
	w.fds = w.fds[:min(n, len(w.fds))]
	w.names = w.names[:n]
}

// top is the descriptor of the place that the walker is at.
func (w *walker) top() int {
	if len(w.fds) == 0 {
		return w.root
	}
	return w.fds[len(w.fds)-1]
}

// walk follows path; last says whether a link at its end is followed too.
func (w *walker) walk(path string, last bool) error {
	todo := components(path)
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if name == ".." {
			w.truncate(max(len(w.names)-1, 0))
			continue
		}
		text, err := w.step(name, len(todo) > 0)
		if err != nil {
			return err
		}
		if text == "" || (len(todo) == 0 && !last) {
			continue
		}
		w.links++
		if w.links > maxLinks {
			return unix.ELOOP
		}
		w.truncate(len(w.names) - 1)
		if text[0] == '/' {
			w.truncate(0)
		}
		todo = append(components(text), todo...)
	}
	return nil
}

// step goes down into name and returns its text if it is a symbolic link. more
// says that the path goes on below it.
func (w *walker) step(name string, more bool) (string, error) {
	if len(w.fds) < len(w.names) {
		w.names = append(w.names, name) // below something that does not exist
		return "", nil
	}
	fd, err := unix.Openat(w.top(), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		w.names = append(w.names, name)
		return "", nil
	}
	if err != nil {
		return "", err
	}
	w.fds, w.names = append(w.fds, fd), append(w.names, name)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return ReadlinkAt(fd, "")
	case unix.S_IFDIR:
		return "", nil
	}
	if more {
		return "", unix.ENOTDIR
	}
	return "", nil
}
