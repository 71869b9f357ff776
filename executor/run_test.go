package executor

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// foreignArch is an architecture that this machine does not run by itself.
var foreignArch = map[bool]string{true: "amd64", false: "arm64"}[runtime.GOARCH == "arm64"]

// foreignProgram is the header of an ELF program for foreignArch.
var foreignProgram = func() string {
	machine := elf.EM_AARCH64
	if runtime.GOARCH == "arm64" {
		machine = elf.EM_X86_64
	}
	h := make([]byte, 64)
	copy(h, "\x7fELF\x02\x01\x01")
	h[16], h[18], h[20], h[52] = byte(elf.ET_EXEC), byte(machine), 1, 64
	return string(h)
}()

func TestRunEnds(t *testing.T) {
	s := newStore(t)
	makeLayer(t, s, "odd", func(dir string) {
		tree{
			"no-exec": "x", "script": "#!/no/such/shell\n", "junk": "\x00junk", "dir/": "",
			"dos": "#!/bin/sh\r\necho\r\n", "arm": foreignProgram, "through": "#! /arm -x\n", "twice": "#!/script\n",
		}.make(t, dir)
		for _, name := range []string{"script", "junk", "dos", "arm", "through", "twice"} {
			if err := os.Chmod(dir+"/"+name, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, tt := range []struct {
		name   string
		args   []string
		code   int
		signal unix.Signal
		text   string // in the error
	}{
		{name: "success", args: []string{"true"}},
		{name: "failure", args: []string{"false"}, code: 1, text: "exit code: 1"},
		{name: "code", args: []string{"sh", "-c", "exit 77"}, code: 77},
		{name: "code that looks like a signal", args: []string{"sh", "-c", "exit 137"}, code: 137},
		{name: "killed", args: []string{"sh", "-c", "kill -KILL $$"}, code: 137, signal: unix.SIGKILL, text: "SIGKILL"},
		{name: "terminated", args: []string{"sh", "-c", "kill $$"}, code: 143, signal: unix.SIGTERM},
		{name: "killed through init", args: []string{"sh", "-c", "kill 1; sleep 1000"}, code: 143, signal: unix.SIGTERM},
		{name: "whole group killed", args: []string{"sh", "-c", "kill -KILL 0"}, code: 137, signal: unix.SIGKILL},
		{name: "init cannot be killed from inside", args: []string{"sh", "-c", "kill -KILL 1; exit 5"}, code: 5},
		{name: "no such program", args: []string{"no-such-program"}, code: 127, text: `"no-such-program": executable file not found in $PATH`},
		{name: "no such path", args: []string{"/no/such"}, code: 127, text: "/no/such"},
		{name: "not executable", args: []string{"/no-exec"}, code: 126, text: "permission denied"},
		{name: "directory", args: []string{"/dir"}, code: 126, text: "is a directory"},
		{name: "interpreter missing", args: []string{"/script"}, code: 127, text: `interpreter "/no/such/shell"`},
		{name: "interpreter of interpreter missing", args: []string{"/twice"}, code: 127, text: `exec "/twice": interpreter "/no/such/shell"`},
		{name: "carriage return", args: []string{"/dos"}, code: 127, text: `interpreter "/bin/sh\r"`},
		{name: "another machine", args: []string{"/arm"}, code: 126, text: "it is made for " + foreignArch},
		{name: "script for another machine", args: []string{"/through"}, code: 126, text: "it is made for " + foreignArch},
		{name: "no program format", args: []string{"/junk"}, code: 126, text: "exec format error"},
		{name: "this very program", args: []string{"/proc/self/exe"}, code: 126, text: "operation not permitted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if strings.Contains(tt.name, "init") || tt.name == "this very program" {
				needsMounts(t) // process 1 is not the step's
			}
			out, err := run(t, s, prepare(t, s, "base", "odd"), Process{Args: tt.args, Env: []string{"PATH=/none:/bin"}})
			if tt.code == 0 {
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				return
			}
			var exit *ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("got %v, want an ExitError\n%s", err, out)
			}
			if exit.Code != tt.code || exit.Signal != tt.signal {
				t.Errorf("got code %d, signal %d, want %d, %d", exit.Code, exit.Signal, tt.code, tt.signal)
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got error %q, want %q in it", err, tt.text)
			}
		})
	}
}

// onlyMounted are the cases of TestRunOutput that are about mounts and namespaces.
var onlyMounted = []string{
	"no more descriptors", "hostname", "hosts is read-only", "device links", "shared memory", "message queues", "pseudo terminals",
	"masked files", "read-only proc", "read-only sys", "own processes only", "no new privileges is off",
}

// TestRunOutput runs scripts whose output says what a step sees.
func TestRunOutput(t *testing.T) {
	s := newStore(t)
	for _, tt := range []struct{ name, script, want string }{
		{"stdin is empty", "cat; readlink /proc/self/fd/0", "/dev/null\n"},
		{"no more descriptors", "exec ls /proc/self/fd", "0\n1\n2\n3\n"}, // 3 is the directory being read
		{"hostname", "hostname; test ! -e /etc/hostname", "buildkitsandbox\n"},
		{"hosts", "cat /etc/hosts", "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
		{"hosts is read-only", "(echo x >/etc/hosts || echo x >/etc/resolv.conf || echo refused) 2>/dev/null", "refused\n"},
		{"working directory", "pwd", "/\n"},
		{"umask", "umask", "0022\n"},
		{
			"devices", "stat -c '%n %a %t,%T' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty",
			"/dev/null 666 1,3\n/dev/zero 666 1,5\n/dev/full 666 1,7\n/dev/random 666 1,8\n/dev/urandom 666 1,9\n/dev/tty 666 5,0\n",
		},
		{"devices work", "echo gone >/dev/null && head -c 3 /dev/zero | wc -c && head -c 5 /dev/urandom | wc -c; echo x >/dev/full || true", "3\n5\nsh: write error: No space left on device\n"},
		{
			"device links", "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done",
			"/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n",
		},
		{"core", "test ! -e /proc/kcore || test $(readlink /dev/core) = /proc/kcore", ""},
		{"no more in dev", "cd /dev; for n in *; do case $n in null|zero|full|random|urandom|tty|fd|stdin|stdout|stderr|ptmx|core|pts|shm|mqueue) ;; *) echo $n;; esac; done", ""},
		{"standard output by path", "echo out >/dev/stdout; echo err >/dev/stderr", "out\nerr\n"},
		{"shared memory", "stat -f -c %T /dev/shm; stat -c %a /dev/shm; echo x >/dev/shm/x", "tmpfs\n1777\n"},
		{"message queues", "grep -c ' /dev/mqueue mqueue ' /proc/mounts", "1\n"},
		{"pseudo terminals", "grep -c '^devpts /dev/pts .*ptmxmode=666' /proc/mounts; test -c /dev/ptmx && echo ptmx", "1\nptmx\n"},
		{"masked directories", "for d in /proc/acpi /proc/scsi /sys/firmware /sys/devices/virtual/powercap; do test -e $d && ls $d; done; true", ""},
		{"masked files", "cat /proc/keys /proc/timer_list /proc/interrupts", ""},
		{"read-only proc", "(echo 1 >/proc/sys/kernel/printk || echo h >/proc/sysrq-trigger || echo refused) 2>/dev/null", "refused\n"},
		{"read-only sys", "mkdir /sys/fs/cgroup/x 2>/dev/null || touch /sys/x 2>/dev/null || echo refused", "refused\n"},
		{"all of sys read-only", "grep ' /sys' /proc/mounts | grep -v ' ro[ ,]'; true", ""},
		{"own processes only", "for p in /proc/[0-9]*; do read name <$p/comm; echo $name; done", "ocibuild-init\nsh\n"},
		{"init is out of reach", "(cat /proc/1/exe || cat /proc/1/environ || cat /proc/1/fd/0 || ls /proc/1/root/ || ls /proc/1/cwd/ || echo refused) 2>/dev/null", "refused\n"},
		{"host mounts are gone", "grep -v -E ' / | /proc| /sys| /dev| /etc/' /proc/mounts; true", ""},
		{"no new privileges is off", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t0\n"},
		{"default path", "echo $PATH", "/bin\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if slices.Contains(onlyMounted, tt.name) {
				needsMounts(t)
			}
			out, err := run(t, s, prepare(t, s, "base"), script(tt.script))
			if err != nil || out != tt.want {
				t.Errorf("got %v and %q, want %q", err, out, tt.want)
			}
		})
	}
}

func TestRunCapabilities(t *testing.T) {
	needsMounts(t)
	const docker, nothing = "00000000a80425fb", "0000000000000000"
	for _, tt := range []struct {
		name                string
		uid                 uint32
		effective, bounding string
	}{
		{"root", 0, docker, docker},
		{"ordinary user", 1000, nothing, docker},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := script("grep ^Cap /proc/self/status")
			p.UID, p.GID = tt.uid, tt.uid
			want := "CapInh:\t" + nothing + "\nCapPrm:\t" + tt.effective + "\nCapEff:\t" + tt.effective +
				"\nCapBnd:\t" + tt.bounding + "\nCapAmb:\t" + nothing + "\n"
			if out := mustRun(t, p); out != want {
				t.Errorf("got\n%swant\n%s", out, want)
			}
		})
	}
}

func TestRunUsers(t *testing.T) {
	for _, tt := range []struct {
		name     string
		uid, gid uint32
		groups   []uint32
		want     string
	}{
		{"root", 0, 0, nil, "0 0 0"},
		{"user", 1000, 1000, nil, "1000 1000 1000"},
		{"groups", 1000, 1000, []uint32{29, 44}, "1000 1000 1000 29 44"},
		{"root with groups", 0, 0, []uint32{44}, "0 0 0 44"},
		{"group of root", 1000, 0, nil, "1000 0 0"},
		{"unknown", 12345, 54321, nil, "12345 54321 54321"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := script("echo $(id -u) $(id -g) $(id -G); echo ok >/dev/stdout; echo x >/tmp/x; stat -c '%u %g' /tmp/x")
			p.UID, p.GID, p.Groups = tt.uid, tt.gid, tt.groups
			own := strings.Join(strings.Fields(tt.want)[:2], " ")
			if out := mustRun(t, p); out != tt.want+"\nok\n"+own+"\n" {
				t.Errorf("got %q, want %q", out, tt.want)
			}
		})
	}
}

func TestRunSetuidProgram(t *testing.T) {
	needsMounts(t)
	needsIDs(t)
	s := newStore(t)
	makeLayer(t, s, "suid", func(dir string) {
		program, err := os.ReadFile(busybox)
		if err != nil {
			t.Fatal(err)
		}
		// su is an applet that keeps its privilege, and asks for no password here.
		tree{"suid/su": string(program), "etc/passwd": "root::0:0:root:/:/bin/sh\n"}.make(t, dir)
		if err := os.Chmod(dir+"/suid/su", 0o755|os.ModeSetuid); err != nil {
			t.Fatal(err)
		}
	})
	p := script("/suid/su -c 'id -u; grep CapEff /proc/self/status' root")
	p.UID, p.GID = 1000, 1000
	out, err := run(t, s, prepare(t, s, "base", "suid"), p)
	if err != nil || out != "0\nCapEff:\t00000000a80425fb\n" {
		t.Errorf("got %v and %q, want root with Docker's capabilities", err, out)
	}
}

// TestRunSignals passes signals on to a step, which goes on or ends as it likes.
func TestRunSignals(t *testing.T) {
	s := newStore(t)
	signals := make(chan os.Signal, 1)
	out := &watch{want: "up\n"}
	out.then = func() {
		signals <- unix.SIGHUP
		out.want, out.then = "hup\n", func() { signals <- unix.SIGTERM }
	}
	p := script("trap 'echo hup' HUP; trap 'echo term; exit 9' TERM; echo up; while :; do sleep 0.05; done")
	err := New(s).Run(t.Context(), prepare(t, s, "base"), p, IO{Stdout: out, Signals: signals})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 9 || exit.Signal != 0 || out.String() != "up\nhup\nterm\n" {
		t.Errorf("got %v, %q", err, out.String())
	}
}

// TestRunDiskFull fills what a step may write to; the next one is not hindered.
func TestRunDiskFull(t *testing.T) {
	needsMounts(t) // a tmpfs is a copy elsewhere
	s := newStore(t)
	p := script("dd if=/dev/zero of=/small/x bs=1M count=9; echo $?; rm /small/x; echo fits > /small/y && cat /small/y")
	p.Mounts = []specs.Mount{{Destination: "/small", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m"}}}
	out, err := run(t, s, prepare(t, s, "base"), p)
	if err != nil || !strings.Contains(out, "No space left on device") || !strings.HasSuffix(out, "1\nfits\n") {
		t.Errorf("got %v, %q", err, out)
	}
}

func TestRunReapsOrphans(t *testing.T) {
	// Each sleep loses its parent and becomes init's; none may stay as a zombie.
	out := mustRun(t, script(`i=0
while [ $i -lt 20 ]; do (sleep 0.01 &); i=$((i+1)); done
while ps -o comm,stat | grep -q '^sleep.*[SR]'; do :; done
for try in 1 2 3 4 5 6 7 8 9 10; do
	ps -o comm,stat | grep -q ' Z' || break
	sleep 0.1
done
ps -o comm,stat | grep -c ' Z'
true`))
	if out != "0\n" {
		t.Errorf("zombies left: %s", out)
	}
}

func TestRunKillsWhatIsLeft(t *testing.T) {
	// The background process holds the output open: Run would not return if it lived.
	out := mustRun(t, script("sleep 100000 & setsid sleep 100000 & (trap '' TERM HUP; sleep 100000) & echo done"))
	if out != "done\n" {
		t.Errorf("got %q", out)
	}
}

func TestRunBigOutput(t *testing.T) {
	s := newStore(t)
	var out, errs bytes.Buffer
	p := script("yes 0123456789 | head -c 20000000; yes e | head -c 1000000 >&2")
	err := New(s).Run(context.Background(), prepare(t, s, "base"), p, IO{Stdout: &out, Stderr: &errs})
	if err != nil || out.Len() != 20000000 || errs.Len() != 1000000 {
		t.Errorf("got %v, %d and %d bytes", err, out.Len(), errs.Len())
	}
}

func TestRunOutputStreams(t *testing.T) {
	s := newStore(t)
	sn := prepare(t, s, "base")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := New(s).Run(ctx, sn, script("echo first; sleep 100000"), IO{Stdout: w})
		w.Close()
		done <- err
	}()
	line := make([]byte, 6)
	if _, err := io.ReadFull(r, line); err != nil || string(line) != "first\n" {
		t.Errorf("got %q, %v", line, err)
	}
	cancel()
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v after the end", rest, err)
	}
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRunTogether(t *testing.T) {
	s := newStore(t)
	e := New(s)
	var wg sync.WaitGroup
	for i := range 8 {
		sn := prepare(t, s, "base")
		wg.Go(func() {
			var out bytes.Buffer
			p := script(fmt.Sprintf("echo %d >/n; cat /n; exit %d", i, i))
			err := e.Run(context.Background(), sn, p, IO{Stdout: &out})
			var exit *ExitError
			if out.String() != fmt.Sprintln(i) || (i > 0) != errors.As(err, &exit) || i > 0 && exit.Code != i {
				t.Errorf("step %d: %v, %q", i, err, out.String())
			}
		})
	}
	wg.Wait()
}

func TestProtectedSelf(t *testing.T) {
	needsMounts(t)
	if enterErr != nil {
		t.Skipf("needs to mount: %v", enterErr)
	}
	f, err := protectedSelf()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Flags&unix.ST_RDONLY == 0 {
		t.Errorf("own program: %v, mount flags %x, want it read-only", err, st.Flags)
	}
}

func TestRunFailingWriter(t *testing.T) {
	s := newStore(t)
	p := script("yes 2>/dev/null; true")
	err := New(s).Run(context.Background(), prepare(t, s, "base"), p, IO{Stdout: failingWriter{}})
	if !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("got %v, want the writer's error", err)
	}
}

type failingWriter struct{}

// Write implements io.Writer.
func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrShortBuffer }

func TestRunLongArguments(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	p := script("echo ${#LONG} ${#1}")
	p.Args = append(p.Args, "sh", long)
	p.Env = append(p.Env, "LONG="+long)
	if out := mustRun(t, p); out != "100000 100000\n" {
		t.Errorf("got %q", out)
	}
	s := newStore(t)
	p.Args = append(p.Args, strings.Repeat("x", 200_000)) // more than one argument may have
	_, err := run(t, s, prepare(t, s, "base"), p)
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 126 || !strings.Contains(err.Error(), "argument list too long") {
		t.Errorf("got %v, want argument list too long", err)
	}
}

func TestRunWorkingDirectory(t *testing.T) {
	s := newStore(t)
	makeLayer(t, s, "dirs", func(dir string) {
		tree{"real/": "", "link ->": "/real", "file": ""}.make(t, dir)
	})
	const uid = 1000
	t.Run("missing", func(t *testing.T) {
		sn := prepare(t, s, "base", "dirs")
		p := script("pwd; stat -c '%a %u %g' . ..")
		p.Cwd, p.UID, p.GID = "/a/b", uid, uid
		out, err := run(t, s, sn, p)
		if err != nil || out != "/a/b\n755 1000 1000\n755 1000 1000\n" {
			t.Errorf("got %v, %q", err, out)
		}
		if got := upperPaths(t, sn); !slices.Equal(got, []string{"a", "a/b"}) {
			t.Errorf("upper has %q", got)
		}
	})
	t.Run("through a link", func(t *testing.T) {
		sn := prepare(t, s, "base", "dirs")
		p := script("pwd -P")
		p.Cwd = "/link/new"
		out, err := run(t, s, sn, p)
		if err != nil || out != "/real/new\n" {
			t.Errorf("got %v, %q", err, out)
		}
	})
	t.Run("a file", func(t *testing.T) {
		p := script("true")
		p.Cwd = "/file"
		if _, err := run(t, s, prepare(t, s, "base", "dirs"), p); err == nil {
			t.Error("no error")
		}
	})
	t.Run("out of the root", func(t *testing.T) {
		p := script("pwd")
		p.Cwd = "/../../tmp"
		out, err := run(t, s, prepare(t, s, "base", "dirs"), p)
		if err != nil || out != "/tmp\n" {
			t.Errorf("got %v, %q", err, out)
		}
	})
}

func TestRunNetwork(t *testing.T) {
	needsMounts(t)
	p := script("readlink /proc/self/ns/net; ls /sys/class/net; grep -c : /proc/net/dev; nc -l -p 1234 127.0.0.1 -e echo hello & " +
		"n=0; until echo | nc 127.0.0.1 1234 2>/dev/null || [ $n = 100 ]; do n=$((n+1)); sleep 0.05; done")
	p.Network = NetworkNone
	lines := strings.Split(strings.TrimSpace(mustRun(t, p)), "\n")
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 4 || lines[0] == own || lines[1] != "lo" || lines[2] != "1" || lines[3] != "hello" {
		t.Errorf("got %q", lines)
	}
	if out := mustRun(t, script("readlink /proc/self/ns/net")); out != own+"\n" {
		t.Errorf("host network: got %q, want %q", out, own)
	}
	s := newStore(t)
	p.Network = "bridge"
	if _, err := run(t, s, prepare(t, s, "base"), p); err == nil || !strings.Contains(err.Error(), "bridge") {
		t.Errorf("got %v, want the unsupported mode named", err)
	}
}

func TestRunCgroup2(t *testing.T) {
	needsRoot(t)
	s := newStore(t)
	h, err := detectHost(Process{})
	if err != nil {
		t.Fatal(err)
	}
	h.CgroupV2 = true // the kernel has it, wherever the machine mounts it
	p, err := compile(Spec(script("grep -c '^cgroup /sys/fs/cgroup cgroup2 ro,' /proc/mounts; test -e /sys/fs/cgroup/cgroup.procs && cat /proc/self/cgroup | grep ^0"), h))
	if err != nil {
		t.Fatal(err)
	}
	p.Scratch = s.path(emptyDir)
	sn := prepare(t, s, "base")
	var out bytes.Buffer
	err = New(s).inMount(sn, func(at mounted) error {
		return runPlan(context.Background(), p, at, &stubs{upper: sn.Upper()}, job{io: IO{Stdout: &out}, spares: new(spares)})
	})
	if err != nil || out.String() != "1\n0::/\n" {
		t.Errorf("got %v, %q", err, out.String())
	}
}

func TestRunHostname(t *testing.T) {
	needsMounts(t)
	p := script("hostname; cat /etc/hosts; test ! -e /etc/hostname")
	p.Hostname = "builder-1"
	p.ExtraHosts = []HostIP{{"db", netip.MustParseAddr("10.0.0.7")}, {"db6", netip.MustParseAddr("fd00::7")}}
	want := "builder-1\n127.0.0.1\tlocalhost builder-1\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.7\tdb\nfd00::7\tdb6\n"
	if out := mustRun(t, p); out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	s := newStore(t)
	for _, name := range []string{"two words", "a\n10.0.0.1 db", strings.Repeat("x", 65)} {
		p.Hostname = name
		if _, err := run(t, s, prepare(t, s, "base"), p); err == nil || !strings.Contains(err.Error(), "cannot be a hostname") {
			t.Errorf("hostname %q: got %v", name, err)
		}
	}
}

func TestRunResolvConf(t *testing.T) {
	want := readResolvConf(os.ReadFile)
	if out := mustRun(t, script("cat /etc/resolv.conf")); out != string(want) {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestRunMounts(t *testing.T) {
	needsMounts(t)
	s := newStore(t)
	dir := t.TempDir()
	tree{"file": "text", "sub/x": "deep"}.make(t, dir)
	sn := prepare(t, s, "base")
	p := script("cat /in/file /in/sub/x /one; touch /in/no 2>/dev/null || echo refused; touch /rw/yes; echo x >/scratch/x; stat -f -c %T /scratch; stat -c %a /scratch")
	p.Mounts = []specs.Mount{
		{Destination: "/in", Type: "bind", Source: dir, Options: []string{"rbind", "ro"}},
		{Destination: "/one", Type: "bind", Source: dir + "/file", Options: []string{"bind", "ro"}},
		{Destination: "/rw", Type: "bind", Source: dir + "/sub"},
		{Destination: "/scratch", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=0700", "nosuid"}},
		{Destination: "/scratch/below", Type: "tmpfs", Source: "tmpfs"},
	}
	out, err := run(t, s, sn, p)
	if err != nil || out != "textdeeptextrefused\ntmpfs\n700\n" {
		t.Errorf("got %v, %q", err, out)
	}
	if got := upperPaths(t, sn); len(got) > 0 {
		t.Errorf("upper has %q", got)
	}
	if _, err := os.Stat(dir + "/sub/yes"); err != nil {
		t.Error(err)
	}
	p.Mounts = []specs.Mount{{Destination: "/x", Type: "ext4", Source: "/dev/null"}}
	if _, err := run(t, s, sn, p); err == nil || !strings.Contains(err.Error(), "ext4") {
		t.Errorf("got %v, want the type refused", err)
	}
}

// TestRunMountOrder mounts what is below another mount, and two on one target.
func TestRunMountOrder(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	tree{"a/file": "one", "b/file": "two"}.make(t, dir)
	p := script("cat /top/below/file /x; stat -c %a /top/secret; grep -c ' /dev/shm ' /proc/mounts; grep ' /dev/shm ' /proc/mounts | grep -o size=[0-9]*k")
	p.Files = []File{{Target: "/top/secret", Mode: 0o400}, {Target: "/x", Data: []byte("first")}, {Target: "/x", Data: []byte("last")}}
	p.Mounts = []specs.Mount{
		{Destination: "/top/below/", Type: "bind", Source: dir + "/a"},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m"}},
		{Destination: "/top", Type: "tmpfs", Source: "tmpfs"},
	}
	out, err := run(t, s, prepare(t, s, "base"), p)
	if !testLevel.Mounts() {
		out = strings.Replace(out, "\n0\n", "\n1\nsize=1024k\n", 1)
		err = nil
	}
	if err != nil || out != "onelast400\n1\nsize=1024k\n" {
		t.Errorf("got %v, %q", err, out)
	}
}

func TestRunMountKinds(t *testing.T) {
	s := newStore(t)
	for want, p := range map[string]Process{
		"mount /etc/passwd: a directory cannot be mounted on a file": {Mounts: []specs.Mount{{Destination: "/etc/passwd", Type: "tmpfs", Source: "tmpfs"}}},
		"mount /tmp: a file cannot be mounted on a directory":        {Files: []File{{Target: "/tmp"}}},
	} {
		p.Args = []string{"/bin/true"}
		if _, err := run(t, s, prepare(t, s, "base"), p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestRunChanges(t *testing.T) {
	s := newStore(t)
	sn := prepare(t, s, "base")
	out, err := run(t, s, sn, script("echo new >/new; rm /etc/group; chmod 600 /etc/passwd"))
	if err != nil {
		t.Fatal(err, out)
	}
	if got := upperPaths(t, sn); !slices.Equal(got, []string{"etc", "etc/group", "etc/passwd", "new"}) {
		t.Errorf("upper has %q", got)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(sn.Upper(), "etc/group"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("removed file: %v, mode %o, want a whiteout", err, st.Mode)
	}
	// A second run of the same snapshot sees what the first one did.
	if out, err := run(t, s, sn, script("cat /new; test -e /etc/group || echo gone")); err != nil || out != "new\ngone\n" {
		t.Errorf("second run: %v, %q", err, out)
	}
}

func TestRunUser(t *testing.T) {
	for _, tt := range []struct{ user, env, want string }{
		{"", "", "0:0 /root"},
		{"bob", "", "1000:1000 /home/bob"},
		{"bob", "HOME=/elsewhere", "1000:1000 /elsewhere"},
		{"7:8", "", "7:8 /"},
	} {
		t.Run(tt.user+" "+tt.env, func(t *testing.T) {
			p := script("echo $(id -u):$(id -g) $HOME")
			p.User = &tt.user
			if tt.env != "" {
				p.Env = append(p.Env, tt.env)
			}
			if out := mustRun(t, p); out != tt.want+"\n" {
				t.Errorf("got %q, want %q", out, tt.want)
			}
		})
	}
	s := newStore(t)
	p := script("true")
	nobody := "nobody"
	p.User = &nobody
	_, err := run(t, s, prepare(t, s, "base"), p)
	var unknown *UserError
	if !errors.As(err, &unknown) || unknown.User != nobody {
		t.Errorf("got %v, want a UserError", err)
	}
}
