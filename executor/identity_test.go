package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/ocibuild/ocibuild/executor/seccomp"
	"golang.org/x/sys/unix"
)

// needsBelief is for what is about processes that believe to be others.
func needsBelief(t *testing.T) {
	t.Helper()
	if testLevel != LevelSingle {
		t.Skipf("needs level %s, is %q", LevelSingle, testLevel)
	}
}

// TestIdentityRules makes the kernel and us go the same way through users and groups.
func TestIdentityRules(t *testing.T) {
	needsRoot(t)
	if out, err := helper("rules").Output(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// helpRules becomes many users, each time in a thread of its own.
func helpRules() int {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		log := make(chan string)
		go func() {
			runtime.LockOSThread() // and never unlocked: these ids are the thread's
			log <- wander(random)
		}()
		if text := <-log; strings.Contains(text, "WRONG") {
			fmt.Print(text)
			return 1
		}
	}
	return 0
}

// wander makes some calls in a row, and tells which, and where the kernel's answer is another.
func wander(random *rand.Rand) string {
	names := []string{"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid"}
	numbers := []uintptr{
		unix.SYS_SETUID, unix.SYS_SETGID, unix.SYS_SETREUID, unix.SYS_SETREGID,
		unix.SYS_SETRESUID, unix.SYS_SETRESGID, unix.SYS_SETFSUID, unix.SYS_SETFSGID,
	}
	ids := []uint64{0, 0, 5, 6, 7, uint64(keep)}
	var log strings.Builder
	who := newIdentity(0, 0, nil)
	for range 8 {
		n := random.IntN(len(names))
		args := [6]uint64{ids[random.IntN(len(ids))], ids[random.IntN(len(ids))], ids[random.IntN(len(ids))]}
		fmt.Fprintln(&log, names[n], args[:3])
		value, _, errno := unix.RawSyscall(numbers[n], uintptr(args[0]), uintptr(args[1]), uintptr(args[2]))
		var got answer
		who, got = who.obey(parseIdentityCall(names[n], false, args))
		if (got.errno == 0) != (errno == 0) || strings.Contains(names[n], "fs") && got.value != int64(value) {
			fmt.Fprintf(&log, "WRONG: got %d %v, the kernel gave %d %v\n", got.value, got.errno, value, errno)
		}
		if now := threadIDs(); now != who.user.text()+who.group.text() {
			fmt.Fprintf(&log, "WRONG: got %+v, the kernel has %q\n", who, now)
		}
	}
	return log.String()
}

func (i ids) text() string {
	return fmt.Sprintf("\t%d\t%d\t%d\t%d\n", i.real, i.effective, i.saved, i.files)
}

// threadIDs are those of this thread, as the kernel tells them.
func threadIDs() string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", unix.Gettid()))
	if err != nil {
		return err.Error()
	}
	var text string
	for line := range strings.Lines(string(data)) {
		for _, key := range []string{"Uid:", "Gid:"} {
			if value, ok := strings.CutPrefix(line, key); ok {
				text += value
			}
		}
	}
	return text
}

// TestIdentityCalls checks that every call that the filter asks about is understood, on all
// architectures that have it.
func TestIdentityCalls(t *testing.T) {
	want := []string{"get", "gete", "getgroups", "getres", "set", "setfs", "setgroups", "setre", "setres"}
	known := map[string]bool{}
	for n := range int32(1000) {
		for _, arch := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386} {
			name, wider := seccomp.Name(arch, n)
			known[name] = true
			if runtime.GOARCH == "amd64" && wider != (arch == unix.AUDIT_ARCH_I386) && slices.Contains(identityCalls, name) && !strings.HasSuffix(name, "32") {
				t.Errorf("%s is of two widths: %v", name, wider)
			}
		}
	}
	var got []string
	for _, name := range identityCalls {
		if runtime.GOARCH == "amd64" && !known[name] {
			t.Errorf("the kernel has no %s", name)
		}
		got = append(got, parseIdentityCall(name, false, [6]uint64{}).verb)
	}
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	narrow := parseIdentityCall("setreuid", true, [6]uint64{0xffff, 0x10007})
	if narrow.id(0) != keep || narrow.id(1) != 7 {
		t.Errorf("got %d and %d of 16 bits", narrow.id(0), narrow.id(1))
	}
}

// helpBecome becomes other users as the arguments say, and tells who it is.
func helpBecome() int {
	runtime.LockOSThread()
	for _, step := range os.Args[1:] {
		name, rest, _ := strings.Cut(step, "=")
		var ids []int
		for f := range strings.SplitSeq(rest, ",") {
			if n, err := strconv.Atoi(f); err == nil {
				ids = append(ids, n)
			}
		}
		switch name {
		case "setgroups":
			fmt.Println(step, unix.Setgroups(ids))
		case "setresgid":
			fmt.Println(step, unix.Setresgid(ids[0], ids[1], ids[2]))
		case "setresuid":
			fmt.Println(step, unix.Setresuid(ids[0], ids[1], ids[2]))
		case "chown":
			fmt.Println(step, os.Chown("/tmp/file", ids[0], ids[1]))
		case "mknod":
			fmt.Println(step, unix.Mknod("/tmp/node", unix.S_IFCHR, int(unix.Mkdev(1, 3))))
		case "who":
			var r, e, s [2]int32
			_, _, _ = unix.RawSyscall(unix.SYS_GETRESUID, uintptr(unsafe.Pointer(&r[0])), uintptr(unsafe.Pointer(&e[0])), uintptr(unsafe.Pointer(&s[0])))
			_, _, _ = unix.RawSyscall(unix.SYS_GETRESGID, uintptr(unsafe.Pointer(&r[1])), uintptr(unsafe.Pointer(&e[1])), uintptr(unsafe.Pointer(&s[1])))
			groups, err := unix.Getgroups()
			fmt.Println(os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid(), r, e, s, groups, err)
		case "thread", "child": // who others are that this one starts
			out := make(chan string)
			go func() {
				runtime.LockOSThread()
				if name == "child" {
					text, err := exec.Command("/bin/sh", "-c", "(id -u; id -G) & wait").CombinedOutput()
					out <- fmt.Sprint(strings.Fields(string(text)), err)
					return
				}
				out <- fmt.Sprint(os.Geteuid())
			}()
			fmt.Println(name, <-out)
		}
	}
	return 0
}

// TestBecome checks who processes are told that they are where there is one id.
func TestBecome(t *testing.T) {
	needsBelief(t)
	s := newStore(t)
	self := giveSelf(t, s)
	for _, tt := range []struct {
		name  string
		uid   uint32
		steps string
		want  string
	}{
		{"at first", 0, "who", "0 0 0 0 [0 0] [0 0] [0 0] [0 44] <nil>"},
		{"a user at first", 1000, "who", "1000 1000 1000 1000 [1000 1000] [1000 1000] [1000 1000] [1000 44] <nil>"},
		{
			"as su does", 0, "setgroups=1,2 setresgid=7,7,7 setresuid=6,6,6 who thread child setresuid=0,0,0 setgroups=",
			"setgroups=1,2 <nil>|setresgid=7,7,7 <nil>|setresuid=6,6,6 <nil>|6 6 7 7 [6 7] [6 7] [6 7] [1 2] <nil>|thread 6|child [6 7 1 2] <nil>|" +
				"setresuid=0,0,0 operation not permitted|setgroups= operation not permitted",
		},
		{"and back", 0, "setresuid=-1,6,-1 who setresuid=-1,0,-1 who", "setresuid=-1,6,-1 <nil>|0 6 0 0 [0 0] [6 0] [0 0] [0 44] <nil>|setresuid=-1,0,-1 <nil>|0 0 0 0 [0 0] [0 0] [0 0] [0 44] <nil>"},
		{"a user stays it", 1000, "setresuid=0,0,0 setgroups=0 setresgid=44,44,44", "setresuid=0,0,0 operation not permitted|setgroups=0 operation not permitted|setresgid=44,44,44 operation not permitted"},
		{
			"owners", 1000, "chown=0,0 chown=1001,-1 chown=1000,1000 chown=-1,44 chown=-1,45 mknod",
			"chown=0,0 chown /tmp/file: operation not permitted|chown=1001,-1 chown /tmp/file: operation not permitted|chown=1000,1000 <nil>|chown=-1,44 <nil>|" +
				"chown=-1,45 chown /tmp/file: operation not permitted|mknod operation not permitted",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := script("echo >/tmp/file; exec /attack " + tt.steps)
			p.Env = append(p.Env, helperVar+"=become")
			p.UID, p.GID, p.Groups = tt.uid, tt.uid, []uint32{44}
			out, err := run(t, s, prepare(t, s, "base", self), p)
			var exit *ExitError
			if errors.As(err, &exit) && exit.Code == 127 {
				t.Skip("needs a static test binary, without -race")
			}
			if want := strings.ReplaceAll(tt.want, "|", "\n") + "\n"; err != nil || out != want {
				t.Errorf("%v\ngot\n%s\nwant\n%s", err, out, want)
			}
		})
	}
}

// TestClaim checks whose files are that a step with one id has made.
func TestClaim(t *testing.T) {
	needsBelief(t)
	s := newStore(t)
	sn := prepare(t, s, "base")
	p := script(`mkdir -p /own/dir; echo x >/own/file; ln -s file /own/link; echo x >>/etc/passwd; mkfifo /own/pipe 2>/dev/null
echo x >/own/given; chown :29 /own/given; mkdir /own/shared; chgrp 29 /own/shared; chmod 2775 /own/shared; echo x >/own/shared/file`)
	p.UID, p.GID, p.Groups, p.Cwd = 1000, 1001, []uint32{29}, "/made/cwd"
	if out, err := run(t, s, sn, p); err != nil {
		t.Fatal(err, out)
	}
	check := func(sn *Snapshot, want map[string]string) {
		t.Helper()
		for name, owner := range want {
			attr := ownerAttr
			if dir, ok := strings.CutSuffix(name, " links"); ok {
				name, attr = dir, linksAttr
			}
			got, err := readXattr(func(buf []byte) (int, error) { return unix.Lgetxattr(sn.Upper()+"/"+name, attr, buf) })
			if err != nil || got != owner {
				t.Errorf("%s: got %q and %v, want %q", name, got, err, owner)
			}
		}
	}
	const own = "1000:1001"
	check(sn, map[string]string{
		"own": own, "own/dir": own, "own/file": own, "own links": own, "etc": "", "etc/passwd": "", "own/given": "1000:29",
		"own/shared": "1000:29", "own/shared/file": "1000:29", "made": own, "made/cwd": own, ".": "",
	})
	if err := s.Commit(sn, "made"); err != nil {
		t.Fatal(err)
	}
	// The next step is root's, and a file that it writes to stays another's.
	root := prepare(t, s, "base", "made")
	if out, err := run(t, s, root, script("echo x >>/own/file; echo x >/own/roots; ln -s file /own/another")); err != nil {
		t.Fatal(err, out)
	}
	check(root, map[string]string{"own": own, "own/file": own, "own/roots": "", "own links": ""})
	// A file that its user puts in the place of his old one is his.
	user := prepare(t, s, "base", "made")
	p = script("rm /own/file; echo new >/own/file; rm -r /own/dir; mkdir /own/dir; echo x >/own/dir/x")
	p.UID, p.GID = 1000, 1001
	if out, err := run(t, s, user, p); err != nil {
		t.Fatal(err, out)
	}
	check(user, map[string]string{"own": own, "own/file": own, "own/dir": own, "own/dir/x": own})
}

// TestBecomeInterrupted ends a step while its processes ask who they are.
func TestBecomeInterrupted(t *testing.T) {
	needsBelief(t)
	s := newStore(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var out bytes.Buffer
	p := script("for i in 1 2 3 4; do while :; do id -u; done & done; sleep 0.2; kill -9 0")
	p.UID = 1000
	err := New(s).Run(ctx, prepare(t, s, "base"), p, IO{Stdout: &out})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Signal != unix.SIGKILL || strings.Trim(out.String(), "10\n") != "" {
		t.Errorf("got %v and %q", err, out.String())
	}
}
