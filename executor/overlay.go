package executor

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// layers are the directories of one overlay, lower ones topmost first. Without
// upper the overlay is read-only.
type layers struct {
	lower       []string
	upper, work string
	userxattr   bool
}

// mountOverlay mounts layers as a detached tree: it has no place in any mount
// namespace and ends with its last descriptor. scratch is an empty directory for
// kernels before 6.5, where overlayfs can be mounted only somewhere.
func mountOverlay(l layers, scratch string) (*os.File, error) {
	files, err := l.open()
	defer closeAll(files)
	if err != nil {
		return nil, err
	}
	fd, err := fsmountOverlay(l, files)
	if errors.Is(err, unix.EINVAL) {
		if old, oldErr := mountOverlayInPlace(l, scratch); oldErr == nil {
			fd, err = old, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

// open opens every directory, in the order lower, upper, work. Naming layers
// by descriptor keeps mount options short and free of special characters.
func (l layers) open() ([]*os.File, error) {
	dirs := l.lower
	if l.upper != "" {
		dirs = append(dirs[:len(dirs):len(dirs)], l.upper, l.work)
	}
	files := make([]*os.File, 0, len(dirs))
	for _, dir := range dirs {
		f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return files, fmt.Errorf("open layer: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// options lists the mount options but the layers. What would make an upper
// directory mean more than its names and contents say is off; syncing is off too,
// since whoever wants a layer kept reads it from there.
func (l layers) options() []string {
	opts := []string{"index=off"}
	if l.userxattr {
		opts = append(opts, "userxattr") // implies redirect_dir=nofollow,metacopy=off
	} else {
		opts = append(opts, "redirect_dir=nofollow", "metacopy=off")
	}
	if l.upper != "" {
		opts = append(opts, "volatile")
	}
	return opts
}

// fsmountOverlay uses the mount API of Linux 6.5 and newer, one call a layer.
func fsmountOverlay(l layers, files []*os.File) (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open overlay: %w", err)
	}
	defer unix.Close(fs)
	keys := make([]string, 0, len(files))
	for range l.lower {
		keys = append(keys, "lowerdir+")
	}
	keys = append(keys, "upperdir", "workdir")
	if err := unix.FsconfigSetString(fs, "source", "overlay"); err != nil {
		return -1, fsError(fs, "set source", err)
	}
	for i, f := range files {
		if err := unix.FsconfigSetString(fs, keys[i], fdPath(f)); err != nil {
			return -1, fsError(fs, "add overlay layer", err)
		}
	}
	for _, o := range l.options() {
		if err := configure(fs, o); err != nil {
			return -1, fsError(fs, "set overlay option "+o, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fsError(fs, "create overlay", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fsError(fs, "mount overlay", err)
	}
	return fd, nil
}

// configure sets one option, "flag" or "key=value".
func configure(fs int, option string) error {
	key, value, ok := strings.Cut(option, "=")
	if !ok {
		return unix.FsconfigSetFlag(fs, key)
	}
	return unix.FsconfigSetString(fs, key, value)
}

// fsError adds what the kernel wrote into the filesystem context's log.
func fsError(fs int, op string, err error) error {
	buf := make([]byte, 512)
	n, readErr := unix.Read(fs, buf)
	if readErr != nil || n <= 0 {
		return fmt.Errorf("%s: %w", op, err)
	}
	msg := strings.TrimSpace(strings.TrimPrefix(string(buf[:n]), "e "))
	return fmt.Errorf("%s: %s: %w", op, msg, err)
}

// mountOverlayInPlace mounts with mount(2) over scratch, in a mount namespace
// of a thread of its own, takes a detached copy of the mount out of it, and lets
// the thread and so the namespace end: nothing is left even by a kill in between.
func mountOverlayInPlace(l layers, scratch string) (int, error) {
	type result struct {
		fd  int
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is not fit for other use
		fd, err := mountAside(l, scratch)
		done <- result{fd, err}
	}()
	r := <-done
	return r.fd, r.err
}

func mountAside(l layers, scratch string) (int, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("unshare mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("make mounts private: %w", err)
	}
	files, err := l.open() // layers must be in the mount namespace that they are mounted in
	defer closeAll(files)
	if err != nil {
		return -1, err
	}
	data := l.legacyData(files)
	if len(data) >= os.Getpagesize() {
		return -1, fmt.Errorf("mount overlay: %d layers are too many for this kernel (Linux 6.5 takes 500)", len(l.lower))
	}
	if err := unix.Mount("overlay", scratch, "overlay", 0, data); err != nil {
		return -1, fmt.Errorf("mount overlay: %w", err)
	}
	defer unix.Unmount(scratch, unix.MNT_DETACH) //nolint:errcheck // it goes with the namespace at the latest
	fd, err := unix.OpenTree(unix.AT_FDCWD, scratch, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("detach overlay: %w", err)
	}
	return fd, nil
}

// legacyData is mount(2)'s text of options, which one page must hold.
func (l layers) legacyData(files []*os.File) string {
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = fdPath(f)
	}
	n := len(l.lower)
	opts := append(l.options(), "lowerdir="+strings.Join(paths[:n], ":"))
	if l.upper != "" {
		opts = append(opts, "upperdir="+paths[n], "workdir="+paths[n+1])
	}
	return strings.Join(opts, ",")
}

// OpenTree gives a plain directory as a detached mount, for a Bind, that ends when the
// file is closed. Where nothing can be mounted, and Binds are copies, it opens it.
func OpenTree(dir string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == unix.EPERM && !mayMount() {
		return os.Open(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("clone mount of %s: %w", dir, err)
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// mountDirectory gives a detached read-only view of a plain directory.
func mountDirectory(dir string) (*os.File, error) {
	f, err := OpenTree(dir)
	if err != nil {
		return nil, err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH, &attr); err != nil {
		f.Close()
		return nil, fmt.Errorf("make view of %s read-only: %w", dir, err)
	}
	return f, nil
}

func fdPath(f *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd())
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
