package executor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// external is a program that carries out runtime specs: runc, crun. It runs below our
// init process, in mount and pid namespaces of that, so that its end ends all that it
// has made: the bundle is in memory, and its containers die with the pid namespace. It
// manages no cgroup: it is in the step's.
type external struct {
	path string
	spec *specs.Spec
}

// UseRuntime lets another program carry out the specs of steps, by its path or a name in
// $PATH. Terminals are the native runner's in any case.
func (e *Executor) UseRuntime(program string) error {
	path, err := exec.LookPath(program)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return fmt.Errorf("find runtime %s: %w", program, bareLookup(err))
	}
	if !e.snapshots.level.Mounts() {
		return &LevelError{"runtime " + program, "a mount"}
	}
	e.runtime = path
	return nil
}

func bareLookup(err error) error {
	var e *exec.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// The directories of a bundle, in a tmpfs.
const (
	bundleRoot   = "rootfs"
	bundleMounts = "mounts"
	bundleWork   = "work"
	bundleLog    = "log"
	containerID  = "step"
)

// command is what to start before the bundle's directory.
func (x *external) command(scratch string) []string {
	global := []string{"--root", scratch + "/state", "--log", scratch + "/" + bundleLog, "--log-format", "json"}
	if strings.Contains(filepath.Base(x.path), "crun") {
		global = append(global, "--cgroup-manager=disabled")
	} else {
		global = append(global, "--rootless=true") // it may then be that cgroups are read-only
	}
	return slices.Concat([]string{x.path}, global, []string{"run", "--bundle", scratch, containerID})
}

// config is the bundle's config.json: the step's spec with the mounts in the order and
// from where our init process puts them.
func (x *external) config(p *plan) (string, error) {
	s := *x.spec
	s.Version = "1.0.2" // there is nothing newer in it, and older programs refuse a newer version
	s.Root = &specs.Root{Path: filepath.Join(p.Scratch, bundleRoot), Readonly: x.spec.Root.Readonly}
	linux := *x.spec.Linux
	s.Linux = &linux
	linux.Resources = nil // the step's cgroup has them, and its root file system no device nodes
	if p.connector != nil {
		linux.Namespaces = slices.DeleteFunc(slices.Clone(linux.Namespaces), func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	}
	process := *x.spec.Process
	s.Process = &process
	process.Rlimits = p.rlimits()
	byTarget := map[string]specs.Mount{}
	for _, m := range x.spec.Mounts {
		byTarget[filepath.Clean(m.Destination)] = m
	}
	s.Mounts = nil
	for i, m := range p.Mounts {
		if m.Tree == 0 && !m.Inline {
			s.Mounts = append(s.Mounts, byTarget[filepath.Clean(m.Target)])
			continue
		}
		made := specs.Mount{Destination: m.Target, Type: "bind", Source: filepath.Join(p.Scratch, bundleMounts, strconv.Itoa(i)), Options: []string{"bind"}}
		if m.Set&unix.MOUNT_ATTR_RDONLY != 0 {
			made.Options = append(made.Options, "ro")
		}
		if m.Inline {
			made.Options = append(made.Options, "nosuid", "nodev", "noexec")
		}
		s.Mounts = append(s.Mounts, made)
	}
	text, err := json.Marshal(&s)
	return string(text), err
}

// rlimits are the plan's limits as a spec has them.
func (p *plan) rlimits() []specs.POSIXRlimit {
	var list []specs.POSIXRlimit
	for _, l := range p.Limits {
		for name, resource := range limits {
			if resource == l.Resource {
				list = append(list, specs.POSIXRlimit{Type: name, Soft: l.Soft, Hard: l.Hard})
			}
		}
	}
	return list
}

// beExternal makes the plan one for the program, if it is to run it.
func (p *plan) beExternal(terminal bool) error {
	x := p.external
	if x == nil || terminal {
		return nil
	}
	if p.OneID && (p.UID != 0 || p.GID != 0) {
		return fmt.Errorf("run as user %d by %s: it takes more user ids than the one that there is (leave --runtime out; or give the user a range in /etc/subuid and /etc/subgid, and install newuidmap)", p.UID, filepath.Base(x.path))
	}
	config, err := x.config(p)
	if err != nil {
		return fmt.Errorf("write spec: %w", err)
	}
	p.Config, p.Runtime = config, x.command(p.Scratch)
	p.Flags &= unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	if p.connector == nil {
		p.Flags &^= unix.CLONE_NEWNET
	}
	return nil
}

// runExternal is the init process's part: it makes the bundle, runs the program and
// gives the report.
func runExternal(p *plan) report {
	if err := makeBundle(p); err != nil {
		return report{Kind: reportSetup, Text: "make bundle: " + err.Error()}
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	pid, err := syscall.ForkExec(p.Runtime[0], p.Runtime, &syscall.ProcAttr{
		Env: []string{"PATH=" + defaultPath}, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return report{Kind: reportSetup, Text: fmt.Sprintf("start %s: %v", p.Runtime[0], err)}
	}
	go endWithParent(fdReader(controlFD))
	go forward(signals, pid)
	r := waitFor(pid)
	if said := runtimeErrors(filepath.Join(p.Scratch, bundleLog)); said != "" && r.Kind == reportExit && r.Code != 0 {
		return refusal(p, said)
	}
	return r
}

// refusal is the report of what a program has said that kept the command from starting.
func refusal(p *plan, said string) report {
	start := StartError{Command: p.Args[0], Text: said}
	switch {
	case strings.Contains(said, "executable file not found"), strings.Contains(said, "no such file or directory") && strings.Contains(said, "exec"):
		start.Reason, start.Text = StartNoCommand, "executable file not found in $PATH"
	case strings.Contains(said, "exec format error"):
		start.Reason, start.Text = StartWrongFormat, "exec format error"
	case strings.Contains(said, "permission denied") && strings.Contains(said, "exec"):
		start.Text = "permission denied"
	default:
		return report{Kind: reportSetup, Text: filepath.Base(p.Runtime[0]) + ": " + said}
	}
	return report{Kind: reportNotStarted, Start: start}
}

// runtimeErrors gives the last error in a program's log.
func runtimeErrors(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	last := ""
	for line := range bytes.Lines(text) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal" || entry.Level == "") {
			last = entry.Msg
		}
	}
	return last
}

// makeBundle makes the bundle where the plan's scratch directory is, in memory, and what
// the program needs of a machine: a /proc of our pid namespace, and cgroups that it
// lets alone.
func makeBundle(p *plan) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if p.Flags&unix.CLONE_NEWNET != 0 {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("bring up loopback: %w", err)
		}
	}
	unix.Umask(0)
	if err := hideMachine(); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", p.Scratch, "tmpfs", 0, "mode=0711"); err != nil {
		return err
	}
	for _, dir := range []string{bundleRoot, bundleMounts, bundleWork} {
		if err := os.Mkdir(filepath.Join(p.Scratch, dir), 0o755); err != nil {
			return err
		}
	}
	if err := attachRoot(p); err != nil {
		return err
	}
	for i, m := range p.Mounts {
		if m.Tree == 0 && !m.Inline {
			continue
		}
		if err := attachSource(p, m, filepath.Join(p.Scratch, bundleMounts, strconv.Itoa(i))); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	return os.WriteFile(filepath.Join(p.Scratch, "config.json"), []byte(p.Config), 0o600)
}

// hideMachine gives the program a /proc of our pid namespace, and cgroups that it cannot
// change.
func hideMachine() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	cgroup := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/sys/fs/cgroup", unix.AT_RECURSIVE, &cgroup); err != nil && err != unix.ENOENT && err != unix.EINVAL {
		return fmt.Errorf("make cgroups read-only: %w", err)
	}
	return nil
}

func attachRoot(p *plan) error {
	if err := unix.MoveMount(rootFD, "", unix.AT_FDCWD, filepath.Join(p.Scratch, bundleRoot), unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach root filesystem: %w", err)
	}
	if !p.NoDevices {
		return nil
	}
	return setAttrs(rootFD, unix.MOUNT_ATTR_NODEV, 0, false)
}

// attachSource puts what a mount shows where the bundle says that it is.
func attachSource(p *plan, m planMount, at string) error {
	fd, err := makeMount(m, filepath.Join(p.Scratch, bundleWork))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if m.File {
		err = os.WriteFile(at, nil, 0o600)
	} else {
		err = os.Mkdir(at, 0o700)
	}
	if err != nil {
		return err
	}
	return unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
}
