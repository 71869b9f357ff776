package executor

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestExpect runs more and fewer steps than are expected.
func TestExpect(t *testing.T) {
	s := newStore(t)
	for _, tt := range []struct {
		name           string
		expected, runs int
	}{
		{"none", 0, 0},
		{"as many", 3, 3},
		{"fewer", 3, 1},
		{"never", 2, 0},
		{"more", 1, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, sn := New(s), prepare(t, s, "base")
			if err := e.Run(context.Background(), sn, script("true"), IO{}); err != nil { // opens the poller
				t.Fatal(err)
			}
			before := takeFootprint(t)
			e.Expect(tt.expected)
			for range tt.runs {
				var out bytes.Buffer
				if err := e.Run(context.Background(), sn, script("echo here"), IO{Stdout: &out}); err != nil || out.String() != "here\n" {
					t.Errorf("got %v, %q", err, out.String())
				}
			}
			e.Close()
			before.compare(t, takeFootprint(t))
		})
	}
}

// TestExpectedInTime looks whether the process that was started before is the one that is used.
func TestExpectedInTime(t *testing.T) {
	s := newStore(t)
	e := New(s)
	defer e.Close()
	e.Expect(1)
	waiting, err := e.spares.next()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(context.Background(), prepare(t, s, "base"), script("true"), IO{}); err != nil {
		t.Fatal(err)
	}
	if waiting.cmd.ProcessState == nil {
		t.Error("the process that waited was not used")
	}
}

// TestWaitingProcessHasNothing looks at the descriptors and the environment of a process that waits.
func TestWaitingProcessHasNothing(t *testing.T) {
	secret, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	p, err := startInit(New(newStore(t)).spares.flags)
	if err != nil {
		t.Fatal(err)
	}
	defer p.discard()
	dir := "/proc/" + strconv.Itoa(p.cmd.Process.Pid)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if name, _ := os.ReadFile(dir + "/comm"); strings.HasPrefix(string(name), initName) || time.Now().After(deadline) {
			break
		}
	}
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink(dir + "/fd/" + fd.Name()); to == "/etc/passwd" {
			t.Errorf("descriptor %s is %s", fd.Name(), to)
		}
	}
	if env, _ := os.ReadFile(dir + "/environ"); bytes.Contains(env, []byte("PATH=")) {
		t.Errorf("its environment is %q", env)
	}
}

// TestWaitingProcessEndsWithUs closes the control socket, as the kernel does when we are killed.
func TestWaitingProcessEndsWithUs(t *testing.T) {
	p, err := startInit(New(newStore(t)).spares.flags)
	if err != nil {
		t.Fatal(err)
	}
	p.control.Close()
	if err := p.cmd.Wait(); err == nil {
		t.Error("it ended well")
	}
	if err := unix.Kill(p.cmd.Process.Pid, 0); err == nil {
		t.Error("it is still there")
	}
}
