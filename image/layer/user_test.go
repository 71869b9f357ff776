package layer

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The tests that need no privilege are run once more as an ordinary user and as root
// of a user namespace, as a rootless build is.
func TestOrdinaryUsers(t *testing.T) {
	if !isRoot() {
		t.Skip("the tests do not run as root: they are an ordinary user's already")
	}
	const first = 100000
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: first, Size: 65536}}
	tests := []struct {
		name  string
		owner int
		attr  *syscall.SysProcAttr
	}{
		{"user", 65534, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}},
		{"user namespace", first, &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
			Credential: &syscall.Credential{},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "layer")
			check(t, err)
			defer os.RemoveAll(dir)
			check(t, os.Chown(dir, tt.owner, tt.owner))
			program := filepath.Join(dir, "test")
			copyProgram(t, program)
			cmd := exec.Command(program, "-test.run", "^Test(Diff|Apply|Tree|Writer|ReadsGNU)", "-test.v", "-test.short")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "TMPDIR="+dir)
			cmd.SysProcAttr = tt.attr
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err = cmd.Run()
			if err != nil && out.Len() == 0 {
				t.Skipf("no such process can be started here: %v", err)
			}
			if err != nil || strings.Count(out.String(), "--- PASS: Test") < 10 {
				t.Errorf("%v\n%s", err, out.Bytes())
			}
		})
	}
}

func copyProgram(t *testing.T, path string) {
	self, err := os.Open("/proc/self/exe")
	check(t, err)
	defer self.Close()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o755)
	check(t, err)
	_, err = io.Copy(f, self)
	check(t, err)
	check(t, f.Close())
	check(t, os.Chmod(path, 0o755))
}
