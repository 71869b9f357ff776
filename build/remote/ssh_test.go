package remote

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// echo is an agent that says who it is.
type echo struct{}

func (echo) Serve(_ context.Context, conn net.Conn) error {
	defer conn.Close()
	_, err := io.WriteString(conn, "agent")
	return err
}

// fakeSSH is an ssh that runs on this machine what it should run on another. It
// writes down what it is told.
const fakeSSH = `#!/bin/sh
printf '%s\n' "$@" >DIR/args
env >DIR/env
for last; do :; done
exec sh -c "$last"
`

func TestSSH(t *testing.T) {
	h := newHistory(t)
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(strings.ReplaceAll(fakeSSH, "DIR", bin)), 0o755); err != nil {
		t.Fatal(err)
	}
	env := func(name string) (string, bool) {
		switch name {
		case "PATH":
			return bin + ":" + os.Getenv("PATH"), true
		case "HOME":
			return "/home/it's me", true
		}
		return "", false
	}
	for _, remote := range []string{"git@host:" + h.dir, "ssh://git:hidden@host/" + h.dir} {
		c := newClient(t, Options{Env: env, SSH: echo{}})
		dir := checkout(t, c, remote+"?keep-git-dir#v1")
		if got := textOf(t, dir, "foo"); got != "first" {
			t.Errorf("%s: it is %q", remote, got)
		}
		args, env := textOf(t, bin, "args"), textOf(t, bin, "env")
		for _, want := range []string{"BatchMode=yes", "IdentityFile=none", "StrictHostKeyChecking=accept-new", `/known_hosts" "/home/it's me/.ssh/known_hosts"`} {
			if !strings.Contains(args, want) {
				t.Errorf("%s: no %q in the arguments: %s", remote, want, args)
			}
		}
		if strings.Contains(args+env+textOf(t, dir, ".git/config"), "hidden") {
			t.Errorf("%s: the password is told: %s%s", remote, args, env)
		}
		checkAgent(t, env)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(socketIn(env)); err == nil {
			t.Errorf("%s: the socket is there when the build is over", remote)
		}
	}
}

func socketIn(env string) string {
	_, rest, _ := strings.Cut(env, "SSH_AUTH_SOCK=")
	socket, _, _ := strings.Cut(rest, "\n")
	return socket
}

func checkAgent(t *testing.T, env string) {
	t.Helper()
	conn, err := net.Dial("unix", socketIn(env))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); string(got) != "agent" || err != nil {
		t.Errorf("it answers %q, %v", got, err)
	}
}

func TestSSHWithoutAgent(t *testing.T) {
	_, err := newClient(t, Options{}).Git(context.Background(), parseGit(t, "git@host:x"))
	var bad *Error
	if !errors.As(err, &bad) || !strings.Contains(bad.Hint, "--ssh default") {
		t.Errorf("error: %v", err)
	}
}
