package executor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Level is how much this process may do, and so how steps are run.
type Level string

// The levels, the best one first. Enter finds the best that is within reach.
const (
	LevelRoot     Level = "root"            // the machine's root
	LevelRootless Level = "rootless"        // root of a user namespace with a range of ids
	LevelSingle   Level = "rootless-single" // root of a user namespace with a single id
	LevelChroot   Level = "chroot"          // root without CAP_SYS_ADMIN, as in an ordinary container
	LevelNone     Level = "none"            // no steps

	LevelAuto Level = "auto" // what Enter is asked for the best with
)

// Levels lists the levels, the best one first.
func Levels() []Level {
	return []Level{LevelRoot, LevelRootless, LevelSingle, LevelChroot, LevelNone}
}

// ParseLevel reads the name of a level, or auto.
func ParseLevel(text string) (Level, error) {
	if l := Level(text); l == LevelAuto || slices.Contains(Levels(), l) {
		return l, nil
	}
	return "", fmt.Errorf("unknown level %q", text)
}

// UserXattr says that marks of overlays are in user attributes: those that only the
// machine's root may use are out of reach.
func (l Level) UserXattr() bool { return l != LevelRoot }

// OneOwner says that all files belong to this process's user, whatever images say.
func (l Level) OneOwner() bool { return l == LevelSingle || l == LevelNone && os.Geteuid() != 0 }

// MakesDevices says that device nodes of images can be made.
func (l Level) MakesDevices() bool { return l == LevelRoot || l == LevelChroot }

// Mounts says that trees are put together by mounts, and not by copies.
func (l Level) Mounts() bool { return l == LevelRoot || l == LevelRootless || l == LevelSingle }

// Holds says what a level keeps steps from.
func (l Level) Holds() string {
	switch l {
	case LevelRoot, LevelRootless, LevelSingle:
		text := "steps have mounts, processes and a hostname of their own, and what Docker lets a container do"
		if l != LevelRoot {
			text += "; none has more rights on this machine than you"
		}
		return text
	case LevelChroot:
		return "steps have trees of their own, and see neither the builder nor this container's files"
	}
	return "FROM, COPY, ADD and config instructions build"
}

// Lacks says what a level does not keep steps from, or cannot do; "" is nothing.
func (l Level) Lacks() string {
	switch l {
	case LevelRootless:
		return "device nodes of images are left out"
	case LevelSingle:
		return "there is one user id: other users, owners and devices are noted for the image and not real"
	case LevelChroot:
		return "processes and network are this container's (--network=none refuses all sockets but AF_UNIX), mounts and their trees copies, setuid programs without effect, and of /proc there is a part"
	case LevelNone:
		return "RUN does not work"
	}
	return ""
}

// snapshotsName is the directory for snapshots in a store. One store may be used at
// several levels, but marks and owners in its trees mean what they say at one alone.
func (l Level) snapshotsName() string {
	switch {
	case l == LevelRoot, l == "", l == LevelRootless && !ownsZero():
		return "snapshots"
	}
	return "snapshots/" + string(l)
}

// ownsZero reports whether id 0 here is id 0 outside.
func ownsZero() bool {
	ids, err := readIDMap("/proc/self/uid_map")
	return err == nil && len(ids) > 0 && ids[0].inside == 0 && ids[0].outside == 0
}

// SnapshotDirs lists the directories for snapshots in a store, that of the level first, as
// far as they are there.
func SnapshotDirs(store string, l Level) []string {
	dirs := []string{filepath.Join(store, l.snapshotsName())}
	for _, other := range Levels() {
		dir := filepath.Join(store, other.snapshotsName())
		if _, err := os.Lstat(dir); err == nil && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// OpenAllSnapshots opens all of these. The first is that of the level.
func OpenAllSnapshots(store string, l Level) ([]*Snapshots, error) {
	var list []*Snapshots
	for i, dir := range SnapshotDirs(store, l) {
		level := l
		if i > 0 {
			at := slices.IndexFunc(Levels(), func(l Level) bool { return filepath.Join(store, l.snapshotsName()) == dir })
			level = Levels()[at]
		}
		s, err := OpenSnapshots(dir, level)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// initialUserNamespace is the inode of /proc/self/ns/user in the machine's first user
// namespace.
const initialUserNamespace = 0xEFFFFFFD

// inInitialUserNamespace reports whether ids are the machine's own.
func inInitialUserNamespace() (bool, error) {
	fi, err := os.Stat("/proc/self/ns/user")
	if err != nil {
		return false, err
	}
	return fi.Sys().(*syscall.Stat_t).Ino == initialUserNamespace, nil
}

// ownMask is the set of capabilities that this process may use.
func ownMask() uint64 {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if unix.Capget(&header, &have[0]) != nil {
		return 0
	}
	return uint64(have[1].Effective)<<32 | uint64(have[0].Effective)
}

// isAdmin reports whether this is root with CAP_SYS_ADMIN in its user namespace.
func isAdmin() bool {
	return os.Geteuid() == 0 && ownMask()&(1<<unix.CAP_SYS_ADMIN) != 0
}

// mayMount reports whether the mount namespace is ours to change.
func mayMount() bool {
	fd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// chrootCapabilities are what level chroot works with.
var chrootCapabilities = []string{
	"CAP_SYS_CHROOT", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETUID", "CAP_SETGID", "CAP_MKNOD",
}

// lacking lists which of some capabilities this process has not.
func lacking(names []string) []string {
	mask := ownMask()
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return mask&(1<<slices.Index(capabilityNames, name)) != 0
	})
}

// mayChroot reports whether steps can be run at level chroot.
func mayChroot() bool { return os.Geteuid() == 0 && len(lacking(chrootCapabilities)) == 0 }

// procIsWhole reports whether a new /proc may be mounted: the kernel refuses that in a user
// namespace where parts of the one that is there are hidden.
func procIsWhole() bool {
	if initial, err := inInitialUserNamespace(); err != nil || initial {
		return err == nil
	}
	return len(hiddenInProc()) == 0
}

// hiddenInProc lists what is mounted below /proc.
func hiddenInProc() []string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 4 && strings.HasPrefix(f[4], "/proc/") && f[4] != BinfmtDir {
			list = append(list, f[4])
		}
	}
	return list
}

// LevelError is something that a step asks for and level chroot has not.
type LevelError struct{ What, Takes string }

// Error says what it takes.
func (e *LevelError) Error() string {
	return fmt.Sprintf("%s takes %s, which there is none of at isolation chroot (`ocibuild doctor` tells how to get there)", e.What, e.Takes)
}
