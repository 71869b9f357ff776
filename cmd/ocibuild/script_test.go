package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image/imagetest"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// TestMain makes the test program the command as well: scripts run it by the
// name ocibuild, and steps start it as their first process.
func TestMain(m *testing.M) {
	executor.Init()
	if os.Getenv("OCIBUILD_USERNS_PARENT") != "" && filepath.Base(os.Args[0]) != "ocibuild" {
		fmt.Fprintln(os.Stderr, "a test has called a verb that enters a user namespace in this process, not in one of its own")
		os.Exit(1)
	}
	testscript.Main(m, map[string]func(){
		"ocibuild": func() { os.Exit(run(os.Args[1:], systemIO())) },
	})
}

// TestScripts runs the scripts in testdata/script, one behaviour each.
//
// Beyond testscript's own commands they have:
//
//	base [NAME]              import a root filesystem with busybox as NAME (base:v1); skips without busybox
//	rootfs DIR               make that root filesystem in DIR
//	program DIR NAME         add a program of this machine, with its libraries, to a root filesystem; skips without it
//	sshkey FILE [PASSPHRASE] make a private key
//	exits CODE PROGRAM ...   run a program and want an exit code
//	signal SIG CODE TEXT PROGRAM ...
//	                         run a program, send SIG when it has printed TEXT, and want an exit code
//	registry [FLAGS] [HTPASSWD]
//	                         start a registry on $REGISTRY; skips when none is installed (see cmdRegistry)
//	asuser PROGRAM ...       run a program as an ordinary user; skips when there is none
//	pod PROGRAM ...          run a program in a container without privileges, made by runc; skips without it
//	web DIR                  start a web server on $WEB (see cmdWeb)
//	commit DIR [TAG]         commit everything in a git repository, $COMMIT; skips without git
//	submodule DIR PATH URL COMMIT
//	                         add one to a git repository
//	typed CODE FILE PROGRAM ...
//	                         run a program on a terminal and type at it (see cmdTyped)
//	together N PROGRAM ...   run N of a program at once; %d in an argument is 1 to N
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setupScript,
		Condition:           scriptCondition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"base": cmdBase, "rootfs": cmdRootfs, "exits": cmdExits, "signal": cmdSignal,
			"registry": cmdRegistry, "program": cmdProgram, "sshkey": cmdSSHKey, "asuser": cmdAsUser, "together": cmdTogether,
			"typed": cmdTyped, "pod": cmdPod, "web": cmdWeb, "commit": cmdCommit, "submodule": cmdSubmodule,
		},
	})
}

func setupScript(e *testscript.Env) error {
	e.Setenv("OCIBUILD_ROOT", filepath.Join(e.WorkDir, "store"))
	e.Setenv("DOCKER_CONFIG", filepath.Join(e.WorkDir, "docker"))
	e.Setenv("HOME", e.WorkDir)
	e.Setenv("OCIBUILD_ISOLATION", os.Getenv("OCIBUILD_ISOLATION"))       // all scripts at one level
	e.Setenv(disableVariable, os.Getenv(disableVariable))                 // nor with more shortcuts
	e.Setenv("REGISTRY_AUTH_FILE", filepath.Join(e.WorkDir, "auth.json")) // skopeo's
	e.Setenv("CONTAINERS_REGISTRIES_CONF", os.DevNull)                    // not what this machine is configured for
	e.Setenv("CONTAINERS_REGISTRIES_CONF_DIR", filepath.Join(e.WorkDir, "registries.conf.d"))
	e.Setenv("OCIBUILD_CERTS_DIR", filepath.Join(e.WorkDir, "certs.d"))
	e.Values[tKey{}] = e.T()
	e.Defer(func() { unmountBelow(e.WorkDir) })
	e.Defer(func() { checkStore(e) })
	return nil
}

// unmountBelow takes away what a script that failed has left mounted.
func unmountBelow(dir string) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			_ = unix.Unmount(f[4], unix.MNT_DETACH)
		}
	}
}

// checkStore checks every image that a script has left in its store: against
// the specification's schemas, and with the programs that read layouts. A
// script that damages its store says so by a file named damaged.
func checkStore(e *testscript.Env) {
	if _, err := os.Stat(filepath.Join(e.WorkDir, "damaged")); err == nil {
		return
	}
	err := imagetest.Layout(filepath.Join(e.WorkDir, "store"))
	switch {
	case errors.Is(err, imagetest.ErrNoSchemas):
		e.T().Log("images are not checked: ", err)
	case err != nil:
		e.T().Fatal("check of what is in the store: ", err)
	}
}

// scriptCondition knows [root], [ids]: that steps have more ids than one, and [cgroup]:
// that they can be limited together.
func scriptCondition(cond string) (bool, error) {
	switch cond {
	case "root":
		return os.Geteuid() == 0, nil
	case "static":
		return isStatic(), nil
	case "cgroup":
		return executor.New(nil).CanLimit(executor.Resources{Memory: 1 << 30, PIDs: 100}) == nil, nil
	case "ids":
		return os.Geteuid() == 0 || haveRanges(), nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

// haveRanges says that this user has subordinate ids and the means to use them.
func haveRanges() bool {
	u, err := user.Current()
	if err != nil {
		return false
	}
	for _, f := range []string{"/etc/subuid", "/etc/subgid"} {
		text, err := os.ReadFile(f)
		if err != nil || !strings.Contains("\n"+string(text), "\n"+u.Username+":") {
			return false
		}
	}
	_, err = exec.LookPath("newuidmap")
	return err == nil
}

const busybox = "/bin/busybox"

// tKey is where Setup leaves the running test for skip.
type tKey struct{}

// skip ends a script with the reason why it cannot run here.
func skip(ts *testscript.TestScript, reason string) {
	ts.Value(tKey{}).(testscript.T).Skip(reason)
}

func cmdBase(ts *testscript.TestScript, neg bool, args []string) {
	name := "base:v1"
	if len(args) > 0 {
		name = args[0]
	}
	cmdRootfs(ts, false, []string{"base.rootfs"})
	ts.Check(ts.Exec("ocibuild", "import", "base.rootfs", name))
}

func cmdRootfs(ts *testscript.TestScript, neg bool, args []string) {
	if _, err := os.Stat(busybox); err != nil {
		skip(ts, busybox+" is missing (package busybox-static)")
	}
	ts.Check(makeRootfs(ts.MkAbs(args[0])))
}

// makeRootfs makes a root filesystem with busybox as all its programs.
func makeRootfs(dir string) error {
	for _, d := range []string{"bin", "etc", "tmp", "root", "home/app"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	files := []struct {
		path, text string
		mode       os.FileMode
	}{
		{"bin/busybox", string(text), 0o755},
		{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n", 0o644},
		{"etc/group", "root:x:0:\napp:x:1000:\n", 0o644},
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.path), []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	for _, applet := range strings.Fields("sh cat echo ls mkdir rm true false sleep grep touch id env pwd stat chmod chown kill ln date head seq test printf wc") {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", applet)); err != nil {
			return err
		}
	}
	return os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky)
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	if got := codeOf(err); got != want {
		ts.Fatalf("exit code %d, want %d (%v)", got, want, err)
	}
}

func codeOf(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// watched is a buffer that tells when a text has been written to it.
type watched struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	want string
	seen chan struct{}
	once sync.Once
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(p)
	if strings.Contains(w.buf.String(), w.want) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(p), nil
}

// command makes a process in the script's directory and environment.
func scriptProcess(ts *testscript.TestScript, name string, args ...string) *exec.Cmd {
	path := name
	if !strings.Contains(name, "/") {
		for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
			if p := filepath.Join(dir, name); unix.Access(p, unix.X_OK) == nil {
				path = p
				break
			}
		}
	}
	c := exec.Command(path, args...)
	c.Args[0] = name
	c.Dir = ts.MkAbs(".")
	for _, k := range []string{"PATH", "HOME", "OCIBUILD_ROOT", "DOCKER_CONFIG", "TMPDIR", "SOURCE_DATE_EPOCH", "CONTAINERS_REGISTRIES_CONF", "CONTAINERS_REGISTRIES_CONF_DIR", "OCIBUILD_CERTS_DIR"} {
		if v := ts.Getenv(k); v != "" {
			c.Env = append(c.Env, k+"="+v)
		}
	}
	return c
}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	c := scriptProcess(ts, args[3], args[4:]...)
	out := &watched{want: args[2], seen: make(chan struct{})}
	c.Stdout, c.Stderr = out, out
	ts.Check(c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case <-out.seen:
		ts.Check(c.Process.Signal(unix.SignalNum("SIG" + args[0])))
		err = <-ended
	case err = <-ended:
		ts.Fatalf("it ended before it printed %q: %v\n%s", args[2], err, &out.buf)
	}
	ts.Logf("%s", &out.buf)
	fmt.Fprint(ts.Stderr(), out.buf.String())
	if got := codeOf(err); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func cmdTogether(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	var wg sync.WaitGroup
	outs := make([]bytes.Buffer, n)
	errs := make([]error, n)
	for i := range n {
		var own []string
		for _, a := range args[2:] {
			own = append(own, strings.ReplaceAll(a, "%d", strconv.Itoa(i+1)))
		}
		c := scriptProcess(ts, args[1], own...)
		c.Stdout, c.Stderr = &outs[i], &outs[i]
		wg.Go(func() { errs[i] = c.Run() })
	}
	wg.Wait()
	for i := range n {
		fmt.Fprint(ts.Stdout(), outs[i].String())
		if errs[i] != nil {
			ts.Fatalf("process %d: %v\n%s", i+1, errs[i], &outs[i])
		}
	}
}

// ordinaryUser finds a user for asuser: this one, or any with a home.
func ordinaryUser() (*user.User, error) {
	if os.Geteuid() != 0 {
		return user.Current()
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(passwd), "\n") {
		f := strings.Split(line, ":")
		if len(f) < 7 {
			continue
		}
		if id, err := strconv.Atoi(f[2]); err == nil && id >= 1000 && id < 60000 {
			return user.Lookup(f[0])
		}
	}
	return nil, errors.New("there is no ordinary user on this machine")
}

func cmdAsUser(ts *testscript.TestScript, neg bool, args []string) {
	u, err := ordinaryUser()
	if err != nil {
		skip(ts, err.Error())
	}
	c := scriptProcess(ts, args[0], args[1:]...)
	if os.Geteuid() == 0 {
		ts.Check(openTo(u, ts.Getenv("WORK"), filepath.Dir(c.Path)))
		c = scriptProcess(ts, "setpriv", append([]string{
			"--reuid=" + u.Uid, "--regid=" + u.Gid, "--init-groups", "--inh-caps=-all", c.Path,
		}, args[1:]...)...)
	}
	var out, errOut bytes.Buffer
	c.Stdout, c.Stderr = &out, &errOut
	err = c.Run()
	fmt.Fprint(ts.Stdout(), out.String())
	fmt.Fprint(ts.Stderr(), errOut.String())
	ts.Logf("%s%s", &out, &errOut)
	if (err == nil) == neg {
		ts.Fatalf("%v", err)
	}
}

// openTo gives a user the script's directory, and lets it pass to it and to
// the program.
func openTo(u *user.User, work, bin string) error {
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	for _, dir := range []string{work, bin} {
		for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
			info, err := os.Stat(d)
			if err != nil {
				return err
			}
			if err := os.Chmod(d, info.Mode().Perm()|0o055); err != nil {
				return err
			}
		}
	}
	return filepath.WalkDir(work, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, uid, gid)
	})
}
