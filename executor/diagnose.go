package executor

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Probe is one question to the machine that a level's being within reach depends on.
type Probe struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Found string `json:"found"`           // what there is
	Lift  string `json:"lift,omitempty"`  // what would make it ok: a setting, a package, lines of a pod's spec
	Hint  bool   `json:"helps,omitempty"` // the level is within reach without, and better with it
}

// Finding is whether a level is within reach, and why.
type Finding struct {
	Level   Level   `json:"level"`
	Reached bool    `json:"reached"`
	Holds   string  `json:"holds"`
	Lacks   string  `json:"lacks,omitempty"`
	Probes  []Probe `json:"probes"`
}

// podSpec is what lifts a plain pod to a level with mounts, without rights on its node.
const podSpec = `spec:
  hostUsers: false                              # Kubernetes 1.33, Linux 6.3, containerd 2.0 or CRI-O 1.25
  containers:
  - securityContext:
      runAsUser: 0
      capabilities: {add: [SYS_ADMIN]}
      procMount: Unmasked
      appArmorProfile: {type: Unconfined}       # on nodes with AppArmor
    volumeMounts: [{name: store, mountPath: /var/lib/ocibuild}]
  volumes: [{name: store, emptyDir: {}}]        # no overlay can lie on the container's own`

// Diagnose asks the machine about every level, the best one first. store is where
// layers are unpacked, or would be.
func Diagnose(store string) []Finding {
	admin, mount, proc := probeAdmin(), probeMount(), probeProc()
	overlay := probeOverlay(store)
	userns := probeUserNamespace()
	root := []Probe{admin}
	if admin.OK { // the rest depends on it
		root = append(root, probeInitial(), mount, proc, overlay)
	}
	findings := []Finding{
		{Level: LevelRoot, Probes: root},
		{Level: LevelRootless, Probes: []Probe{userns, probeRanges(), probeMappers(), proc}},
		{Level: LevelSingle, Probes: []Probe{userns, proc}},
		{Level: LevelChroot, Probes: []Probe{probeCapabilities(), probeLandlock(), probeReflink(store)}},
		{Level: LevelNone},
	}
	if admin.OK && mount.OK && !root[1].OK { // a user namespace that others have made
		findings[1].Probes = []Probe{admin, mount, proc, overlay}
	}
	for i := range findings {
		f := &findings[i]
		f.Holds, f.Lacks, f.Reached = f.Level.Holds(), f.Level.Lacks(), true
		for _, p := range f.Probes {
			f.Reached = f.Reached && (p.OK || p.Hint)
		}
	}
	return findings
}

func probeAdmin() Probe {
	p := Probe{Name: "CAP_SYS_ADMIN", OK: isAdmin(), Found: "you are root and have it"}
	switch {
	case os.Geteuid() != 0:
		p.Found, p.Lift = fmt.Sprintf("you are user %d", os.Geteuid()), "sudo ocibuild ..."
	case !p.OK && inContainer():
		p.Found, p.Lift = "you are root in a container without it", podSpec
	case !p.OK:
		p.Found, p.Lift = "you are root without it", "run it with all capabilities of root"
	}
	return p
}

func probeInitial() Probe {
	initial, err := inInitialUserNamespace()
	p := Probe{Name: "first user namespace", OK: err == nil && initial, Found: "ids are the machine's own"}
	if !p.OK {
		p.Found, p.Lift = "this is another user namespace", "run it outside of the user namespace; level rootless is no worse"
	}
	return p
}

func probeMount() Probe {
	p := Probe{Name: "mount", OK: mayMount(), Found: "the mount calls are allowed"}
	if !p.OK {
		p.Found = "the mount calls are refused"
		p.Lift = "CAP_SYS_ADMIN, and a seccomp profile that allows mount, fsopen and move_mount"
		if inContainer() {
			p.Lift = podSpec
		}
	}
	return p
}

func probeProc() Probe {
	p := Probe{Name: "/proc", OK: procIsWhole(), Found: "a new one can be mounted"}
	if !p.OK {
		p.Found = "parts of it are hidden (" + strings.Join(hiddenInProc(), " ") + "), so that no new one can be mounted"
		p.Lift = "Kubernetes: procMount: Unmasked, with hostUsers: false\npodman, docker: --security-opt systempaths=unconfined"
	}
	return p
}

// probeOverlay tries whether overlays can be mounted on the store; else layers are copied.
func probeOverlay(store string) Probe {
	p := Probe{Name: "overlayfs", Hint: true, Found: "overlays can be mounted on " + store}
	level, err := present()
	dir := existing(store)
	if err == nil {
		err = tryOverlayIn(dir, level.UserXattr())
	}
	p.OK = err == nil
	if err != nil {
		p.Found = fmt.Sprintf("none can be mounted on %s, so that layers are copied: %v", dir, err)
		p.Lift = "put the store on a volume of its own (an emptyDir, ext4 or xfs): an overlay cannot lie on an overlay; in user namespaces Linux 5.11"
	}
	return p
}

// existing is the part of a path that is there.
func existing(dir string) string {
	for dir != "/" && dir != "." {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

// sysctls are what keeps users from user namespaces, with what they should be.
var sysctls = []struct{ file, name, bad, good string }{
	{"/proc/sys/user/max_user_namespaces", "user.max_user_namespaces", "0", "15000"},
	{"/proc/sys/kernel/unprivileged_userns_clone", "kernel.unprivileged_userns_clone", "0", "1"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "kernel.apparmor_restrict_unprivileged_userns", "1", "0"},
}

func probeUserNamespace() Probe {
	p := Probe{Name: "user namespaces", Found: "one can be made"}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{probeName}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	p.OK = err == nil
	if p.OK {
		return p
	}
	p.Found = strings.TrimSpace(fmt.Sprintf("none can be made: %v %s", err, out))
	var lifts []string
	for _, s := range sysctls {
		if text, err := os.ReadFile(s.file); err == nil && strings.TrimSpace(string(text)) == s.bad {
			p.Found += fmt.Sprintf("; %s is %s", s.name, s.bad)
			lifts = append(lifts, fmt.Sprintf("sysctl -w %s=%s", s.name, s.good))
		}
	}
	switch {
	case len(lifts) > 0:
		p.Lift = strings.Join(lifts, "\n")
	case inContainer() && os.Geteuid() == 0:
		p.Lift = podSpec
	case inContainer():
		p.Lift = "a seccomp profile that allows clone, unshare and mount: Kubernetes seccompProfile: {type: Unconfined}, docker --security-opt seccomp=unconfined"
	default:
		p.Lift = "a kernel with CONFIG_USER_NS, and a seccomp and AppArmor profile that allow it"
	}
	return p
}

// probeName is the argv[0] that makes this binary try to mount in its user namespace.
const probeName = "ocibuild-probe"

// probeInit never returns.
func probeInit() {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Println("it may not mount:", err)
		unix.Exit(1)
	}
	if !mayMount() {
		fmt.Println("it may not mount")
		unix.Exit(1)
	}
	unix.Exit(0)
}

func probeRanges() Probe {
	p := Probe{Name: "subordinate ids"}
	r, err := findRanges()
	if err == nil {
		p.OK, p.Found = true, fmt.Sprintf("%d users and %d groups", r.uids.total(), r.gids.total())
		return p
	}
	name := strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	p.Found = err.Error()
	p.Lift = fmt.Sprintf("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", name)
	return p
}

func probeMappers() Probe {
	p := Probe{Name: "newuidmap", OK: true, Found: "it is there"}
	if os.Geteuid() == 0 {
		p.Found = "root needs none"
		return p
	}
	for _, name := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(name); err != nil {
			p.OK, p.Found = false, name+" is not installed"
			p.Lift = "apt-get install uidmap (Debian, Ubuntu), dnf install shadow-utils (Fedora), apk add shadow-uidmap (Alpine)"
			return p
		}
	}
	if n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && n == 1 {
		p.OK, p.Found = false, "no_new_privs is set, so that it has no effect"
		p.Lift = "Kubernetes: allowPrivilegeEscalation: true"
	}
	return p
}

func probeCapabilities() Probe {
	p := Probe{Name: "capabilities of a container", OK: mayChroot(), Found: "you are root and have them"}
	switch missing := lacking(chrootCapabilities); {
	case os.Geteuid() != 0:
		p.Found, p.Lift = fmt.Sprintf("you are user %d", os.Geteuid()), "Kubernetes: securityContext: {runAsUser: 0}"
	case len(missing) > 0:
		p.Found = "lacking " + strings.Join(missing, ", ")
		p.Lift = "Kubernetes: capabilities without drop: [ALL], or with add: [" + strings.ReplaceAll(strings.Join(missing, ", "), "CAP_", "") + "]"
	}
	return p
}

func probeLandlock() Probe {
	abi := landlockABI()
	p := Probe{Name: "Landlock", OK: abi >= landlockUsable, Hint: true, Found: fmt.Sprintf("version %d", abi)}
	if !p.OK {
		p.Found = fmt.Sprintf("version %d: a step is kept to its tree by chroot alone, and may signal other processes", abi)
		p.Lift = "Linux 5.19 or later with landlock in CONFIG_LSM, or lsm=landlock,... on its command line"
	}
	return p
}

// probeReflink tries whether files of the store can share blocks.
func probeReflink(store string) Probe {
	dir := existing(store)
	p := Probe{Name: "reflinks", Hint: true, Found: "copies share blocks in " + dir}
	if err := tryReflink(dir); err != nil {
		p.Found = fmt.Sprintf("copies of layers take time and space in %s: %v", dir, err)
		p.Lift = "put the store on xfs or btrfs"
		return p
	}
	p.OK = true
	return p
}

func tryReflink(dir string) error {
	a, err := os.CreateTemp(dir, ".probe")
	if err != nil {
		return err
	}
	defer os.Remove(a.Name())
	defer a.Close()
	b, err := os.CreateTemp(dir, ".probe")
	if err != nil {
		return err
	}
	defer os.Remove(b.Name())
	defer b.Close()
	if _, err := a.Write(make([]byte, 4096)); err != nil {
		return err
	}
	return unix.IoctlFileClone(int(b.Fd()), int(a.Fd()))
}

// inContainer guesses whether this is a container.
func inContainer() bool {
	for _, name := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(name); err == nil {
			return true
		}
	}
	return os.Getenv("KUBERNETES_SERVICE_HOST") != "" || os.Getenv("container") != "" || len(hiddenInProc()) > 0
}
