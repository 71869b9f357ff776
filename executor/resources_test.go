package executor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestSettings(t *testing.T) {
	for name, test := range map[string]struct {
		r      Resources
		v1, v2 string
	}{
		"none":               {},
		"memory":             {Resources{Memory: 64}, "memory.limit_in_bytes=64 memory.memsw.limit_in_bytes=128", "memory.max=64 memory.swap.max=64"},
		"swap":               {Resources{Memory: 64, Swap: 80}, "memory.limit_in_bytes=64 memory.memsw.limit_in_bytes=80", "memory.max=64 memory.swap.max=16"},
		"swap without limit": {Resources{Memory: 64, Swap: -1}, "memory.limit_in_bytes=64 memory.memsw.limit_in_bytes=-1", "memory.max=64 memory.swap.max=max"},
		"cpus":               {Resources{CPUQuota: 150000}, "cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000", "cpu.max=150000 100000"},
		"period":             {Resources{CPUQuota: 10, CPUPeriod: 20}, "cpu.cfs_period_us=20 cpu.cfs_quota_us=10", "cpu.max=10 20"},
		"shares":             {Resources{CPUShares: 1024}, "cpu.shares=1024", "cpu.weight=39"},
		"sets":               {Resources{CPUs: "0-1", Mems: "0"}, "cpuset.cpus=0-1 cpuset.mems=0", "cpuset.cpus=0-1 cpuset.mems=0"},
		"pids":               {Resources{PIDs: 7}, "pids.max=17", "pids.max=17"},
		"no pids limit":      {Resources{PIDs: -1}, "pids.max=max", "pids.max=max"},
	} {
		t.Run(name, func(t *testing.T) {
			for v2, want := range map[bool]string{false: test.v1, true: test.v2} {
				list, err := settings(test.r.spec(), v2)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, s := range list {
					got = append(got, s.file+"="+s.value)
				}
				if text := strings.Join(got, " "); text != want {
					t.Errorf("v2 %v: got %q, want %q", v2, text, want)
				}
			}
		})
	}
	if _, err := settings(&specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{}}, true); err == nil {
		t.Error("a limit that nothing sets is not refused")
	}
}

func TestHierarchies(t *testing.T) {
	for name, test := range map[string]struct {
		mountinfo, membership string
		want                  []hierarchy
	}{
		"v2": {
			"30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n",
			"0::/user.slice/user-1000.slice\n",
			[]hierarchy{{v2: true, mount: "/sys/fs/cgroup", own: "/sys/fs/cgroup/user.slice/user-1000.slice"}},
		},
		"a container of v1, without a namespace": {
			"30 23 0:26 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup ro,memory\n",
			"4:memory:/docker/abc\n0::/\n",
			[]hierarchy{{controllers: []string{"memory"}, mount: "/sys/fs/cgroup/memory", own: "/sys/fs/cgroup/memory"}},
		},
		"a cgroup beside the mount's": {
			"30 23 0:26 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup ro,memory\n",
			"4:memory:/docker/abcdef\n",
			[]hierarchy{{controllers: []string{"memory"}, mount: "/sys/fs/cgroup/memory", own: "/sys/fs/cgroup/memory"}},
		},
		"two controllers in one, and a named one": {
			"30 23 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n31 23 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n",
			"3:cpu,cpuacct:/a\n2:name=systemd:/b\n",
			[]hierarchy{
				{controllers: []string{"cpu", "cpuacct"}, mount: "/sys/fs/cgroup/cpu,cpuacct", own: "/sys/fs/cgroup/cpu,cpuacct/a"},
				{controllers: []string{"name=systemd"}, mount: "/sys/fs/cgroup/systemd", own: "/sys/fs/cgroup/systemd/b"},
			},
		},
		"none": {"22 1 0:21 / / rw - ext4 /dev/sda1 rw\n", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := cgroupFile{[]byte(test.mountinfo), []byte(test.membership)}.hierarchies()
			if len(got) != len(test.want) {
				t.Fatalf("got %+v, want %+v", got, test.want)
			}
			for i := range got {
				w := test.want[i]
				if got[i].own != w.own || got[i].mount != w.mount || got[i].v2 != w.v2 || strings.Join(got[i].controllers, ",") != strings.Join(w.controllers, ",") {
					t.Errorf("got %+v, want %+v", got[i], w)
				}
			}
		})
	}
}

// unified makes files like those of a cgroup v2 of ours, two levels deep, whose upper
// one gives the lower ones some controllers.
func unified(t *testing.T, controllers string) hierarchy {
	t.Helper()
	mount := t.TempDir()
	tree{
		"cgroup.controllers": "memory cpu pids", "cgroup.procs": "", "cgroup.subtree_control": controllers,
		"own/cgroup.procs": "", "own/cgroup.subtree_control": "",
	}.make(t, mount)
	return hierarchy{v2: true, mount: mount, own: filepath.Join(mount, "own")}
}

func TestUnifiedPlace(t *testing.T) {
	h := unified(t, "memory pids")
	g, err := cgroups{h}.make(nil)
	if err != nil {
		t.Fatal(err)
	}
	if dir := filepath.Dir(g.dirs[0].path); dir != h.mount {
		t.Errorf("made in %s, want the nearest with controllers, %s", dir, h.mount)
	}
	if _, err := (cgroups{unified(t, "pids")}).make(nil); !errors.Is(err, errNoCgroup) {
		t.Errorf("measuring alone must enable nothing: %v", err)
	}
	_, err = cgroups{h}.make(Resources{CPUs: "0"}.spec())
	if !errors.Is(err, errNoCgroup) || !strings.Contains(err.Error(), "cpuset") {
		t.Errorf("got %v, want that cpuset is missing", err)
	}
}

func TestSweepCgroups(t *testing.T) {
	parent := t.TempDir()
	tree{cgroupPrefix + "1-gone/below/": "", "other/": ""}.make(t, parent)
	used, err := newCgroupDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	defer used.lock.Close()
	sweepCgroups(parent)
	left, err := readNames(parent)
	if err != nil || len(left) != 2 || strings.Contains(strings.Join(left, " "), "gone") {
		t.Errorf("left is %q, %v: want what is in use, and what is not ours", left, err)
	}
}

func TestParseCPUs(t *testing.T) {
	for text, want := range map[string]int{"": 0, "0": 1, "0-2,5": 4, "3-1": -1, "x": -1, "1,": -1, "99999999": -1} {
		got, err := ParseCPUs(text)
		if (err != nil) != (want < 0) || want >= 0 && len(got) != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}

// limited runs a script with limits that a cgroup keeps, or skips.
func limited(t *testing.T, text string, r Resources) (string, Usage, error) {
	t.Helper()
	s := newStore(t)
	e := New(s)
	if err := e.CanLimit(r); err != nil {
		t.Skipf("needs a cgroup: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := script(text)
	p.Resources = r
	var out bytes.Buffer
	var used Usage
	err := e.Run(ctx, prepare(t, s, "base"), p, IO{Stdout: &out, Stderr: &out, Used: &used})
	if left := cgroupsOf(t, os.Getpid()); len(left) > 0 {
		t.Errorf("cgroups are left: %q", left)
	}
	return out.String(), used, err
}

func TestRunOutOfMemory(t *testing.T) {
	_, used, err := limited(t, "dd if=/dev/zero of=/dev/null bs=200M count=1; exit 3", Resources{Memory: 48 << 20, Swap: 48 << 20})
	var exit *ExitError
	if !errors.As(err, &exit) || !exit.OutOfMemory || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("got %v", err)
	}
	if used.PeakMemory < 16<<20 || used.PeakMemory > 50<<20 {
		t.Errorf("peak memory is %d", used.PeakMemory)
	}
}

func TestRunForkBomb(t *testing.T) {
	out, _, err := limited(t, "f() { f | f & }; f 2>/dev/null; i=0; while [ $i -lt 100 ]; do sleep 100 & i=$((i+1)); done; echo not reached", Resources{PIDs: 30})
	var exit *ExitError
	if err != nil && !testLevel.Mounts() && strings.Contains(err.Error(), "init ended") {
		return // the limit is the init process's too, and a Go program ends when it can have no thread
	}
	if !errors.As(err, &exit) || strings.Contains(out, "not reached") {
		t.Errorf("got %v, %.200s", err, out)
	}
}

// TestRunFewProcesses has a limit that the init process alone would reach.
func TestRunFewProcesses(t *testing.T) {
	needsMounts(t)
	out, _, err := limited(t, "echo one | cat", Resources{PIDs: 3})
	if err != nil || out != "one\n" {
		t.Errorf("got %v, %.200q", err, out)
	}
}

func TestRunSeesItsCgroupAsRoot(t *testing.T) {
	needsMounts(t)
	out, _, err := limited(t, "cat /proc/self/cgroup", Resources{PIDs: 30})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, "pids:") && !strings.HasSuffix(line, ":/\n") {
			t.Errorf("got %q, want the root", line)
		}
	}
}

func TestRunUsage(t *testing.T) {
	s := newStore(t)
	p := script("dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 1")
	var used Usage
	err := New(s).Run(t.Context(), prepare(t, s, "base"), p, IO{Used: &used})
	var exit *ExitError
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if used.PeakMemory < 1<<19 || used.CPUTime <= 0 || used.Written < 8<<20 && !inMemory(t, s.dir) {
		t.Errorf("got %+v", used)
	}
}

// inMemory says that nothing written to a directory reaches a disk.
func inMemory(t *testing.T, dir string) bool {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Type == unix.TMPFS_MAGIC
}

// TestRunResourcesHold looks at the cgroups of a step while it runs.
func TestRunResourcesHold(t *testing.T) {
	for name, test := range map[string]struct {
		r    Resources
		want map[string]string // by name of a file, of v1 or v2, where it is there
	}{
		"memory": {Resources{Memory: 512 << 20}, map[string]string{
			"memory.limit_in_bytes": "536870912", "memory.memsw.limit_in_bytes": "1073741824",
			"memory.max": "536870912", "memory.swap.max": "536870912",
		}},
		"no swap": {Resources{Memory: 512 << 20, Swap: 512 << 20}, map[string]string{
			"memory.memsw.limit_in_bytes": "536870912", "memory.max": "536870912", "memory.swap.max": "0",
		}},
		"processors": {Resources{CPUQuota: 50_000, CPUShares: 512}, map[string]string{
			"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000", "cpu.shares": "512", "cpu.max": "50000 100000", "cpu.weight": "20",
		}},
		"which processors": {Resources{CPUs: "0", Mems: "0"}, map[string]string{"cpuset.cpus": "0", "cpuset.mems": "0"}},
		"processes":        {Resources{PIDs: 99}, map[string]string{"pids.max": "109"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			e := New(s)
			if err := e.CanLimit(test.r); err != nil {
				t.Skipf("needs a cgroup: %v", err)
			}
			stdin, end := io.Pipe()
			p := script("echo up; cat; grep Cpus_allowed_list /proc/self/status")
			p.Resources = test.r
			met := 0
			out := &watch{want: "up\n", then: func() {
				for _, dir := range cgroupsOf(t, os.Getpid()) {
					met += holds(t, dir, test.want)
				}
				end.Close()
			}}
			if err := e.Run(t.Context(), prepare(t, s, "base"), p, IO{Stdout: out, Stdin: stdin}); err != nil {
				t.Fatal(err)
			}
			if met == 0 {
				t.Error("no cgroup has any of the files")
			}
			if test.r.CPUs != "" && !strings.Contains(out.String(), "list:\t"+test.r.CPUs+"\n") {
				t.Errorf("the step may run on %q", out.String())
			}
		})
	}
}

// holds counts the files of a cgroup that say what they should.
func holds(t *testing.T, dir string, want map[string]string) (n int) {
	t.Helper()
	for file, text := range want {
		got, err := os.ReadFile(filepath.Join(dir, file))
		if err == nil && strings.TrimSpace(string(got)) == text {
			n++
		} else if err == nil {
			t.Errorf("%s of %s says %s, want %s", file, dir, got, text)
		}
	}
	return n
}

// TestRunThrottled lets a step use more than it may until the kernel has held it back.
func TestRunThrottled(t *testing.T) {
	s := newStore(t)
	e := New(s)
	p := script("echo up; while :; do :; done")
	p.Resources = Resources{CPUQuota: 10_000}
	if err := e.CanLimit(p.Resources); err != nil {
		t.Skipf("needs a cgroup: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	held := false
	out := &watch{want: "up\n", then: func() {
		go func() {
			defer cancel()
			for ctx.Err() == nil && !held {
				held = slices.ContainsFunc(cgroupsOf(t, os.Getpid()), wasThrottled)
				time.Sleep(10 * time.Millisecond)
			}
		}()
	}}
	if err := e.Run(ctx, prepare(t, s, "base"), p, IO{Stdout: out}); !errors.Is(err, context.Canceled) || !held {
		t.Errorf("got %v, held back %v", err, held)
	}
}

// wasThrottled says that a cgroup's processes have had to wait for a next period.
func wasThrottled(dir string) bool {
	text, _ := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "nr_throttled "); ok {
			return n != "0\n"
		}
	}
	return false
}

// TestRunSubstitutes limits where there are no cgroups.
func TestRunSubstitutes(t *testing.T) {
	if raceDetector && !testLevel.Mounts() {
		t.Skip("the race detector's memory is limited too, until the command has taken its process over")
	}
	s := newStore(t)
	e := New(s)
	e.cgroups = func() (cgroups, error) { return nil, nil }
	if err := e.CanLimit(Resources{Memory: 1}); !errors.Is(err, errNoCgroup) {
		t.Errorf("got %v", err)
	}
	p := script("ulimit -d; while read a b c d e; do test \"$a$b\" = Maxprocesses && echo $c; done < /proc/self/limits; grep Cpus_allowed_list /proc/self/status")
	p.Resources = Resources{Memory: 256 << 20, PIDs: 900, CPUQuota: 50_000}
	var out bytes.Buffer
	if err := e.Run(t.Context(), prepare(t, s, "base"), p, IO{Stdout: &out, Stderr: &out}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(out.String())
	if len(lines) != 4 || lines[0] != "262144" || lines[1] != "900" {
		t.Fatalf("got %q", lines)
	}
	var have unix.CPUSet
	if unix.SchedGetaffinity(0, &have) == nil && have.Count() > 1 && lines[3] != "0" {
		t.Errorf("the command is on processors %s", lines[3])
	}
}

func TestRunLimitsAreNotRaised(t *testing.T) {
	p := &plan{}
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	p.lower(unix.RLIMIT_NOFILE, now.Max+1)
	if now.Max != unix.RLIM_INFINITY && p.Limits[0].Hard > now.Max {
		t.Errorf("got %+v, have %+v", p.Limits, now)
	}
	p.lower(unix.RLIMIT_NOFILE, 1)
	if len(p.Limits) != 1 {
		t.Error("a limit that was asked for is overruled")
	}
}

func TestRunTerminal(t *testing.T) {
	s := newStore(t)
	sized := make(chan os.Signal, 1)
	columns := 91
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	out := &watch{want: "ready", then: func() {
		columns = 77
		sized <- unix.SIGWINCH
		_, _ = w.WriteString("go on\n")
	}}
	p := script("tty; stty size 2>/dev/null; test -t 0 && test -t 1 && echo terminals; echo typed > /dev/tty; echo ready; read x; echo got $x; exit 7")
	err = New(s).Run(t.Context(), prepare(t, s, "base"), p, IO{Stdout: out, Stdin: r, Terminal: &Terminal{
		Size: func() (int, int) { return columns, 33 }, Resized: sized,
	}})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 7 {
		t.Errorf("got %v", err)
	}
	name := "/dev/pts/0\r\n"
	if !testLevel.Mounts() {
		name = "not a tty\r\n" // it has no name there
	}
	for _, want := range []string{name, "terminals\r\n", "typed\r\n", "got go on\r\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in %q", want, out.String())
		}
	}
}

func (w *watch) String() string { return w.buf.String() }

// watch is a buffer that calls then once when it has what it wants.
type watch struct {
	buf  bytes.Buffer
	want string
	then func()
}

func (w *watch) Write(p []byte) (int, error) {
	n, err := w.buf.Write(p)
	if then := w.then; then != nil && strings.Contains(w.String(), w.want) {
		w.then = nil
		then()
	}
	return n, err
}

func TestRunStdin(t *testing.T) {
	s := newStore(t)
	var out bytes.Buffer
	p := script("cat; readlink /proc/self/fd/0 | grep -o pipe")
	if err := New(s).Run(t.Context(), prepare(t, s, "base"), p, IO{Stdout: &out, Stdin: strings.NewReader("hello\n")}); err != nil {
		t.Fatal(err)
	}
	if out.String() != "hello\npipe\n" {
		t.Errorf("got %q", out.String())
	}
}
