package executor

import (
	"os"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// defaultCapabilities is Docker's default set, mask 0xa80425fb.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
	"CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
}

// maskedPaths and readonlyPaths are Docker's.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
	}
)

// defaultDevices are the nodes that every container has in /dev.
var defaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

// Host is what Spec needs to know of the machine and of one run.
type Host struct {
	RootFS     string // path of the root filesystem; the native runner is handed a descriptor instead
	Hosts      string // path of the file bound over /etc/hosts
	ResolvConf string // path of the file bound over /etc/resolv.conf

	CgroupNamespace bool // the kernel has cgroup namespaces
	CgroupV2        bool // /sys/fs/cgroup is the unified hierarchy
	UserNamespace   bool // we are in a user namespace: no sysfs of the host's network, no mknod
	SingleID        bool // only one id is mapped: no tty group, no setgroups
}

// Spec describes the run of a process as an OCI runtime-spec value. It is pure:
// equal arguments give equal values, and nothing is looked up.
func Spec(p Process, h Host) *specs.Spec {
	hostname := p.hostname()
	return &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: h.RootFS},
		Hostname: hostname,
		Process:  specProcess(p, h),
		Mounts:   slices.Concat(defaultMounts(p, h), p.Mounts),
		Linux: &specs.Linux{
			Namespaces:    namespaces(p, h),
			Devices:       devices(),
			MaskedPaths:   slices.Clone(maskedPaths),
			ReadonlyPaths: slices.Clone(readonlyPaths),
		},
	}
}

func specProcess(p Process, h Host) *specs.Process {
	cwd := p.Cwd
	if cwd == "" {
		cwd = "/"
	}
	umask := uint32(0o022)
	user := specs.User{UID: p.UID, GID: p.GID, Umask: &umask}
	if !h.SingleID {
		user.AdditionalGids = slices.Clone(p.Groups)
		if !slices.Contains(user.AdditionalGids, p.GID) {
			user.AdditionalGids = append([]uint32{p.GID}, user.AdditionalGids...)
		}
	}
	caps := &specs.LinuxCapabilities{Bounding: slices.Clone(defaultCapabilities)}
	if p.UID == 0 {
		caps.Effective = slices.Clone(defaultCapabilities)
		caps.Permitted = slices.Clone(defaultCapabilities)
	}
	return &specs.Process{
		User:         user,
		Args:         slices.Clone(p.Args),
		Env:          slices.Clone(p.Env),
		Cwd:          cwd,
		Capabilities: caps,
	}
}

func namespaces(p Process, h Host) []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{
		{Type: specs.MountNamespace},
		{Type: specs.PIDNamespace},
		{Type: specs.IPCNamespace},
		{Type: specs.UTSNamespace},
	}
	if h.CgroupNamespace {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	if p.Network == NetworkNone {
		ns = append(ns, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	}
	return ns
}

func devices() []specs.LinuxDevice {
	list := slices.Clone(defaultDevices)
	for i := range list {
		mode := os.FileMode(0o666)
		list[i].FileMode = &mode
	}
	return list
}

func defaultMounts(p Process, h Host) []specs.Mount {
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if !h.SingleID {
		pts = append(pts, "gid=5")
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	mounts = append(mounts, sysMounts(p, h)...)
	bind := []string{"nosuid", "noexec", "nodev", "bind", "ro"}
	if h.ResolvConf != "" {
		mounts = append(mounts, specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: h.ResolvConf, Options: bind})
	}
	if h.Hosts != "" {
		mounts = append(mounts, specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: h.Hosts, Options: bind})
	}
	return mounts
}

// sysMounts gives /sys. A sysfs shows the network namespace it is mounted from,
// so that a user namespace may mount one only for a network of its own; else the
// machine's is bound, recursively and read-only to the last submount.
func sysMounts(p Process, h Host) []specs.Mount {
	if h.UserNamespace && p.Network != NetworkNone {
		return []specs.Mount{{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"nosuid", "noexec", "nodev", "rbind", "rro"}}}
	}
	ro := []string{"nosuid", "noexec", "nodev", "ro"}
	mounts := []specs.Mount{{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: ro}}
	if h.CgroupV2 {
		mounts = append(mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: ro})
	}
	return mounts
}
