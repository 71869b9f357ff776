package executor

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A tree that nothing can be mounted in has a /proc all the same: files with what the
// machine's said when the step began, for who looks whether they are there; and what is
// opened or read as a link there is the real thing, which the init process opens for
// the step. Directories are never opened for it: from one, a path with ".." would lead out
// of the tree.

// procGlobal are the files of the whole machine that steps may read. The rest says too much
// of it, or is hidden by Docker too.
var procGlobal = []string{
	"cgroups", "cpuinfo", "crypto", "devices", "diskstats", "filesystems", "loadavg", "meminfo", "misc", "modules",
	"partitions", "stat", "swaps", "uptime", "version", "vmstat",
}

// procSys are those below sys.
var procSys = []string{
	"crypto/fips_enabled", "fs/file-max", "fs/nr_open", "fs/pipe-max-size", "fs/inotify/max_user_watches",
	"kernel/cap_last_cap", "kernel/hostname", "kernel/ngroups_max", "kernel/osrelease", "kernel/ostype", "kernel/overflowgid",
	"kernel/overflowuid", "kernel/pid_max", "kernel/random/boot_id", "kernel/random/entropy_avail", "kernel/random/uuid",
	"kernel/seccomp/actions_avail", "kernel/shmmax", "kernel/threads-max", "kernel/version", "net/core/somaxconn",
	"net/ipv4/ip_local_port_range", "vm/max_map_count", "vm/mmap_min_addr", "vm/overcommit_memory", "vm/swappiness",
}

// procOwn are the files of a process that it, and who has started it, may open.
var procOwn = []string{
	"auxv", "cgroup", "clear_refs", "cmdline", "comm", "coredump_filter", "environ", "exe", "gid_map", "io", "limits",
	"loginuid", "maps", "mem", "numa_maps", "oom_adj", "oom_score", "oom_score_adj", "pagemap", "personality", "sched",
	"schedstat", "sessionid", "setgroups", "smaps", "smaps_rollup", "stat", "statm", "status", "timers", "uid_map", "wchan",
}

// procWritable are those that may be written to.
var procWritable = []string{"clear_refs", "comm", "coredump_filter", "mem", "oom_adj", "oom_score_adj"}

// ownMounts is what a step's /proc/self/mounts says.
const ownMounts = "overlay / overlay rw,relatime 0 0\nproc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\ntmpfs /dev tmpfs rw,nosuid 0 0\n"

// fillProc makes the files that are there to be looked for.
func fillProc(proc int) error {
	for _, name := range procGlobal {
		if err := copyText("/proc", proc, name); err != nil {
			return err
		}
	}
	for _, name := range procSys {
		if err := copyText("/proc", proc, "sys/"+name); err != nil {
			return err
		}
	}
	for _, name := range append(slices.Clone(procOwn), "fd/0", "fd/1", "fd/2") {
		if err := putText(proc, "self/"+name, ""); err != nil {
			return err
		}
	}
	if err := putText(proc, "self/mounts", ownMounts); err != nil {
		return err
	}
	if err := unix.Symlinkat("self", proc, "thread-self"); err != nil {
		return err
	}
	return unix.Symlinkat("self/mounts", proc, "mounts")
}

// procServer answers for /proc.
type procServer struct {
	listener int
	tree     string // the path of the tree, which no link is to show
	own      int    // this process, whose descendants are the step
}

// handle answers one system call of procCalls.
func (s *procServer) handle(n *notification) answer {
	path, flags, link := n.args[0], n.args[1], false
	switch int(n.number) {
	case unix.SYS_OPENAT:
		path, flags = n.args[1], n.args[2]
	case unix.SYS_READLINKAT:
		path, link = n.args[1], true
	case sysReadlink:
		link = true
	}
	c := &caller{listener: s.listener, n: n}
	if c.open() != nil {
		return proceed
	}
	defer c.close()
	text := c.text(path, "/proc", "/dev/fd", "/dev/std")
	name, ok := procName(text)
	if !ok || link && strings.HasPrefix(text, "/dev") {
		return proceed
	}
	real, base, ok := s.find(n.pid, name)
	switch {
	case !ok:
		return proceed
	case link && int(n.number) == unix.SYS_READLINKAT:
		return s.readlink(c, real, base, n.args[2], n.args[3])
	case link:
		return s.readlink(c, real, base, n.args[1], n.args[2])
	}
	return s.open(real, base, int(flags))
}

// procName gives a path's part below /proc.
func procName(name string) (string, bool) {
	name = path.Clean(name)
	for i, std := range []string{"/dev/stdin", "/dev/stdout", "/dev/stderr"} {
		if name == std {
			return "self/fd/" + strconv.Itoa(i), true
		}
	}
	if fd, ok := strings.CutPrefix(name, "/dev/fd/"); ok {
		return "self/fd/" + fd, true
	}
	return strings.CutPrefix(name, "/proc/")
}

// find gives the machine's path of a name below /proc that a thread asks for, if the step
// may have it, and the last part of it that says what it is.
func (s *procServer) find(tid uint32, name string) (real, base string, ok bool) {
	first, rest, _ := strings.Cut(name, "/")
	switch {
	case slices.Contains(procGlobal, name):
		return "/proc/" + name, "", true
	case first == "sys" && slices.Contains(procSys, rest):
		return "/proc/" + name, "", true
	case name == "mounts":
		first, rest = "self", "mounts"
	}
	pid, _, alive := process(tid)
	if !alive {
		return "", "", false
	}
	switch first {
	case "self":
		first = strconv.Itoa(pid)
	case "thread-self":
		first = fmt.Sprintf("%d/task/%d", pid, tid)
	default:
		n, err := strconv.Atoi(first)
		if err != nil || !s.descends(n) {
			return "", "", false
		}
	}
	base = rest
	if task, ok := strings.CutPrefix(rest, "task/"); ok {
		_, base, _ = strings.Cut(task, "/")
	}
	if name == "self" {
		return "/proc/" + first, "self", true
	}
	return path.Join("/proc", first, rest), base, ownFile(base)
}

// ownFile reports whether a file of a process may be opened or read as a link.
func ownFile(base string) bool {
	if n, ok := strings.CutPrefix(base, "fd/"); ok {
		_, err := strconv.ParseUint(n, 10, 31)
		return err == nil
	}
	if n, ok := strings.CutPrefix(base, "fdinfo/"); ok {
		_, err := strconv.ParseUint(n, 10, 31)
		return err == nil
	}
	return base == "mounts" || base == "cwd" || base == "root" || slices.Contains(procOwn, base)
}

// descends reports whether a process is one of the step's.
func (s *procServer) descends(pid int) bool {
	for range 1 << 16 {
		own, parent, ok := process(uint32(pid))
		switch {
		case !ok || own != pid || parent <= 1 && parent != s.own:
			return false
		case parent == s.own:
			return true
		}
		pid = parent
	}
	return false
}

// open opens a file of /proc for the step.
func (s *procServer) open(real, base string, flags int) answer {
	if base == "mounts" {
		return s.mounts(flags)
	}
	mode := flags & unix.O_ACCMODE
	fd := strings.HasPrefix(base, "fd/")
	switch {
	case base == "cwd" || base == "root" || base == "self":
		return proceed // directories
	case mode != unix.O_RDONLY && !fd && !slices.Contains(procWritable, base):
		return answer{errno: unix.EACCES}
	}
	const passed = unix.O_ACCMODE | unix.O_APPEND | unix.O_NONBLOCK | unix.O_TRUNC | unix.O_PATH
	if flags&unix.O_PATH != 0 {
		return answer{errno: unix.EACCES}
	}
	n, err := unix.Open(real, flags&passed|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return failed(err)
	}
	f := os.NewFile(uintptr(n), real)
	if fi, err := f.Stat(); err != nil || fi.IsDir() {
		f.Close()
		return answer{errno: unix.EACCES}
	}
	return answer{file: f, cloexec: flags&unix.O_CLOEXEC != 0}
}

// mounts gives a file that says what there is in the tree.
func (s *procServer) mounts(flags int) answer {
	if flags&unix.O_ACCMODE != unix.O_RDONLY {
		return answer{errno: unix.EACCES}
	}
	fd, err := unix.MemfdCreate("mounts", unix.MFD_CLOEXEC)
	if err != nil {
		return failed(err)
	}
	f := os.NewFile(uintptr(fd), "mounts")
	if _, err := f.WriteString(ownMounts); err != nil {
		return answer{errno: unix.EIO}
	}
	if _, err := f.Seek(0, 0); err != nil {
		return answer{errno: unix.EIO}
	}
	return answer{file: f, cloexec: flags&unix.O_CLOEXEC != 0}
}

// readlink reads a link of /proc for the step, whose paths begin at its tree.
func (s *procServer) readlink(c *caller, real, base string, address, size uint64) answer {
	target := path.Base(real)
	if base != "self" {
		text, err := os.Readlink(real)
		if err != nil {
			return proceed
		}
		target = text
		if rest, ok := strings.CutPrefix(text, s.tree); ok && (rest == "" || rest[0] == '/') {
			target = path.Clean("/" + rest)
		}
	}
	n := min(uint64(len(target)), size)
	if _, err := c.memory.WriteAt([]byte(target[:n]), int64(address)); err != nil {
		return answer{errno: unix.EFAULT}
	}
	return answer{value: int64(n)}
}
