//go:build amd64 || arm64

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStoreOfAnotherUser wants every verb to say what to do, and to change nothing.
func TestStoreOfAnotherUser(t *testing.T) {
	u, err := ordinaryUser()
	if os.Geteuid() != 0 || err != nil {
		t.Skip("needs root, and an ordinary user")
	}
	k := killer{t: t, dir: killStore(t)}
	for dir := k.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := openTo(u, t.TempDir(), filepath.Dir(exe)); err != nil {
		t.Fatal(err)
	}
	before := filesOf(t, k.dir)
	for _, mode := range []os.FileMode{0o700, 0o755} {
		if err := os.Chmod(filepath.Join(k.dir, "store"), mode); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{
			"images", "tag keep:v1 other:v1", "untag keep:v1", "rmi keep:v1", "build ctx", "import rootfs app:v1", "prune -f -a",
			"fsck --repair", "load -i keep.tar", "mutate -l a=1 -t x:v1 keep:v1", "layer create rootfs",
		} {
			c := k.command(line)
			c.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
			out, err := c.CombinedOutput()
			reads := mode == 0o755 && line == "images"
			var exit *exec.ExitError
			failed := errors.As(err, &exit)
			switch {
			case reads && err != nil, !reads && (!failed || exit.ExitCode() != exitStore):
				t.Errorf("mode %o: %s: %v\n%s", mode, line, err, out)
			case !reads && !strings.Contains(string(out), "--root"):
				t.Errorf("mode %o: %s: %s", mode, line, out)
			}
		}
	}
	if err := os.Chmod(filepath.Join(k.dir, "store"), 0o700); err != nil {
		t.Fatal(err)
	}
	if after := filesOf(t, k.dir); after != before {
		t.Errorf("the store was changed:\n%s\n%s", before, after)
	}
	k.must("in the end", "fsck")
}

// filesOf describes the files of a directory.
func filesOf(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", filepath.Join(dir, "store"), "-printf", "%p %m %u %s %T@\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
