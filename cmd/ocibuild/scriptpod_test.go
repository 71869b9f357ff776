package main

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/ocibuild/ocibuild/executor/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/rogpeppe/go-internal/testscript"
)

// podCapabilities are those of a container by default.
var podCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// podSpec is what Kubernetes makes of a pod that asks for nothing, the script's directory a
// volume of it.
func podSpec(work string, args, env []string) *specs.Spec {
	caps := &specs.LinuxCapabilities{Bounding: podCapabilities, Effective: podCapabilities, Permitted: podCapabilities}
	hide := []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"}
	quiet := []string{"nosuid", "noexec", "nodev"}
	return &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: "rootfs"},
		Hostname: "pod",
		Process:  &specs.Process{Args: args, Env: append(env, "PATH=/bin"), Cwd: work, Capabilities: caps},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: quiet},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: append([]string{"ro"}, quiet...)},
			{Destination: work, Type: "bind", Source: work, Options: []string{"rbind", "rw"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
			},
			Seccomp: seccomp.Default(podCapabilities), MaskedPaths: hide,
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

// isStatic tells whether this program needs nothing of a root filesystem to start.
func isStatic() bool {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return false
	}
	defer f.Close()
	return f.Section(".interp") == nil
}

// cmdPod runs a program, mostly this one, in a container that runc makes of podSpec.
func cmdPod(ts *testscript.TestScript, neg bool, args []string) {
	if _, err := exec.LookPath("runc"); err != nil || os.Geteuid() != 0 {
		skip(ts, "needs root and runc")
	}
	self, err := os.Executable()
	ts.Check(err)
	if !isStatic() {
		skip(ts, "needs a static test binary, without -race")
	}
	work, err := filepath.EvalSymlinks(ts.MkAbs("."))
	ts.Check(err)
	bundle := filepath.Join(work, ".pod")
	root := filepath.Join(bundle, "rootfs")
	if _, err := os.Stat(root); err != nil {
		ts.Check(os.MkdirAll(filepath.Join(root, "bin"), 0o755))
		ts.Check(os.MkdirAll(filepath.Join(root, "tmp"), 0o1777))
		ts.Check(copyProgram(busybox, filepath.Join(root, "bin/busybox")))
		ts.Check(os.Symlink("busybox", filepath.Join(root, "bin/sh")))
		ts.Check(copyProgram(self, filepath.Join(root, "bin/ocibuild")))
		ts.Check(os.MkdirAll(filepath.Join(root, "etc"), 0o755))
		ts.Check(os.WriteFile(filepath.Join(root, "etc/credential"), []byte("not for steps\n"), 0o600))
	}
	env := []string{"OCIBUILD_ROOT=" + ts.Getenv("OCIBUILD_ROOT"), "HOME=/tmp", "OCIBUILD_ISOLATION="}
	text, err := json.Marshal(podSpec(work, args, env))
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o644))
	id := fmt.Sprintf("ocibuild-test-%d-%s", os.Getpid(), filepath.Base(work))
	err = ts.Exec("runc", "--root", filepath.Join(bundle, "state"), "run", "--bundle", bundle, id)
	if (err != nil) != neg {
		ts.Fatalf("%v", err)
	}
}

func copyProgram(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
