package executor

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

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

	CgroupNamespace bool                // the kernel has cgroup namespaces
	CgroupV2        bool                // /sys/fs/cgroup is the unified hierarchy
	Seccomp         *specs.LinuxSeccomp // which system calls a step may make; nil is all of them

	UserNamespace bool // we are in a user namespace: no sysfs of the host's network, no mknod
	Chroot        bool // there are no namespaces
	SingleID      bool // only one id is mapped: no tty group, no setgroups

	// What an insecure step gets beyond the usual.
	Capabilities []string // all that we have
	FreeLoop     int      // the number of the first loop device that is not in use
}

// Spec describes the run of a process as an OCI runtime-spec value. It is pure:
// equal arguments give equal values, and nothing is looked up.
func Spec(p Process, h Host) *specs.Spec {
	hostname := p.hostname()
	return &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: h.RootFS, Readonly: p.ReadOnly},
		Hostname: hostname,
		Process:  specProcess(p, h),
		Mounts:   slices.Concat(defaultMounts(p, h), p.Mounts),
		Linux: &specs.Linux{
			Namespaces:    namespaces(p, h),
			Devices:       devices(p, h),
			MaskedPaths:   hidden(p, maskedPaths),
			ReadonlyPaths: hidden(p, readonlyPaths),
			Resources:     resources(p, h),
			Seccomp:       h.Seccomp,
		},
	}
}

// resources limits a step, and lets it use the devices that it is given and no others,
// whatever nodes it makes or finds.
func resources(p Process, h Host) *specs.LinuxResources {
	limits := p.Resources.spec()
	if p.Insecure {
		return limits
	}
	if limits == nil {
		limits = &specs.LinuxResources{}
	}
	rules := []specs.LinuxDeviceCgroup{{Access: "rwm"}}
	for _, d := range devices(p, h) {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: "rwm"})
	}
	limits.Devices = rules
	return limits
}

// hidden is a list of paths that is there for any but an insecure step.
func hidden(p Process, paths []string) []string {
	if p.Insecure || p.Security.Unmasked {
		return nil
	}
	return slices.Clone(paths)
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
		for _, g := range p.MoreGroups {
			if !slices.Contains(user.AdditionalGids, g) {
				user.AdditionalGids = append(user.AdditionalGids, g)
			}
		}
		if !slices.Contains(user.AdditionalGids, p.GID) {
			user.AdditionalGids = append([]uint32{p.GID}, user.AdditionalGids...)
		}
	}
	return &specs.Process{
		User:         user,
		Args:         slices.Clone(p.Args),
		Env:          slices.Clone(p.Env),
		Cwd:          cwd,
		Capabilities: capabilities(p, h),
		Rlimits:      slices.Clone(p.Limits),

		NoNewPrivileges: p.Security.NoNewPrivileges || h.Chroot,
	}
}

func capabilities(p Process, h Host) *specs.LinuxCapabilities {
	if p.Insecure {
		return &specs.LinuxCapabilities{
			Bounding: slices.Clone(h.Capabilities), Effective: slices.Clone(h.Capabilities), Permitted: slices.Clone(h.Capabilities),
			Inheritable: slices.Clone(h.Capabilities), Ambient: slices.Clone(h.Capabilities),
		}
	}
	bounding := p.Security.capabilities()
	if h.Chroot && !slices.Contains(p.Security.AddCapabilities, "CAP_SYS_CHROOT") {
		// With it a step would leave its tree.
		bounding = slices.DeleteFunc(bounding, func(name string) bool { return name == "CAP_SYS_CHROOT" })
	}
	caps := &specs.LinuxCapabilities{Bounding: bounding}
	if p.UID == 0 {
		caps.Effective = slices.Clone(caps.Bounding)
		caps.Permitted = slices.Clone(caps.Bounding)
	}
	return caps
}

func namespaces(p Process, h Host) []specs.LinuxNamespace {
	if h.Chroot {
		return nil
	}
	ns := []specs.LinuxNamespace{
		{Type: specs.MountNamespace},
		{Type: specs.PIDNamespace},
		{Type: specs.IPCNamespace},
		{Type: specs.UTSNamespace},
	}
	if h.CgroupNamespace {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	if p.ownNetwork() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.NetworkNamespace})
	}
	return ns
}

// insecureDevices are what an insecure step has as well, as with BuildKit.
var insecureDevices = []specs.LinuxDevice{
	{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 11},
	{Path: "/dev/cuse", Type: "c", Major: 10, Minor: 203},
	{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229},
	{Path: "/dev/kvm", Type: "c", Major: 10, Minor: 232},
	{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200},
	{Path: "/dev/loop-control", Type: "c", Major: 10, Minor: 237},
}

// spareLoops is how many loop devices beyond the first free one a step sees.
const spareLoops = 7

// devices lists the nodes of /dev; of two with one path, the later.
func devices(p Process, h Host) []specs.LinuxDevice {
	list := slices.Clone(defaultDevices)
	if p.Insecure && !h.UserNamespace {
		list = append(list, insecureDevices...)
		for i := range h.FreeLoop + spareLoops + 1 {
			list = append(list, specs.LinuxDevice{Path: fmt.Sprintf("/dev/loop%d", i), Type: "b", Major: 7, Minor: int64(i)})
		}
	}
	for _, d := range p.Devices {
		if d.UID == nil && p.UID != 0 {
			d.UID = new(p.UID)
		}
		if d.GID == nil && p.GID != 0 {
			d.GID = new(p.GID)
		}
		list = slices.DeleteFunc(list, func(o specs.LinuxDevice) bool { return o.Path == d.Path })
		list = append(list, d)
	}
	for i, d := range list {
		mode := os.FileMode(0o666)
		if d.FileMode != nil {
			mode = *d.FileMode
		}
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
		shmMount(p),
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

// shmMount gives /dev/shm. One of a size that was asked for is an ordinary tmpfs, as
// with BuildKit.
func shmMount(p Process) specs.Mount {
	m := specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}}
	if p.ShmSize > 0 {
		m.Source, m.Options = "tmpfs", []string{"nosuid", "size=" + strconv.FormatInt(p.ShmSize, 10)}
	}
	return m
}

// sysMounts gives /sys. A sysfs shows the network namespace it is mounted from,
// so that a user namespace may mount one only for a network of its own; else the
// machine's is bound, recursively and read-only to the last submount. An insecure
// step may write to it, as far as its ids go.
func sysMounts(p Process, h Host) []specs.Mount {
	readonly := func(option string, options ...string) []string {
		if p.Insecure {
			return options
		}
		return append(options, option)
	}
	if h.UserNamespace && !p.ownNetwork() {
		return []specs.Mount{{Destination: "/sys", Type: "bind", Source: "/sys", Options: readonly("rro", "nosuid", "noexec", "nodev", "rbind")}}
	}
	mounts := []specs.Mount{{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: readonly("ro", "nosuid", "noexec", "nodev")}}
	if h.CgroupV2 {
		mounts = append(mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: readonly("ro", "nosuid", "noexec", "nodev")})
	}
	return mounts
}
