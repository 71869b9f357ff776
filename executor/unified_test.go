package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unifiedVar makes this test binary the first process of a machine that has cgroups of
// v2 and no others. It is one word: the kernel hands it on.
const unifiedVar = "OCIBUILD_TEST_UNIFIED"

// unifiedTests are those that say something about cgroups.
const unifiedTests = "^TestRun(OutOfMemory|ForkBomb|FewProcesses|SeesItsCgroupAsRoot|Cgroup2|ResourcesHold|Throttled|Usage|Substitutes|LeavesNothing|ParentKilled)$|^TestDelegatedCgroup$"

// TestUnified runs tests under a Linux of its own, an ordinary program (Debian's package
// user-mode-linux), because most machines that tests run on have cgroups of one kind.
func TestUnified(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("starts another kernel, which the race detector does not run on")
	}
	linux, err := exec.LookPath("linux.uml")
	if err != nil {
		t.Skipf("needs user-mode-linux: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	overlay, _ := filepath.Glob(filepath.Join(filepath.Dir(linux), "../lib/uml/modules/*/kernel/fs/overlayfs/overlay.ko"))
	cmd := exec.CommandContext(ctx, linux, "mem=1G", "rootfstype=hostfs", "rootflags=/", "ro", "init="+self, "uml_dir="+t.TempDir(),
		"con=null", "con0=null,fd:1", "quiet", unifiedVar+"="+strings.Join(append(overlay, "."), ""))
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	out, err := cmd.CombinedOutput()
	text := strings.ReplaceAll(string(out), "\r", "")
	if err != nil || !strings.Contains(text, "\nall is well\n") || !strings.Contains(text, "--- PASS: TestRunOutOfMemory") {
		t.Fatalf("%v\n%s", err, text)
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "SKIP") || strings.Contains(line, "needs ") || strings.Contains(line, "TestDelegated") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// TestDelegatedCgroup limits steps of root and of an ordinary user who have, as under
// systemd, a cgroup with processes in it and above it one of their own without.
func TestDelegatedCgroup(t *testing.T) {
	needsRoot(t)
	const top = "/sys/fs/cgroup"
	var st unix.Statfs_t
	if err := unix.Statfs(top, &st); err != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		t.Skip("needs cgroups of v2")
	}
	users := findOrdinary(t)
	users["root"] = &ordinary{level: LevelRoot}
	for name, o := range users {
		t.Run(name, func(t *testing.T) {
			if o == nil {
				t.Skip("needs a user with a range in /etc/subuid, and newuidmap")
			}
			session := delegate(t, top, o)
			cmd := o.command(t, "-test.v", "-test.run=^TestRun(OutOfMemory|ForkBomb|ResourcesHold)$")
			cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(session.Fd())
			out, err := cmd.Output()
			if err != nil || !strings.Contains(string(out), "--- PASS: TestRunOutOfMemory") || strings.Contains(string(out), "SKIP: TestRunResourcesHold/proces") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// delegate makes a cgroup that is a user's, and one below it to be in.
func delegate(t *testing.T, top string, o *ordinary) *os.File {
	t.Helper()
	slice, err := os.MkdirTemp(top, "ocitest-")
	if err != nil {
		t.Skipf("needs cgroups that can be written to: %v", err)
	}
	t.Cleanup(func() {
		if err := removeCgroup(slice); err != nil {
			t.Error(err)
		}
	})
	session := filepath.Join(slice, "session")
	for _, dir := range []string{top, slice} {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory +pids +cpu"), 0); err != nil {
			t.Skipf("needs controllers: %v", err)
		}
	}
	if err := os.Mkdir(session, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{slice, session} {
		for _, file := range []string{"", "cgroup.procs", "cgroup.subtree_control"} {
			if err := os.Chown(filepath.Join(path, file), int(o.uid), int(o.gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	f, err := os.Open(session)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// beMachine is the first process of that machine: it makes the usual directories, runs the
// tests as root and ends the machine. The root filesystem is the one outside, read-only.
func beMachine() int {
	err := bootMachine(strings.TrimSuffix(os.Getenv(unifiedVar), "."))
	if err == nil {
		cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run="+unifiedTests)
		cmd.Env = []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "TMPDIR=/mnt", "HOME=/mnt"}
		cmd.Dir, cmd.Stdout, cmd.Stderr = "/mnt", os.Stdout, os.Stdout
		err = cmd.Run()
	}
	if err == nil {
		fmt.Println("all is well")
	}
	fmt.Println(err)
	time.Sleep(100 * time.Millisecond) // the terminal has no other way to say that it has shown all
	return fatal(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

func bootMachine(overlay string) error {
	var errs []error
	for _, m := range []struct{ kind, target string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/mnt"}, {"tmpfs", "/run"}, {"cgroup2", "/sys/fs/cgroup"},
	} {
		if err := unix.Mount(m.kind, m.target, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) { // the kernel may have done it
			errs = append(errs, fmt.Errorf("mount %s: %w", m.target, err))
		}
	}
	if overlay == "" {
		return errors.Join(errs...)
	}
	f, err := os.Open(overlay)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer f.Close()
	return errors.Join(append(errs, unix.FinitModule(int(f.Fd()), "", 0))...)
}
