package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ocibuild/ocibuild/executor/seccomp"
)

// testLevel is what TestMain reached; enterErr is why it is none.
var (
	testLevel Level
	enterErr  error
)

// helperVar selects what a test binary started by a test does instead of testing.
const helperVar = "OCIBUILD_TEST_HELPER"

func TestMain(m *testing.M) {
	Init()
	if os.Getenv(unifiedVar) != "" {
		os.Exit(beMachine())
	}
	if os.Getenv(confineVar) != "" {
		os.Exit(fatal(confineSelf()))
	}
	level, exit, done, err := Enter(context.Background(), LevelAuto)
	if done {
		os.Exit(exit)
	}
	testLevel, enterErr = level, err
	if name := os.Getenv(helperVar); name != "" {
		os.Exit(helpers[name]())
	}
	os.Exit(m.Run())
}

// helpers are run by tests in processes of their own.
var helpers = map[string]func() int{
	"level":   helpLevel,
	"run":     helpRun,
	"exit":    func() int { return 42 },
	"suicide": helpSuicide,
	"wait":    helpWait,
	"attack":  helpAttack,
	"become":  helpBecome,
	"rules":   helpRules,
	"sockets": helpSockets,
	"euid":    func() int { fmt.Println(os.Geteuid()); return 0 },
}

// applets are the links to busybox in the test root filesystem.
const applets = "sh cat cp chmod chown chroot cmp date dd df echo env false find grep head hostname id kill ln ls mkdir mknod mount " +
	"mv nc nslookup nsenter ps pwd readlink rm rmdir sed setsid sleep sort stat su test touch tr true tty umount uname unshare wc whoami yes"

const busybox = "/bin/busybox"

// newStore opens a store of snapshots with one layer, "base", that has busybox.
func newStore(t testing.TB) *Snapshots {
	t.Helper()
	return newStoreAt(t, testLevel)
}

// newStoreAt is newStore for steps at another level, which may ask for less than this one.
func newStoreAt(t testing.TB, level Level) *Snapshots {
	t.Helper()
	if enterErr != nil {
		t.Skipf("needs to mount: %v", enterErr)
	}
	if _, err := os.Stat(busybox); err != nil {
		t.Skipf("needs a static busybox: %v", err)
	}
	s, err := OpenSnapshots(t.TempDir(), level)
	if err != nil {
		t.Fatal(err)
	}
	makeLayer(t, s, "base", func(dir string) {
		tree{"bin/": "", "tmp/": "", "proc/": "", "dev/": "", "sys/": "", "etc/passwd": testPasswd, "etc/group": testGroup}.make(t, dir)
		program, err := os.ReadFile(busybox)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/bin/busybox", program, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range strings.Fields(applets) {
			if err := os.Symlink("busybox", dir+"/bin/"+name); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(dir+"/tmp", 0o1777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
	})
	return s
}

const (
	testPasswd = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000:Bob:/home/bob:/bin/sh\n"
	testGroup  = "root:x:0:\nbob:x:1000:\naudio:x:29:bob\nvideo:x:44:root,bob\n"
)

// tree describes files by path: "dir/" is a directory, "link ->" a symbolic link
// to its text, anything else a file with its text.
type tree map[string]string

func (tr tree) make(t testing.TB, dir string) {
	t.Helper()
	for name, text := range tr {
		var err error
		link, isLink := strings.CutSuffix(name, " ->")
		path := filepath.Join(dir, link)
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		case isLink:
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(text, path))
		default:
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func makeLayer(t testing.TB, s *Snapshots, name string, fill func(dir string)) {
	t.Helper()
	dir, commit, abort, err := s.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer abort()
	fill(dir)
	if err := commit(); err != nil {
		t.Fatal(err)
	}
}

// prepare begins a snapshot that the test's end discards.
func prepare(t testing.TB, s *Snapshots, parents ...string) *Snapshot {
	t.Helper()
	sn, err := s.Prepare(context.Background(), parents)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sn.Discard(); err != nil {
			t.Error(err)
		}
	})
	return sn
}

// script is a process that runs a shell script.
func script(text string) Process {
	return Process{Args: []string{"/bin/sh", "-c", text}, Env: []string{"PATH=/bin"}}
}

// run runs p in a snapshot and returns its output.
func run(t testing.TB, s *Snapshots, sn *Snapshot, p Process) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := New(s).Run(context.Background(), sn, p, IO{Stdout: &out, Stderr: &out})
	return out.String(), err
}

// mustRun runs p in a fresh snapshot of base; it must succeed.
func mustRun(t testing.TB, p Process) string {
	t.Helper()
	s := newStore(t)
	out, err := run(t, s, prepare(t, s, "base"), p)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// upperPaths lists what is in a snapshot's upper directory.
func upperPaths(t testing.TB, sn *Snapshot) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(sn.Upper(), func(path string, _ os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(sn.Upper(), path); rel != "." {
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// confineVar makes this test binary run as in an ordinary container.
const confineVar = "OCIBUILD_TEST_CONFINED"

// confineSelf gives up what an ordinary container has not, and begins again.
func confineSelf() error {
	runtime.LockOSThread()
	f := filters{}
	filter, err := f.compile(seccomp.Default(defaultCapabilities))
	if err != nil {
		return err
	}
	p := &plan{Filter: filter, Groups: []uint64{0}}
	for _, name := range defaultCapabilities {
		p.Bounding |= 1 << slices.Index(capabilityNames, name)
	}
	p.Permitted, p.Effective = p.Bounding, p.Bounding
	if err := takeIdentity(p); err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, confineVar+"=") })
	return syscall.Exec("/proc/self/exe", os.Args, env)
}

// needsMounts is for what has no meaning without mounts and namespaces.
func needsMounts(t testing.TB) {
	t.Helper()
	if !testLevel.Mounts() {
		t.Skipf("needs mounts, is %q", testLevel)
	}
}

func needsRoot(t testing.TB) {
	t.Helper()
	if testLevel != LevelRoot {
		t.Skipf("needs root, is %q", testLevel)
	}
}

func needsIDs(t testing.TB) {
	t.Helper()
	if testLevel == LevelSingle {
		t.Skip("needs more than one id")
	}
}

// helper is this test binary, doing what helpers has under that name.
func helper(name string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(append(os.Environ(), helperVar+"="+name), env...)
	cmd.Stderr = os.Stderr
	return cmd
}

func fatal(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
