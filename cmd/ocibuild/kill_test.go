//go:build amd64 || arm64

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// killPoints is how many of the points at which a verb changes something are tried
// of each; OCIBUILD_KILL_POINTS=all tries every one.
const killPoints = 6

// TestKilledAnywhere kills the program, kill -9, right before a system call that
// changes a file or makes it durable, for one such call after the other. What is left
// must be a clean store with what was in it before, in which the same verb goes
// through.
func TestKilledAnywhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a traced program cannot enter a user namespace with a range of ids")
	}
	if testing.Short() {
		t.Skip("takes a while")
	}
	ready := killStore(t)
	for _, test := range []struct{ name, verb, check string }{
		{"build", "build -q -t app:v1 -t app:v2 ctx", "exists app:v1 app:v2"},
		{"build with a command", "build -q -t app:v1 run", "exists app:v1"},
		{"tag", "tag keep:v1 app:v1", "exists app:v1"},
		{"untag", "untag spare:v1", "exists keep:v1"},
		{"rmi", "rmi spare:v1", "exists keep:v1"},
		{"import", "import rootfs app:v1", "exists app:v1"},
		{"load", "load -q -i keep.tar", "exists keep:v1"},
		{"save", "save -o out.tar keep:v1", "exists keep:v1"},
		{"mutate", "mutate --squash -t app:v1 keep:v1", "exists app:v1"},
		{"prune", "prune -f cache snapshots images", "exists keep:v1"},
		{"prune all but", "prune -f -a --filter label=spare", "exists keep:v1"},
		{"fsck", "fsck --repair", "exists keep:v1"},
		{"layer", "layer create --label k=v rootfs", "layer ls"},
		{"manifest", "manifest create list:v1 keep:v1", "exists list:v1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := killer{t: t, ready: ready, dir: t.TempDir()}
			k.fresh()
			all, ended := k.cut(0, test.verb)
			if !ended {
				t.Fatalf("`ocibuild %s` was killed", test.verb)
			}
			step := max(1, all/killPoints)
			if os.Getenv("OCIBUILD_KILL_POINTS") == "all" {
				step = 1
			}
			for n := 1; n <= all; n += step {
				k.fresh()
				at, _ := k.cut(n, test.verb)
				k.must(fmt.Sprintf("after kill -9 at %d", at), "fsck", test.verb, test.check, "exists keep:v1", "verify -q keep:v1", "fsck")
			}
			t.Logf("%d points, every %d.", all, step)
		})
	}
}

// killStore is a directory with a store, and with what verbs read.
func killStore(t *testing.T) string {
	t.Helper()
	k := killer{t: t, dir: t.TempDir()}
	k.ready = k.dir
	for name, text := range map[string]string{
		"rootfs/etc/f": "x", "rootfs/g": strings.Repeat("g", 100_000), "ctx/f": "f",
		"ctx/Dockerfile":   "FROM keep:v1 AS one\nCOPY f /one\nFROM keep:v1\nCOPY f /two\nCOPY --from=one /one /three\n",
		"spare/Dockerfile": "FROM scratch\nLABEL spare=yes\nCOPY Dockerfile /\n",
	} {
		path := filepath.Join(k.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	run := "FROM keep:v1\nCOPY Dockerfile /ran\n"
	if makeRootfs(filepath.Join(k.dir, "rootfs")) == nil {
		run = "FROM keep:v1\nRUN --mount=type=cache,target=/c echo x > /c/x; cp /c/x /ran; rm /etc/f\n"
	}
	if err := errors.Join(os.Mkdir(filepath.Join(k.dir, "run"), 0o755), os.WriteFile(filepath.Join(k.dir, "run/Dockerfile"), []byte(run), 0o644)); err != nil {
		t.Fatal(err)
	}
	k.must("before", "import rootfs keep:v1", "build -q -t spare:v1 spare", "save -o keep.tar keep:v1")
	return k.dir
}

// killer runs the program on copies of a directory.
type killer struct {
	t          *testing.T
	ready, dir string
}

func (k *killer) command(line string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		k.t.Fatal(err)
	}
	c := exec.Command(exe, strings.Fields(line)...)
	c.Args[0] = "ocibuild"
	c.Dir = k.dir
	c.Env = append(os.Environ(), "OCIBUILD_ROOT="+filepath.Join(k.dir, "store"), "HOME="+k.dir)
	return c
}

// must runs verbs that go through.
func (k *killer) must(when string, lines ...string) {
	k.t.Helper()
	for _, line := range lines {
		if out, err := k.command(line).CombinedOutput(); err != nil && !forgivable(line, string(out)) {
			k.t.Fatalf("%s: ocibuild %s: %v\n%s", when, line, err, out)
		}
	}
}

// forgivable says that a verb had done its work before it was killed.
func forgivable(line, out string) bool {
	taken := strings.HasPrefix(line, "untag ") || strings.HasPrefix(line, "rmi ")
	return taken && strings.Contains(out, "no such image") || strings.HasPrefix(line, "manifest create") && strings.Contains(out, "in the store already")
}

// fresh makes the directory a copy of the one that was made ready.
func (k *killer) fresh() {
	k.t.Helper()
	if out, err := exec.Command("sh", "-c", `rm -rf "$2" && cp -a "$1" "$2"`, "sh", k.ready, k.dir).CombinedOutput(); err != nil {
		k.t.Fatalf("%v\n%s", err, out)
	}
}

// cut runs a verb and kills it before its nth change, if it comes to that. It tells
// how many changes there were.
func (k *killer) cut(n int, line string) (changes int, ended bool) {
	k.t.Helper()
	// The kernel wants all of a tracer's calls from one thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := k.command(line)
	var out bytes.Buffer
	f, err := os.Create(filepath.Join(k.t.TempDir(), "out"))
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	c.Stdout, c.Stderr = f, f
	c.SysProcAttr = &unix.SysProcAttr{Ptrace: true}
	if err := c.Start(); err != nil {
		k.t.Skipf("a program cannot be traced here: %v", err)
	}
	tr := tracer{main: c.Process.Pid, stopAt: n}
	if err := tr.run(); err != nil {
		k.t.Fatalf("trace `ocibuild %s`: %v\n%s", line, err, &out)
	}
	return tr.changes, !tr.killed
}

// tracer follows a process and its threads and children through their system calls.
type tracer struct {
	main, stopAt int
	changes      int
	killed       bool
	inside       map[int]bool // threads between the beginning and the end of a call
}

const traceOptions = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
	unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL

// run is called with the process stopped after its execve(2).
func (tr *tracer) run() error {
	tr.inside = make(map[int]bool)
	var status unix.WaitStatus
	if _, err := unix.Wait4(tr.main, &status, unix.WALL, nil); err != nil {
		return err
	}
	if err := unix.PtraceSetOptions(tr.main, traceOptions); err != nil {
		return err
	}
	if err := unix.PtraceSyscall(tr.main, 0); err != nil {
		return err
	}
	for {
		pid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil:
			return err
		case status.Exited() || status.Signaled():
			delete(tr.inside, pid)
			continue
		}
		if err := unix.PtraceSyscall(pid, tr.stopped(pid, status)); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
}

// stopped looks at a thread that has stopped, and gives the signal to let it have.
func (tr *tracer) stopped(pid int, status unix.WaitStatus) int {
	sig := status.StopSignal()
	switch sig {
	case unix.SIGTRAP | 0x80:
		tr.inside[pid] = !tr.inside[pid]
		if tr.inside[pid] && tr.changing(pid) {
			if tr.changes++; tr.changes == tr.stopAt {
				tr.killed = true
				_ = unix.Kill(tr.main, unix.SIGKILL)
			}
		}
		return 0
	case unix.SIGTRAP, unix.SIGSTOP: // of the tracing itself
		return 0
	}
	return int(sig)
}

// changing reports whether the call that a thread begins changes a file or makes it
// durable.
func (tr *tracer) changing(pid int) bool {
	number, ok := syscallOf(pid)
	if !ok {
		return false
	}
	switch number {
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT, unix.SYS_LINKAT, unix.SYS_SYMLINKAT, unix.SYS_MKDIRAT, unix.SYS_FSYNC,
		unix.SYS_FDATASYNC, unix.SYS_FTRUNCATE, unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT, unix.SYS_PWRITE64,
		unix.SYS_COPY_FILE_RANGE:
		return true
	case unix.SYS_WRITE:
		return tr.writesToFile(pid)
	}
	return false
}

// writesToFile tells a write to a file of the store from one to a pipe.
func (tr *tracer) writesToFile(pid int) bool {
	fd, ok := firstArgument(pid)
	if !ok {
		return false
	}
	target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
	return err == nil && strings.Contains(target, "/store/")
}
