package bench

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cost is what one piece of work took.
type cost struct {
	Wall, CPU time.Duration
	Peak      int64 // bytes
}

// plus is the cost of doing one after the other.
func (c cost) plus(d cost) cost {
	return cost{c.Wall + d.Wall, c.CPU + d.CPU, max(c.Peak, d.Peak)}
}

// median is the middle of a figure, figure by figure.
func median(costs []cost) cost {
	return cost{
		middle(costs, func(c cost) time.Duration { return c.Wall }),
		middle(costs, func(c cost) time.Duration { return c.CPU }),
		middle(costs, func(c cost) int64 { return c.Peak }),
	}
}

func middle[T cmp.Ordered](costs []cost, of func(cost) T) T {
	var all []T
	for _, c := range costs {
		all = append(all, of(c))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// starter in the environment makes this binary the small process that starts
// a program and tells its cost.
const starter = "OCIBUILD_BENCH_STARTER"

func TestMain(m *testing.M) {
	if os.Getenv(starter) != "" {
		os.Exit(startAndTell(os.Args[1:]))
	}
	code := m.Run()
	printTable(os.Stdout)
	os.Exit(code)
}

// startAndTell runs a command and writes its cost to descriptor 3.
func startAndTell(argv []string) int {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, starter+"=") })
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	began := time.Now()
	err := cmd.Run()
	wall := time.Since(began)
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		return 127
	}
	c := cost{Wall: wall, CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.Peak = usage.Maxrss << 10
	}
	if err := json.NewEncoder(os.NewFile(3, "cost")).Encode(c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 126
	}
	return cmd.ProcessState.ExitCode()
}

// command is a program to be measured.
type command struct {
	argv []string
	env  []string // beside the environment
	dir  string
}

// run runs the command and gives its cost; a failure's error has its output.
func (c command) run() (cost, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return cost{}, err
	}
	defer r.Close()
	self, err := os.Executable()
	if err != nil {
		return cost{}, err
	}
	cmd := exec.Command(self, c.argv...)
	cmd.Dir, cmd.Env = c.dir, append(append(os.Environ(), c.env...), starter+"=1")
	cmd.ExtraFiles = []*os.File{w}
	out, err := cmd.CombinedOutput()
	w.Close()
	if err != nil {
		return cost{}, fmt.Errorf("%q: %w\n%s", c.argv, err, out[max(0, len(out)-4000):])
	}
	var told cost
	text, err := io.ReadAll(r)
	return told, errors.Join(err, json.Unmarshal(text, &told))
}

// here measures work of this process; it has no peak of its own.
func here(work func() error) (cost, error) {
	var before, after syscall.Rusage
	began := time.Now()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	err := work()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	return cost{Wall: time.Since(began), CPU: spent(after) - spent(before)}, err
}

func spent(u syscall.Rusage) time.Duration {
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
