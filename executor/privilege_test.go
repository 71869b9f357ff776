package executor

import (
	"fmt"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ownCapabilityMask is the capability set that this test has, as /proc shows it.
func ownCapabilityMask(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(readString(t, "/proc/self/status")) {
		if mask, ok := strings.CutPrefix(line, "CapEff:\t"); ok {
			return strings.TrimSpace(mask)
		}
	}
	t.Fatal("no CapEff")
	return ""
}

func TestRunInsecure(t *testing.T) {
	needsMounts(t)
	for _, uid := range []uint32{0, 1000} {
		t.Run(fmt.Sprint("uid ", uid), func(t *testing.T) {
			p := script("grep ^Cap /proc/self/status | while read name mask; do echo $mask; done")
			p.Insecure, p.UID, p.GID = true, uid, uid
			if out, want := mustRun(t, p), strings.Repeat(ownCapabilityMask(t)+"\n", 5); out != want {
				t.Errorf("got\n%swant\n%s", out, want)
			}
		})
	}
	// A mount needs CAP_SYS_ADMIN, and /proc/sys nobody who hides it.
	p := script("mount -t tmpfs none /tmp && echo mounted; grep -E ' (/proc|/sys)/?[^ ]* .* ro[, ]' /proc/mounts; grep -q . /proc/interrupts && echo seen")
	p.Insecure = true
	out := mustRun(t, p)
	if !strings.HasPrefix(out, "mounted\n") || !strings.HasSuffix(out, "seen\n") || testLevel == LevelRoot && out != "mounted\nseen\n" {
		t.Errorf("got %q", out)
	}
}

func TestRunInsecureDevices(t *testing.T) {
	needsRoot(t)
	p := script("stat -c '%n %F %t,%T' /dev/kmsg /dev/fuse /dev/net/tun /dev/loop-control /dev/loop7; stat -c %a /dev/net")
	p.Insecure = true
	want := "/dev/kmsg character special file 1,b\n/dev/fuse character special file a,e5\n/dev/net/tun character special file a,c8\n" +
		"/dev/loop-control character special file a,ed\n/dev/loop7 block special file 7,7\n755\n"
	if out := mustRun(t, p); out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestRunDevices(t *testing.T) {
	needsRoot(t)
	mode, id := os.FileMode(0o640), uint32(5)
	p := script("stat -c '%n %F %a %u:%g %t,%T' /dev/a/b/zero /dev/null; head -c 2 /dev/a/b/zero | wc -c")
	p.Devices = []specs.LinuxDevice{
		{Path: "/dev/a/b/zero", Type: "c", Major: 1, Minor: 5, FileMode: &mode, UID: &id, GID: &id},
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 7},
	}
	want := "/dev/a/b/zero character special file 640 5:5 1,5\n/dev/null character special file 666 0:0 1,7\n2\n"
	if out := mustRun(t, p); out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestRunLimits(t *testing.T) {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &now); err != nil {
		t.Fatal(err)
	}
	p := script("ulimit -S -n; ulimit -H -n; ulimit -S -c")
	p.Limits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 111, Hard: 222}, {Type: "RLIMIT_CORE", Soft: 0, Hard: now.Max}}
	if out := mustRun(t, p); out != "111\n222\n0\n" {
		t.Errorf("got %q", out)
	}
	if testLevel == LevelRoot {
		return
	}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	p.Limits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1, Hard: now.Max + 1}}
	_, err := run(t, s, prepare(t, s, "base"), p)
	if want := fmt.Sprintf("set resource limit nofile: it cannot be more than %d here", now.Max); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestRunShmSize(t *testing.T) {
	needsMounts(t)
	p := script("grep ' /dev/shm ' /proc/mounts | grep -o size=[0-9]*k")
	p.ShmSize = 128 << 20
	if out := mustRun(t, p); out != "size=131072k\n" {
		t.Errorf("got %q", out)
	}
}

func TestListen(t *testing.T) {
	s := newStore(t)
	var uid uint32 = 1000
	l, err := New(s).Listen(0o741, uid, uid)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sn := prepare(t, s, "base")
	if testLevel == LevelSingle {
		uid = 0 // whom everything belongs to
	}
	p := script("stat -c '%F %a %u:%g' /run/x/agent; stat -c %n /run/x/*")
	p.Binds = []Bind{l.Bind("/run/x/agent")}
	out, err := run(t, s, sn, p)
	if want := fmt.Sprintf("socket 741 %d:%d\n/run/x/agent\n", uid, uid); err != nil || out != want {
		t.Errorf("got %v and %q, want %q", err, out, want)
	}
	if got := upperPaths(t, sn); len(got) > 0 {
		t.Errorf("the step left %q", got)
	}
}
