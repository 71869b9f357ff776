package executor

import (
	"bufio"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// helpLevel prints the level and the ids of this process.
func helpLevel() int {
	if enterErr != nil {
		return fatal(enterErr)
	}
	ids, err := readIDMap("/proc/self/uid_map")
	if err != nil {
		return fatal(err)
	}
	_, marked := os.LookupEnv(parentVar)
	fmt.Println(testLevel, os.Getuid(), os.Getgid(), ids.total(), marked, strings.Join(os.Args[1:], ","))
	return 0
}

// helpSuicide ends by a signal.
func helpSuicide() int {
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	return 0
}

// helpWait prints the signals that it gets until SIGUSR1, and lines of its input.
func helpWait() int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1)
	fmt.Println("ready", os.Getpid())
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			fmt.Println("read", lines.Text())
		}
	}()
	for s := range signals {
		fmt.Println("signal", s)
		if s == unix.SIGUSR1 {
			return 7
		}
	}
	return 0
}

// ordinary is a user that tests are run as.
type ordinary struct {
	uid, gid uint32
	level    Level
}

// findOrdinary gives a user without subordinate ids, and one with them if the
// machine has any.
func findOrdinary(t *testing.T) map[string]*ordinary {
	t.Helper()
	users := map[string]*ordinary{"single": {65534, 65534, LevelSingle}, "range": nil}
	file, err := os.ReadFile("/etc/subuid")
	if err != nil {
		return users
	}
	for f := range records(file, 3) {
		u, err := user.Lookup(f[0])
		if err != nil || u.Uid == "0" {
			continue
		}
		uid, err1 := parseID(u.Uid)
		gid, err2 := parseID(u.Gid)
		if _, err := exec.LookPath("newuidmap"); err == nil && err1 == nil && err2 == nil {
			users["range"] = &ordinary{uid, gid, LevelRootless}
		}
	}
	return users
}

// command is this test binary, to be run by the user in a directory of its own.
func (o *ordinary) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.MkdirTemp("", "ordinary")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, int(o.uid), int(o.gid)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = []string{"TMPDIR=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: o.uid, Gid: o.gid}}
	return cmd
}

// eachOrdinary runs a test for both kinds of users.
func eachOrdinary(t *testing.T, test func(t *testing.T, o *ordinary)) {
	needsRoot(t)
	for name, o := range findOrdinary(t) {
		t.Run(name, func(t *testing.T) {
			if o == nil {
				t.Skip("needs a user with a range in /etc/subuid, and newuidmap")
			}
			probe := o.command(t)
			probe.Env = append(probe.Env, helperVar+"=level")
			if out, err := probe.CombinedOutput(); err != nil && strings.Contains(string(out), restrictions) {
				t.Skip(string(out))
			}
			test(t, o)
		})
	}
}

func TestEnter(t *testing.T) {
	eachOrdinary(t, func(t *testing.T, o *ordinary) {
		cmd := o.command(t, "some", "args")
		cmd.Env = append(cmd.Env, helperVar+"=level")
		out, err := cmd.Output()
		f := strings.Fields(string(out))
		if err != nil || len(f) != 6 {
			t.Fatalf("got %q, %v", out, err)
		}
		ids, err := strconv.Atoi(f[3])
		many := o.level == LevelRootless
		if f[0] != string(o.level) || f[1] != "0" || f[2] != "0" || err != nil || (ids > 1) != many || f[4] != "false" || f[5] != "some,args" {
			t.Errorf("got %q", out)
		}
	})
}

func TestEnterExitCodes(t *testing.T) {
	eachOrdinary(t, func(t *testing.T, o *ordinary) {
		for name, want := range map[string]int{"exit": 42, "suicide": 137} {
			cmd := o.command(t)
			cmd.Env = append(cmd.Env, helperVar+"="+name)
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != want {
				t.Errorf("%s: got %d, want %d", name, got, want)
			}
		}
	})
}

// startWaiter starts helpWait as a user and returns its pid inside and its output.
func startWaiter(t *testing.T, cmd *exec.Cmd, out io.Reader) (pid int, lines *bufio.Reader) {
	t.Helper()
	cmd.Env = append(cmd.Env, helperVar+"=wait")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines = bufio.NewReader(out)
	var word string
	if _, err := fmt.Fscan(lines, &word, &pid); err != nil || word != "ready" {
		t.Fatalf("got %q, %v", word, err)
	}
	if pid == cmd.Process.Pid {
		t.Fatal("the helper is not inside")
	}
	return pid, lines
}

func expectLine(t *testing.T, lines *bufio.Reader, want string) {
	t.Helper()
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("got %q, %v, want %q", line, err, want)
		}
		line = strings.TrimSpace(line)
		if line == want {
			return
		}
		if line != "" {
			t.Fatalf("got %q, want %q", line, want)
		}
	}
}

func TestEnterSignals(t *testing.T) {
	eachOrdinary(t, func(t *testing.T, o *ordinary) {
		cmd := o.command(t)
		cmd.SysProcAttr.Setsid = true // no terminal
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		_, lines := startWaiter(t, cmd, out)
		for _, s := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1} {
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			expectLine(t, lines, "signal "+s.String())
		}
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 7 {
			t.Errorf("got exit code %d, want 7", got)
		}
	})
}

func TestEnterKilled(t *testing.T) {
	eachOrdinary(t, func(t *testing.T, o *ordinary) {
		cmd := o.command(t)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		pid, _ := startWaiter(t, cmd, out)
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if !waitPidfd(fd) {
			t.Error("the program inside outlives the one outside")
		}
	})
}

// TestEnterTerminal checks that a terminal's interrupt arrives once, and that its
// input can be read.
func TestEnterTerminal(t *testing.T) {
	eachOrdinary(t, func(t *testing.T, o *ordinary) {
		master, slave := openTerminal(t)
		cmd := o.command(t)
		cmd.Stdin, cmd.Stdout = slave, slave
		cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
		if err := slave.Chown(int(o.uid), -1); err != nil {
			t.Fatal(err)
		}
		_, lines := startWaiter(t, cmd, master)
		for _, step := range []struct{ keys, want string }{{"hello\n", "read hello"}, {"\x03", "signal interrupt"}, {"again\n", "read again"}} {
			if _, err := master.WriteString(step.keys); err != nil {
				t.Fatal(err)
			}
			expectLine(t, lines, step.want)
		}
		if err := cmd.Process.Signal(unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		expectLine(t, lines, "signal user defined signal 1")
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 7 {
			t.Errorf("got exit code %d, want 7", got)
		}
	})
}

// openTerminal opens a pseudo terminal that echoes nothing.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a pseudo terminal: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	mode, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	mode.Lflag &^= unix.ECHO | unix.ECHOCTL
	mode.Oflag &^= unix.OPOST
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, mode); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// TestAsOrdinaryUser runs all of this package's tests as an ordinary user.
func TestAsOrdinaryUser(t *testing.T) {
	if testing.Short() {
		t.Skip("runs every test again")
	}
	eachOrdinary(t, func(t *testing.T, o *ordinary) {
		if o.level == LevelSingle && !isStatic(t) {
			t.Skip("needs a static test binary, without -race: it is started in root filesystems of steps")
		}
		cmd := o.command(t, "-test.v", "-test.run=^Test", "-test.skip=^TestUnified$")
		source, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(cmd.Dir, "testdata"), os.DirFS(filepath.Join(source, "testdata"))); err != nil {
			t.Fatal(err)
		}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "SKIP") {
				t.Log(strings.TrimSpace(line))
			}
		}
		if !strings.Contains(string(out), "--- PASS: TestRunEnds") {
			t.Errorf("no step was run:\n%s", out)
		}
	})
}

// isStatic tells whether this program needs nothing of a root filesystem to start.
func isStatic(t *testing.T) bool {
	t.Helper()
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.Section(".interp") == nil
}

// TestAsConfined runs all of this package's tests as in an ordinary container: root with
// Docker's capabilities and under its seccomp filter, which means without mounts and namespaces.
func TestAsConfined(t *testing.T) {
	if testing.Short() {
		t.Skip("runs every test again")
	}
	needsRoot(t)
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^Test", "-test.skip=^TestUnified$")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), confineVar+"=1", "TMPDIR="+t.TempDir())
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "SKIP") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if !strings.Contains(string(out), `is "chroot"`) || !strings.Contains(string(out), "--- PASS: TestRunEnds") {
		t.Errorf("no step was run at level chroot:\n%s", out)
	}
}
