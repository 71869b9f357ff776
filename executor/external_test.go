package executor

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// runtimes are the programs that tests run specs with.
var runtimes = []string{"runc", "crun"}

func eachRuntime(t *testing.T, do func(t *testing.T, e *Executor, s *Snapshots)) {
	needsMounts(t)
	found := false
	for _, name := range runtimes {
		if _, err := exec.LookPath(name); err != nil {
			continue
		}
		found = true
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			e := New(s)
			if err := e.UseRuntime(name); err != nil {
				t.Fatal(err)
			}
			err := e.Run(t.Context(), prepare(t, s, "base"), script("true"), IO{})
			if err != nil && strings.Contains(err.Error(), "hybrid mode not supported") {
				t.Skip(err) // crun before 1.9, on a machine with both versions of cgroups
			}
			do(t, e, s)
		})
	}
	if !found {
		t.Skip("needs runc or crun")
	}
}

func TestExternalRuntimeIsTheSame(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *Executor, s *Snapshots) {
		for name, p := range map[string]Process{
			"identity":     script("id; hostname; pwd; umask; grep Cap /proc/self/status; cat /etc/hosts"),
			"environment":  script("env | grep -v -e SHLVL -e HOME | sort; echo $0"),
			"devices":      script("cd /dev; ls -l null zero full tty urandom | sed 's,.*root,,;s,[A-Z].*[0-9] ,,'"),
			"user":         {Args: []string{"/bin/sh", "-c", "id; echo $HOME; cd /tmp && touch x && ls -ln x | cut -c1-40"}, User: new("bob:audio"), Cwd: "/tmp"},
			"a code":       script("exit 41"),
			"a signal":     script("sh -c 'kill -9 $$'; exit $?"), // the command itself is the first process of its namespace
			"masked":       script("ls /sys/firmware | wc -l; cat /proc/keys; mount -t tmpfs x /tmp 2>/dev/null; echo $?"),
			"no command":   {Args: []string{"nosuch"}, Env: []string{"PATH=/bin"}},
			"not a file":   {Args: []string{"/etc/passwd"}},
			"left running": script("sleep 1000 & echo left"),
		} {
			t.Run(name, func(t *testing.T) {
				if testLevel == LevelSingle && (name == "user" || name == "identity") {
					t.Skip("other programs know of one id where there is one")
				}
				wantOut, wantErr := run(t, s, prepare(t, s, "base"), p)
				var out bytes.Buffer
				err := e.Run(t.Context(), prepare(t, s, "base"), p, IO{Stdout: &out, Stderr: &out})
				var said string // what the program says of itself
				for line := range strings.Lines(out.String()) {
					if !strings.Contains(line, "unable to start container process") {
						said += line
					}
				}
				if exitCode(err) != exitCode(wantErr) || strings.TrimSpace(said) != strings.TrimSpace(wantOut) {
					t.Errorf("got %v\n%s\nwant %v\n%s", err, &out, wantErr, wantOut)
				}
			})
		}
	})
}

// TestExternalRuntimeUser checks that a user that there is no id for is refused.
func TestExternalRuntimeUser(t *testing.T) {
	needsBelief(t)
	eachRuntime(t, func(t *testing.T, e *Executor, s *Snapshots) {
		p := script("true")
		p.UID = 1000
		err := e.Run(t.Context(), prepare(t, s, "base"), p, IO{})
		if err == nil || !strings.Contains(err.Error(), "/etc/subuid") {
			t.Errorf("got %v, want an error that names /etc/subuid", err)
		}
	})
}

func exitCode(err error) int {
	var exit *ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Code
	}
	return -1
}

func TestExternalRuntimeMounts(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *Executor, s *Snapshots) {
		sn := prepare(t, s, "base")
		before := takeFootprint(t)
		dir := t.TempDir()
		tree{"file": "shown"}.make(t, dir)
		shown, err := OpenTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		p := script("cat /shown/file /run/secret; ! touch /run/secret /shown/x 2>/dev/null && echo read-only; cat /proc/net/route | wc -l")
		p.Binds = []Bind{{Target: "/shown", Tree: shown, ReadOnly: true}}
		p.Files = []File{{Target: "/run/secret", Data: []byte("sesame\n"), Mode: 0o400}}
		p.Network = NetworkNone
		var out bytes.Buffer
		var used Usage
		if err := e.Run(t.Context(), sn, p, IO{Stdout: &out, Stderr: &out, Used: &used}); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		shown.Close()
		if got := out.String(); !strings.HasPrefix(got, "shownsesame\nread-only\n") {
			t.Errorf("got %q", got)
		}
		for _, path := range upperPaths(t, sn) {
			if strings.Contains(path, "shown") || strings.Contains(path, "secret") {
				t.Errorf("the step leaves %s", path)
			}
		}
		if used.PeakMemory == 0 {
			t.Error("nothing was measured")
		}
		before.compare(t, takeFootprint(t))
	})
}

func TestExternalRuntimeMissing(t *testing.T) {
	s := newStore(t)
	if err := New(s).UseRuntime("no-such-runtime"); err == nil || !strings.Contains(err.Error(), "find runtime no-such-runtime: executable file not found") {
		t.Errorf("got %v", err)
	}
	e := New(s)
	if err := e.UseRuntime("/bin/false"); err != nil {
		t.Skip(err)
	}
	var exit *ExitError
	if err := e.Run(t.Context(), prepare(t, s, "base"), script("true"), IO{}); !errors.As(err, &exit) || exit.Code != 1 {
		t.Errorf("got %v", err)
	}
}
