package executor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// footprint is what a step could leave behind on the machine.
type footprint struct{ mounts, cgroups, descriptors, children []string }

func takeFootprint(t *testing.T) footprint {
	t.Helper()
	var f footprint
	for line := range strings.Lines(readString(t, "/proc/self/mountinfo")) {
		if strings.Contains(line, "/Test") { // ours are in a test's directory; others' come and go
			f.mounts = append(f.mounts, line)
		}
	}
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range names {
		if link, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			f.descriptors = append(f.descriptors, e.Name()+" "+link)
		}
	}
	f.children = childrenOf(t, os.Getpid())
	f.cgroups = cgroupsOf(t, os.Getpid())
	return f
}

// cgroupsOf lists the cgroups that a process has made, wherever they are.
func cgroupsOf(t *testing.T, pid int) []string {
	t.Helper()
	var list []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, e os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), cgroupPrefix+strconv.Itoa(pid)+"-") {
			list = append(list, path)
		}
		return nil // others' come and go
	})
	return list
}

func readString(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// childrenOf lists the child processes of a process and of all its threads.
func childrenOf(t *testing.T, pid int) []string {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, l := range lists {
		if data, err := os.ReadFile(l); err == nil {
			pids = append(pids, strings.Fields(string(data))...)
		}
	}
	slices.Sort(pids)
	return pids
}

func (f footprint) compare(t *testing.T, after footprint) {
	t.Helper()
	for _, part := range []struct {
		name     string
		was, now []string
	}{
		{"mounts", f.mounts, after.mounts},
		{"cgroups", f.cgroups, after.cgroups},
		{"descriptors", f.descriptors, after.descriptors},
		{"children", f.children, after.children},
	} {
		for _, x := range part.now {
			if !slices.Contains(part.was, x) {
				t.Errorf("%s: left behind: %s", part.name, x)
			}
		}
	}
}

func TestRunLeavesNothing(t *testing.T) {
	s := newStore(t)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, e *Executor, sn *Snapshot) error
		want func(error) bool
	}{
		{"success", func(_ *testing.T, e *Executor, sn *Snapshot) error {
			return e.Run(context.Background(), sn, script("true"), IO{})
		}, func(err error) bool { return err == nil }},
		{"failure", func(_ *testing.T, e *Executor, sn *Snapshot) error {
			return e.Run(context.Background(), sn, script("sleep 1000 & exit 3"), IO{})
		}, func(err error) bool { return err != nil }},
		{"no command", func(_ *testing.T, e *Executor, sn *Snapshot) error {
			return e.Run(context.Background(), sn, Process{}, IO{})
		}, func(err error) bool { return err != nil }},
		{"not found", func(_ *testing.T, e *Executor, sn *Snapshot) error {
			return e.Run(context.Background(), sn, Process{Args: []string{"nope"}}, IO{})
		}, func(err error) bool { return err != nil }},
		{"bad setup", func(_ *testing.T, e *Executor, sn *Snapshot) error {
			p := script("true")
			p.Cwd = "/bin/busybox"
			return e.Run(context.Background(), sn, p, IO{})
		}, func(err error) bool { return err != nil }},
		{"canceled before", func(_ *testing.T, e *Executor, sn *Snapshot) error {
			return e.Run(canceled, sn, script("true"), IO{})
		}, func(err error) bool { return err == context.Canceled }},
		{"canceled", runCanceled, func(err error) bool { return err == context.Canceled }},
		{"deadline", func(_ *testing.T, e *Executor, sn *Snapshot) error {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			defer cancel()
			return e.Run(ctx, sn, script("while :; do sleep 1000 & done"), IO{})
		}, func(err error) bool { return err == context.DeadlineExceeded }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sn := prepare(t, s, "base")
			if err := New(s).Run(context.Background(), sn, script("true"), IO{}); err != nil { // opens the poller
				t.Fatal(err)
			}
			before := takeFootprint(t)
			if err := tt.do(t, New(s), sn); !tt.want(err) {
				t.Errorf("unexpected result: %v", err)
			}
			before.compare(t, takeFootprint(t))
		})
	}
}

// manySteps is how many steps TestManyStepsLeaveNothing runs as root, and a few at other
// levels; OCIBUILD_STEPS is another number for any.
const manySteps = 1000

// TestManyStepsLeaveNothing runs one short step after another, of many kinds, and looks at what has
// become more: what leaks a little shows in a long build, or in a program that runs many.
func TestManyStepsLeaveNothing(t *testing.T) {
	n := manySteps
	if testing.Short() || raceDetector || testLevel != LevelRoot {
		n = 60
	}
	if text := os.Getenv("OCIBUILD_STEPS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TMPDIR", t.TempDir())
	// Whatever loses its parent becomes a child of this process, where it is seen.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	s := newStore(t)
	kinds := stepKinds(t, s)
	one := func(i int) {
		sn, err := s.Prepare(t.Context(), []string{"base"})
		if err != nil {
			t.Fatal(err)
		}
		p := kinds[i%len(kinds)]
		var exit *ExitError
		if err := New(s).Run(t.Context(), sn, p, IO{}); err != nil && !errors.As(err, &exit) {
			t.Fatalf("step %d, %q: %v", i, p.Args, err)
		}
		if err := sn.Discard(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range kinds {
		one(i)
	}
	before, stored := takeFootprint(t), append(pathsBelow(t, s.dir), pathsBelow(t, os.TempDir())...)
	goroutines, threads := runtime.NumGoroutine(), len(threadsOf(t))
	for i := range n {
		one(i)
	}
	before.compare(t, takeFootprint(t))
	for _, path := range append(pathsBelow(t, s.dir), pathsBelow(t, os.TempDir())...) {
		if !slices.Contains(stored, path) {
			t.Errorf("directories: left behind: %s", path)
		}
	}
	if now := runtime.NumGoroutine(); now > goroutines+5 {
		t.Errorf("there are %d goroutines, were %d", now, goroutines)
	}
	if now := len(threadsOf(t)); now > threads+20 {
		t.Errorf("there are %d threads, were %d", now, threads)
	}
}

// stepKinds are short steps that use what could be left behind.
func stepKinds(t *testing.T, s *Snapshots) []Process {
	t.Helper()
	shared := t.TempDir()
	kinds := []Process{
		{Args: []string{"/bin/true"}},
		{Args: []string{"/bin/true"}, Resources: Resources{PIDs: 500}},
		script("sleep 1000 & setsid sleep 1000 & exit 3"),
		{Args: []string{"/no-such-program"}},
		{Args: []string{"/bin/true"}, Hostname: "other", Mounts: []specs.Mount{{Destination: "/new/dir", Type: "tmpfs", Source: "tmpfs"}}},
		{Args: []string{"/bin/true"}, Files: []File{{Target: "/run/secret", Data: []byte("x"), Mode: 0o400}}},
	}
	if s.level.Mounts() {
		kinds = append(kinds,
			Process{Args: []string{"/bin/true"}, Network: NetworkNone},
			Process{Args: []string{"/bin/true"}, Mounts: []specs.Mount{{Destination: "/shared", Type: "bind", Source: shared, Options: []string{"rbind", "rw"}}}},
		)
	}
	return kinds
}

// pathsBelow lists what is in a directory and in its directories.
func pathsBelow(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"*", "*/*"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, paths...)
	}
	return list
}

func threadsOf(t *testing.T) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// runCanceled cancels when the step is well under way.
func runCanceled(t *testing.T, e *Executor, sn *Snapshot) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := e.Run(ctx, sn, script("trap '' TERM INT; (trap '' TERM; sleep 1000) & echo up; sleep 1000"), IO{Stdout: w})
		w.Close()
		done <- err
	}()
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		t.Error(err)
	}
	cancel()
	return <-done
}

// helpRun runs a step that does not end, in the store that the environment names.
func helpRun() int {
	s, err := OpenSnapshots(os.Getenv("STORE"), testLevel)
	if err != nil {
		return fatal(err)
	}
	sn, err := s.Prepare(context.Background(), []string{"base"})
	if err != nil {
		return fatal(err)
	}
	p := script("trap '' TERM HUP INT; setsid sleep 1000 & echo up; sleep 1000")
	p.Resources.PIDs = 500
	err = New(s).Run(context.Background(), sn, p, IO{Stdout: os.Stdout})
	return fatal(errors.Join(err, sn.Discard()))
}

func TestRunParentKilled(t *testing.T) {
	s := newStore(t)
	before := takeFootprint(t)
	cmd := helper("run", "STORE="+s.dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	children := childrenOf(t, cmd.Process.Pid)
	if len(children) != 1 {
		t.Fatalf("helper has children %q, want one init", children)
	}
	pid, err := strconv.Atoi(children[0])
	if err != nil {
		t.Fatal(err)
	}
	init, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(init)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// PID 1 of a pid namespace ends only after every other process in it has.
	if !waitPidfd(init) {
		t.Fatal("init outlives its parent")
	}
	unix.Close(init)
	after := takeFootprint(t)
	before.compare(t, after)
	active, err := readNames(s.path(activeDir))
	if err != nil || len(active) != 1 {
		t.Errorf("active has %q, %v, want one leftover", active, err)
	}
	// The next step that is run in the store clears up.
	next, err := OpenSnapshots(s.dir, testLevel)
	if err != nil {
		t.Fatal(err)
	}
	sn, err := next.Prepare(t.Context(), []string{"base"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(New(next).Run(t.Context(), sn, script("true"), IO{}), sn.Discard()); err != nil {
		t.Fatal(err)
	}
	next.swept.Wait()
	for _, dir := range []string{activeDir, trashDir} {
		if names, err := readNames(s.path(dir)); err != nil || len(names) > 0 {
			t.Errorf("%s has %q, %v, want nothing", dir, names, err)
		}
	}
	if left := cgroupsOf(t, cmd.Process.Pid); len(left) > 0 {
		t.Errorf("cgroups are left: %q", left)
	}
	if !s.Use("base") {
		t.Error("the base layer is gone")
	}
}

// waitPidfd waits, for a minute at the most, until the process has ended.
func waitPidfd(fd int) bool {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(p, 60_000); n == 1 && err == nil {
			return true
		}
	}
	return false
}
