package executor

import (
	"fmt"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// plan is a runtime spec brought down to what the container's init does with
// it, in that order. It holds numbers and strings only, see codec.go.
type plan struct {
	Flags    uint64 // CLONE_NEW* of the init process
	Scratch  string // directory of the host that the root filesystem is attached over before the pivot
	Hostname string

	Mounts  []planMount
	Devices []planDevice
	// NoDevices says that of the device nodes in the container only Devices are any good.
	NoDevices bool
	Masked    []string
	Readonly  []string

	ReadonlyRoot bool
	Cwd          string
	Umask        uint64
	UID, GID     uint64
	Groups       []uint64
	KeepGroups   bool // setgroups(2) is denied here: leave them as they are
	// OneID says that there is a single user and group id here, whatever these are called.
	OneID         bool
	Bounding      uint64
	Permitted     uint64
	Effective     uint64
	Inheritable   uint64
	Ambient       uint64
	Limits        []planLimit
	NoNewPrivs    bool
	Filter        string   // for seccomp(2), see seccomp.Unmarshal; "" is none
	CPUs          []uint64 // processors to stay on; none are all
	Args, Environ []string
	// Chroot says that there are no namespaces: see chrootInit.
	Chroot bool
	// Notify is a filter that asks the init process about system calls; "" is none.
	Notify string
	// Runtime and Config are the program that carries the plan out in our place, and the
	// spec that it is to carry out.
	Runtime []string
	Config  string
	// Guard is a filter beside Filter, for what nothing else sees to at level chroot.
	Guard string
	// Terminal is the socket that the terminal goes out by, if the command is to have one.
	Terminal uint64
	// Streams is the first of the descriptors that are the command's output, its errors, and,
	// if it has any, its input.
	Streams uint64

	// What is not sent.
	listener int        // of Notify, when it is installed
	told     bool       // the init process knows of the listener, or that there is none
	trees    []*os.File // what the mounts' Tree stand for; they are inherited
	lasting  []string   // mount points to make for good
	limits   *specs.LinuxResources
	// connector connects the network namespace; nil leaves it alone.
	connector *connector
	// external, if not nil, is to carry the plan out, if it can.
	external *external
}

// renamed says that the command is to be in a user namespace of its own, where the one id is
// called as it wants to be.
func (p *plan) renamed() bool { return p.OneID && (p.UID != 0 || p.GID != 0) && p.Ambient == 0 }

// owner is who owns what is made for the step.
func (p *plan) owner() (uid, gid int) {
	if p.OneID {
		return 0, 0
	}
	return int(p.UID), int(p.GID)
}

// haveOneID settles a plan where there is a single id, to which all files belong.
func (p *plan) haveOneID(groups []uint32) {
	p.OneID, p.Groups = true, []uint64{p.GID}
	for _, g := range groups {
		if !slices.Contains(p.Groups, uint64(g)) {
			p.Groups = append(p.Groups, uint64(g))
		}
	}
	for i := range p.Mounts {
		m := &p.Mounts[i]
		m.UID, m.GID = 0, 0
		m.Data = slices.DeleteFunc(slices.Clone(m.Data), func(o string) bool {
			return strings.HasPrefix(o, "uid=") || strings.HasPrefix(o, "gid=")
		})
	}
	for i := range p.Devices {
		p.Devices[i].UID, p.Devices[i].GID = 0, 0
	}
}

// planMount is one mount: a new file system of Type, or, without one, a bind of
// Source.
type planMount struct {
	Type, Source, Target string
	Data                 []string // options of the file system
	Set, Clear           uint64   // MOUNT_ATTR_*
	Recursive            bool     // bind what is mounted below Source too
	RecursiveAttr        bool     // and apply Set and Clear to all of it

	// Tree, if not 0, is the descriptor of a detached tree that Source is in.
	Tree uint64
	File bool // what a Tree or Inline mount shows is no directory
	// Inline says that the mount is a file with this content, mode and owner.
	Inline         bool
	Content        string
	Mode, UID, GID uint64
}

type planDevice struct {
	Path     string // below devTarget
	Mode     uint64 // with the S_IF* bit
	Dev      uint64
	UID, GID uint64
}

// planLimit is one resource limit, by its RLIMIT_* number.
type planLimit struct{ Resource, Soft, Hard uint64 }

// compile brings a spec down to a plan, and refuses a spec that asks for more
// than a plan can say.
func compile(s *specs.Spec) (*plan, error) {
	if err := refuse(s); err != nil {
		return nil, err
	}
	p := &plan{
		Hostname: s.Hostname,
		Masked:   s.Linux.MaskedPaths,
		Readonly: s.Linux.ReadonlyPaths,
		Cwd:      s.Process.Cwd,

		ReadonlyRoot: s.Root.Readonly,
		Umask:        0o022,

		NoDevices:  deniesDevices(s.Linux.Resources),
		NoNewPrivs: s.Process.NoNewPrivileges,

		UID:     uint64(s.Process.User.UID),
		GID:     uint64(s.Process.User.GID),
		Args:    s.Process.Args,
		Environ: s.Process.Env,
	}
	for _, g := range s.Process.User.AdditionalGids {
		p.Groups = append(p.Groups, uint64(g))
	}
	p.KeepGroups = len(p.Groups) == 0
	if s.Process.User.Umask != nil {
		p.Umask = uint64(*s.Process.User.Umask)
	}
	for _, m := range s.Mounts {
		pm, err := compileMount(m)
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Destination, err)
		}
		p.Mounts = append(p.Mounts, pm)
	}
	if err := p.addDevices(s.Linux.Devices); err != nil {
		return nil, err
	}
	if err := p.addCapabilities(s.Process.Capabilities); err != nil {
		return nil, err
	}
	if err := p.addLimits(s.Process.Rlimits); err != nil {
		return nil, err
	}
	p.limits = limitsOf(s.Linux.Resources)
	if _, err := settings(p.limits, true); err != nil {
		return nil, err
	}
	return p, p.addNamespaces(s.Linux.Namespaces)
}

// compileChroot is compile for level chroot.
func compileChroot(s *specs.Spec) (*plan, error) {
	for _, ns := range s.Linux.Namespaces {
		return nil, fmt.Errorf("isolation chroot has no %s namespaces", ns.Type)
	}
	own := *s.Linux
	own.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.UTSNamespace}}
	with := *s
	with.Linux = &own
	p, err := compile(&with)
	if err == nil {
		p.Flags, p.Chroot = 0, true
	}
	return p, err
}

// refuse names the first part of a spec that the native runner does not carry
// out: to leave it out silently would make a step less confined than it should be.
func refuse(s *specs.Spec) error {
	if s.Process == nil || s.Root == nil || s.Linux == nil {
		return fmt.Errorf("run spec: process, root and linux must be set")
	}
	if len(s.Process.Args) == 0 || s.Process.Args[0] == "" {
		return fmt.Errorf("run spec: no command")
	}
	if !path.IsAbs(s.Process.Cwd) {
		return fmt.Errorf("run spec: working directory %q is not absolute", s.Process.Cwd)
	}
	if s.Process.Capabilities == nil {
		return fmt.Errorf("run spec: capabilities must be set")
	}
	for _, x := range []struct {
		what  string
		asked bool
	}{
		{"a terminal", s.Process.Terminal}, // it is asked for with IO
		{"a list of devices that allows all others", allowsDevices(s.Linux.Resources)},
		{"an AppArmor profile", s.Process.ApparmorProfile != ""},
		{"an SELinux label", s.Process.SelinuxLabel != "" || s.Linux.MountLabel != ""},
		{"hooks", s.Hooks != nil},
		{"a cgroup", s.Linux.CgroupsPath != ""},
		{"sysctls", len(s.Linux.Sysctl) > 0},
		{"id mappings", len(s.Linux.UIDMappings)+len(s.Linux.GIDMappings) > 0},
		{"a domain name", s.Domainname != ""},
		{"an OOM score", s.Process.OOMScoreAdj != nil},
		{"a personality", s.Linux.Personality != nil},
		{"a propagation of root", s.Linux.RootfsPropagation != ""},
	} {
		if x.asked {
			return fmt.Errorf("run spec: the native runner does not support %s", x.what)
		}
	}
	return nil
}

// allowsDevices reports whether rules for devices begin with another than that all are
// denied.
func allowsDevices(r *specs.LinuxResources) bool {
	return r != nil && len(r.Devices) > 0 && r.Devices[0].Allow
}

// limitsOf is what a spec limits beside the use of devices; nil is nothing.
func limitsOf(r *specs.LinuxResources) *specs.LinuxResources {
	if r == nil {
		return nil
	}
	rest := *r
	rest.Devices = nil
	if reflect.DeepEqual(rest, specs.LinuxResources{}) {
		return nil
	}
	return &rest
}

// deniesDevices reports whether all devices are denied but those that a spec lists.
func deniesDevices(r *specs.LinuxResources) bool {
	return r != nil && len(r.Devices) > 0 && !r.Devices[0].Allow
}

func (p *plan) addNamespaces(list []specs.LinuxNamespace) error {
	flags := map[specs.LinuxNamespaceType]uint64{
		specs.MountNamespace:   unix.CLONE_NEWNS,
		specs.PIDNamespace:     unix.CLONE_NEWPID,
		specs.IPCNamespace:     unix.CLONE_NEWIPC,
		specs.UTSNamespace:     unix.CLONE_NEWUTS,
		specs.CgroupNamespace:  unix.CLONE_NEWCGROUP,
		specs.NetworkNamespace: unix.CLONE_NEWNET,
	}
	for _, ns := range list {
		flag, ok := flags[ns.Type]
		if !ok || ns.Path != "" {
			return fmt.Errorf("run spec: the native runner does not support joining a namespace or a new %s namespace", ns.Type)
		}
		p.Flags |= flag
	}
	const need = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS
	if p.Flags&need != need {
		return fmt.Errorf("run spec: the native runner needs new mount, pid and uts namespaces")
	}
	return nil
}

// devTarget is where devices are made: in a tmpfs of the step's own.
const devTarget = "/dev"

func (m planMount) isDev() bool { return m.Target == devTarget && m.Type == "tmpfs" }

func (p *plan) addDevices(list []specs.LinuxDevice) error {
	if len(list) > 0 && !slices.ContainsFunc(p.Mounts, planMount.isDev) {
		return fmt.Errorf("run spec: devices need a tmpfs on %s", devTarget)
	}
	for _, d := range list {
		kind, ok := deviceTypes[d.Type]
		if !ok || path.Clean(d.Path) != d.Path || !strings.HasPrefix(d.Path, devTarget+"/") {
			return fmt.Errorf("run spec: the native runner does not support the device %s of type %q", d.Path, d.Type)
		}
		pd := planDevice{Path: d.Path, Mode: kind | 0o666, Dev: unix.Mkdev(uint32(d.Major), uint32(d.Minor))}
		if d.FileMode != nil {
			pd.Mode = kind | uint64(d.FileMode.Perm())
		}
		if d.UID != nil {
			pd.UID = uint64(*d.UID)
		}
		if d.GID != nil {
			pd.GID = uint64(*d.GID)
		}
		p.Devices = append(p.Devices, pd)
	}
	return nil
}

// deviceTypes are the types of nodes that a spec may ask for.
var deviceTypes = map[string]uint64{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK}

// limits are the resources that setrlimit(2) limits, by the names that a spec has for them.
var limits = map[string]uint64{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_DATA": unix.RLIMIT_DATA,
	"RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

func (p *plan) addLimits(list []specs.POSIXRlimit) error {
	for _, l := range list {
		resource, ok := limits[l.Type]
		if !ok {
			return fmt.Errorf("run spec: unknown resource limit %s", l.Type)
		}
		p.Limits = append(p.Limits, planLimit{resource, l.Soft, l.Hard})
	}
	return nil
}

// mountAttrs are the options that become attributes of the mount; all others
// are options of the file system.
var mountAttrs = map[string]struct{ set, clear uint64 }{
	"ro":          {set: unix.MOUNT_ATTR_RDONLY},
	"rw":          {clear: unix.MOUNT_ATTR_RDONLY},
	"nosuid":      {set: unix.MOUNT_ATTR_NOSUID},
	"suid":        {clear: unix.MOUNT_ATTR_NOSUID},
	"nodev":       {set: unix.MOUNT_ATTR_NODEV},
	"dev":         {clear: unix.MOUNT_ATTR_NODEV},
	"noexec":      {set: unix.MOUNT_ATTR_NOEXEC},
	"exec":        {clear: unix.MOUNT_ATTR_NOEXEC},
	"nodiratime":  {set: unix.MOUNT_ATTR_NODIRATIME},
	"noatime":     {set: unix.MOUNT_ATTR_NOATIME, clear: unix.MOUNT_ATTR__ATIME},
	"relatime":    {set: unix.MOUNT_ATTR_RELATIME, clear: unix.MOUNT_ATTR__ATIME},
	"strictatime": {set: unix.MOUNT_ATTR_STRICTATIME, clear: unix.MOUNT_ATTR__ATIME},
}

// findAttr looks an option up among mountAttrs. One with another r before it
// (rro, rnosuid) is for all that is mounted below as well.
func findAttr(option string) (set, clear uint64, recursive, ok bool) {
	attr, ok := mountAttrs[option]
	if !ok && strings.HasPrefix(option, "r") {
		attr, ok = mountAttrs[option[1:]]
		recursive = ok
	}
	return attr.set, attr.clear, recursive, ok
}

// mountTypes are the file systems that the native runner mounts, by the name
// that a spec has for them.
var mountTypes = map[string]string{
	"proc": "proc", "tmpfs": "tmpfs", "devpts": "devpts",
	"mqueue": "mqueue", "sysfs": "sysfs", "cgroup": "cgroup2",
}

func compileMount(m specs.Mount) (planMount, error) { //nolint:cyclop // flat: a case an option, a case a refusal
	pm := planMount{Source: m.Source, Target: m.Destination}
	bind := m.Type == "bind"
	for _, o := range m.Options {
		set, clear, recursive, ok := findAttr(o)
		switch {
		case o == "bind":
			bind = true
		case o == "rbind":
			bind, pm.Recursive = true, true
		case ok:
			pm.Set |= set
			pm.Clear |= clear
			pm.RecursiveAttr = pm.RecursiveAttr || recursive
		default:
			pm.Data = append(pm.Data, o)
		}
	}
	if !bind {
		pm.Type = mountTypes[m.Type]
	}
	switch {
	case !path.IsAbs(m.Destination) || path.Clean(m.Destination) == "/":
		return pm, fmt.Errorf("invalid destination")
	case len(m.UIDMappings)+len(m.GIDMappings) > 0:
		return pm, fmt.Errorf("id-mapped mounts are not supported")
	case bind && len(pm.Data) > 0:
		return pm, fmt.Errorf("unknown option %q of a bind mount", pm.Data[0])
	case bind && !path.IsAbs(m.Source):
		return pm, fmt.Errorf("source %q is not absolute", m.Source)
	case !bind && pm.Type == "":
		return pm, fmt.Errorf("unsupported type %q", m.Type)
	}
	return pm, nil
}

// arrange orders the mounts from the first one that is not usual, so that each comes
// after those above it, and leaves one for each target: the last, in the place of
// the first.
func (p *plan) arrange(usual int) {
	slices.SortStableFunc(p.Mounts[usual:], func(a, b planMount) int {
		return strings.Compare(path.Clean(a.Target), path.Clean(b.Target))
	})
	at := map[string]int{}
	kept := p.Mounts[:0]
	for _, m := range p.Mounts {
		target := path.Clean(m.Target)
		if i, ok := at[target]; ok {
			kept[i] = m
			continue
		}
		at[target] = len(kept)
		kept = append(kept, m)
	}
	p.Mounts = kept
}

// capabilityNames has each capability at its number.
var capabilityNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
	"CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
	"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
	"CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN",
	"CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",
	"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

func (p *plan) addCapabilities(c *specs.LinuxCapabilities) error {
	for _, set := range []struct {
		mask  *uint64
		names []string
	}{
		{&p.Bounding, c.Bounding},
		{&p.Permitted, c.Permitted},
		{&p.Effective, c.Effective},
		{&p.Inheritable, c.Inheritable},
		{&p.Ambient, c.Ambient},
	} {
		for _, name := range set.names {
			i := slices.Index(capabilityNames, name)
			if i < 0 {
				return fmt.Errorf("run spec: unknown capability %s", name)
			}
			*set.mask |= 1 << i
		}
	}
	return nil
}
