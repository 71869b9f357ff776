package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// command is one run of git.
type command struct {
	// dir is the repository or the directory with its files; empty for none.
	dir  string
	args []string
	// remote is the repository that it may talk to; nil for none.
	remote *gitRemote
}

func (r *gitRemote) command(args ...string) command { return command{args: args, remote: r} }

func local(dir string, args ...string) command { return command{dir: dir, args: args} }

// in is the command in another directory.
func (c command) in(dir string) command {
	c.dir = dir
	return c
}

// where tells git in which repository it is: the one in its directory and in none
// around that, or none at all.
func (c command) where() []string {
	if c.dir == "" {
		return []string{"GIT_DIR=/dev/null"}
	}
	return []string{"GIT_CEILING_DIRECTORIES=" + filepath.Dir(c.dir)}
}

// settings make git depend on nothing that a user or a repository has set.
var settings = []string{
	"core.hooksPath=/dev/null", "core.fsmonitor=false", "core.askPass=", "credential.helper=",
	"core.autocrlf=false", "core.logAllRefUpdates=false", "init.defaultBranch=master", "advice.detachedHead=false",
	"gc.auto=0", "maintenance.auto=false", // what runs in the background outlives the build
	"http.lowSpeedLimit=1", "http.lowSpeedTime=60",
}

// gitError is a git that has failed.
type gitError struct {
	err            error
	stdout, stderr string
	// local says that it had nothing to do with a server.
	local bool
}

// Error is what git has said, or how it ended.
func (e *gitError) Error() string {
	if text := printable(e.stderr); text != "" {
		return "git: " + text
	}
	return "git: " + e.err.Error()
}

// Unwrap gives how the program ended, or why it could not begin.
func (e *gitError) Unwrap() error { return e.err }

func (e *gitError) says(texts ...string) bool {
	for _, t := range texts {
		if strings.Contains(e.stderr, t) {
			return true
		}
	}
	return false
}

const (
	// maxOutput bounds what is kept of each of git's outputs.
	maxOutput = 64 << 20
	// killDelay is what a git has for its end once it is asked to.
	killDelay = 5 * time.Second
)

// run runs git and gives its output. The files that it makes have the modes of
// umask 022. It ends with ctx, and with this process.
func (c *Client) run(ctx context.Context, r command) (string, error) {
	git, err := c.gitPath()
	if err != nil {
		return "", err
	}
	env, err := c.gitEnv(ctx, git, r.remote)
	if err != nil {
		return "", err
	}
	args := []string{"-c", `umask 022; exec "$@"`, "sh", git}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", append(args, r.args...)...)
	stdout, stderr := &bounded{max: maxOutput}, &bounded{max: maxOutput}
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = r.dir, append(env, r.where()...), stdout, stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = killDelay
	runtime.LockOSThread() // the signal comes when the thread ends that has started it
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if ctx.Err() != nil {
		if cmd.Process != nil {
			_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // its helpers
		}
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", &gitError{err: err, stdout: stdout.String(), stderr: stderr.String(), local: r.remote == nil}
	}
	return stdout.String(), nil
}

// bounded is a buffer that takes no more than max bytes and drops the rest.
type bounded struct {
	bytes.Buffer
	max int
}

// Write takes what there is room for.
func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), b.max-b.Len())])
	return len(p), nil
}

func (c *Client) gitPath() (string, error) {
	list, _ := c.o.Env("PATH")
	for _, dir := range filepath.SplitList(list) {
		file := filepath.Join(dir, "git")
		if info, err := os.Stat(file); filepath.IsAbs(file) && err == nil && info.Mode().IsRegular() && unix.Access(file, unix.X_OK) == nil {
			return file, nil
		}
	}
	return "", &GitMissingError{"git is not installed here, and repositories are fetched with it"}
}

// passedOn are the variables that git may see.
var passedOn = []string{
	"PATH", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH",
}

// gitEnv is the environment of a git. A credential goes there: others can read
// the arguments of a process, but not its environment.
func (c *Client) gitEnv(ctx context.Context, git string, r *gitRemote) ([]string, error) {
	env := []string{
		"LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME=/dev/null",
	}
	for _, name := range passedOn {
		if v, ok := c.o.Env(name); ok {
			env = append(env, name+"="+v)
		}
	}
	if r == nil { // a fetch from one repository of ours to another
		return append(env, "GIT_ALLOW_PROTOCOL=file"), nil
	}
	env = append(env, "GIT_ALLOW_PROTOCOL=http:https:ssh:git")
	if r.header != "" {
		if err := c.takesEnvironment(ctx, git); err != nil {
			return nil, err
		}
		env = append(env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http."+r.scope+".extraHeader", "GIT_CONFIG_VALUE_0=Authorization: "+r.header)
	}
	if !r.ssh {
		return env, nil
	}
	own, err := c.sshEnv(r)
	return append(env, own...), err
}

var versionPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^git version (\d+)\.(\d+)`) })

// takesEnvironment checks that git reads settings from its environment.
func (c *Client) takesEnvironment(ctx context.Context, git string) error {
	cmd := exec.CommandContext(ctx, git, "version")
	cmd.Env = []string{"LC_ALL=C"}
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("git version: %w", err)
	}
	var major, minor int
	m := versionPattern().FindSubmatch(out)
	if m == nil {
		return nil // somebody's own
	}
	_, err1 := fmt.Sscan(string(m[1]), &major)
	_, err2 := fmt.Sscan(string(m[2]), &minor)
	if errors.Join(err1, err2) == nil && (major < 2 || major == 2 && minor < 31) {
		return &GitMissingError{fmt.Sprintf("git is too old: it is %d.%d, and credentials are given only to 2.31 and later", major, minor)}
	}
	return nil
}
