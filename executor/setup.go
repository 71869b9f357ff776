package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// setup is the making of a container from inside.
type setup struct {
	detached []int         // the plan's mounts, attached nowhere yet
	devices  []boundDevice // devices of the host for /dev
	root     *rootfs.Root  // "/", when it is the container's: resolves every path in it
	masks    int           // an empty read-only directory, or -1
}

// setUp makes the container around this process, its first one. Everything that
// needs the host is done first; then the host's mounts go, and only after that
// are paths of the container looked up.
func setUp(p *plan) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil { // keeps the step out of our /proc/1
		return fmt.Errorf("clear dumpable flag: %w", err)
	}
	if err := unix.Sethostname([]byte(p.Hostname)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	if p.Flags&unix.CLONE_NEWCGROUP != 0 { // by now we are in the cgroup that is to be its root
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return fmt.Errorf("unshare cgroup namespace: %w", err)
		}
	}
	if p.Flags&unix.CLONE_NEWNET != 0 {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("bring up loopback: %w", err)
		}
	}
	unix.Umask(0)
	s := &setup{masks: -1}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := s.makeMounts(p); err != nil {
		return err
	}
	if err := s.leaveHost(p); err != nil {
		return err
	}
	if err := s.attachAll(p); err != nil {
		return err
	}
	if err := s.protect(p); err != nil {
		return err
	}
	if p.ReadonlyRoot {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &attr); err != nil {
			return fmt.Errorf("make root filesystem read-only: %w", err)
		}
	}
	return s.finish(p)
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// makeMounts makes every mount of the plan, attached nowhere, and fills /dev.
func (s *setup) makeMounts(p *plan) error {
	for _, m := range p.Mounts {
		fd, err := makeMount(m, p.Scratch)
		if err == nil && p.NoDevices {
			err = withoutDevices(fd, m)
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
		s.detached = append(s.detached, fd)
		if !m.isDev() {
			continue
		}
		if err := s.populateDev(fd, p); err != nil {
			return fmt.Errorf("make device %w", err)
		}
	}
	return nil
}

// leaveHost makes the root filesystem the root of this process and drops the
// host's mounts at once: mounted over the new root as pivot_root leaves them, they
// would be reached by any path with ".." in it.
func (s *setup) leaveHost(p *plan) error {
	host, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open host root: %w", err)
	}
	if p.NoDevices {
		if err := setAttrs(rootFD, unix.MOUNT_ATTR_NODEV, 0, false); err != nil {
			return fmt.Errorf("root filesystem: %w", err)
		}
	}
	if err := unix.MoveMount(rootFD, "", unix.AT_FDCWD, p.Scratch, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach root filesystem: %w", err)
	}
	if err := unix.Fchdir(rootFD); err != nil {
		return fmt.Errorf("enter root filesystem: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Fchdir(host); err != nil {
		return fmt.Errorf("enter host root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach host root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter root filesystem: %w", err)
	}
	unix.Close(host)
	unix.Close(rootFD)
	s.root, err = rootfs.Open("/")
	if err != nil {
		return fmt.Errorf("open root filesystem: %w", err)
	}
	return nil
}

func (s *setup) attachAll(p *plan) error {
	for i, m := range p.Mounts {
		if err := s.attach(s.detached[i], m.Target); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
		unix.Close(s.detached[i])
	}
	for _, d := range s.devices {
		if err := s.attach(d.source, d.path); err != nil {
			return fmt.Errorf("mount %s: %w", d.path, err)
		}
		unix.Close(d.source)
	}
	return nil
}

// finish goes to where the command starts.
func (s *setup) finish(p *plan) error {
	cwd, err := s.root.OpenFile(p.Cwd, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("enter working directory: %w", err)
	}
	defer cwd.Close()
	if err := unix.Fchdir(int(cwd.Fd())); err != nil {
		return fmt.Errorf("enter working directory %s: %w", p.Cwd, err)
	}
	unix.Umask(int(p.Umask))
	return s.root.Close()
}

func makeMount(m planMount, scratch string) (int, error) {
	switch {
	case m.Tree != 0:
		return treeMount(m, scratch)
	case m.Inline:
		return inlineMount(m, scratch)
	}
	return detachedMount(m)
}

func cloneTree(dir int, path string, recursive bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return unix.OpenTree(dir, path, flags)
}

// detachedMount makes one mount of the plan, attached nowhere.
func detachedMount(m planMount) (int, error) {
	if m.Type != "" {
		fd, err := newFilesystem(m)
		if m.Type == "sysfs" && errors.Is(err, unix.EPERM) { // parts of the machine's are hidden from us
			sys := planMount{Source: "/sys", Set: m.Set | unix.MOUNT_ATTR_RDONLY, Recursive: true, RecursiveAttr: true}
			return detachedMount(sys)
		}
		if m.Type == "proc" && errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w (parts of /proc are hidden from us; a container needs systempaths=unconfined or procMount: Unmasked)", err)
		}
		return fd, err
	}
	fd, err := cloneTree(unix.AT_FDCWD, m.Source, m.Recursive)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", m.Source, err)
	}
	if err := setAttrs(fd, m.Set, m.Clear, m.RecursiveAttr); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func newFilesystem(m planMount) (int, error) {
	ctx, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", m.Type, err)
	}
	defer unix.Close(ctx)
	if m.Source != "" {
		if err := unix.FsconfigSetString(ctx, "source", m.Source); err != nil {
			return -1, fsError(ctx, "set source", err)
		}
	}
	for _, o := range m.Data {
		if err := configure(ctx, o); err != nil {
			return -1, fsError(ctx, "set option "+o, err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, fsError(ctx, "create "+m.Type, err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, int(m.Set))
	if err != nil {
		return -1, fsError(ctx, "mount "+m.Type, err)
	}
	return fd, nil
}

func setAttrs(fd int, set, clear uint64, recursive bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := unix.MountAttr{Attr_set: set, Attr_clr: clear}
	if err := unix.MountSetattr(fd, "", flags, &attr); err != nil {
		return fmt.Errorf("set mount attributes: %w", err)
	}
	return nil
}

// attach puts a detached mount at target. The parent has made the targets in
// the root filesystem; what is missing is inside one of our own mounts.
func (s *setup) attach(fd int, target string) error {
	at, err := s.root.OpenFile(target, unix.O_PATH, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.makeTarget(fd, target); err == nil {
			at, err = s.root.OpenFile(target, unix.O_PATH, 0)
		}
	}
	if err != nil {
		return err
	}
	defer at.Close()
	if err := sameKind(fd, int(at.Fd())); err != nil {
		return err
	}
	return moveOnto(fd, at)
}

// sameKind refuses to put a directory on a file, or a file on a directory, with a
// better word than the kernel's "invalid argument".
func sameKind(fd, at int) error {
	var what, where unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &what), unix.Fstat(at, &where)); err != nil {
		return err
	}
	return kindsMatch(what.Mode&unix.S_IFMT == unix.S_IFDIR, where.Mode&unix.S_IFMT == unix.S_IFDIR)
}

func kindsMatch(what, where bool) error {
	switch {
	case what == where:
		return nil
	case what:
		return errors.New("a directory cannot be mounted on a file")
	}
	return errors.New("a file cannot be mounted on a directory")
}

func moveOnto(fd int, at *os.File) error {
	return unix.MoveMount(fd, "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// makeTarget makes a directory, or an empty file, for the mount fd.
func (s *setup) makeTarget(fd int, target string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return s.root.MkdirAll(target, 0o755, 0, 0)
	}
	if err := s.root.MkdirAll(path.Dir(target), 0o755, 0, 0); err != nil {
		return err
	}
	f, err := s.root.OpenFile(target, unix.O_CREAT|unix.O_WRONLY|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}
