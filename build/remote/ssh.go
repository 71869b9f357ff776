package remote

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// sshEnv lets git's ssh ask the user's agent, and nobody else. The key of a host
// that neither we nor the user have met is remembered.
func (c *Client) sshEnv(r *gitRemote) ([]string, error) {
	if c.o.SSH == nil {
		return nil, &Error{
			Source: r.shown, Err: fmt.Errorf("there is no key for it: no SSH agent is given"),
			Hint: "give yours: --ssh default, or a key: --ssh default=FILE",
		}
	}
	socket, err := c.agent.path(c)
	if err != nil {
		return nil, err
	}
	hosts := configQuote(filepath.Join(c.o.Dir, "known_hosts"))
	if home, _ := c.o.Env("HOME"); filepath.IsAbs(home) {
		hosts += " " + configQuote(filepath.Join(home, ".ssh/known_hosts"))
	}
	ssh := "ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none -o StrictHostKeyChecking=accept-new -o " + shellQuote("UserKnownHostsFile="+hosts)
	return []string{"SSH_AUTH_SOCK=" + socket, "GIT_SSH_COMMAND=" + ssh}, nil
}

func configQuote(s string) string { return `"` + s + `"` }

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// agentSocket is the socket that ssh finds the agent at, once there is one.
type agentSocket struct {
	once sync.Once
	file string
	err  error
}

func (a *agentSocket) path(c *Client) (string, error) {
	a.once.Do(func() { a.file, a.err = c.serveAgent() })
	return a.file, a.err
}

// serveAgent answers at a socket in a directory that is this user's alone, until
// the client is closed.
func (c *Client) serveAgent() (string, error) {
	dir, err := os.MkdirTemp("", "ocibuild-ssh-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "agent")
	l, err := net.Listen("unix", file)
	if err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("listen for ssh: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // it is closed
			}
			served.Go(func() { _ = c.o.SSH.Serve(ctx, conn) }) // ssh tells its user
		}
	})
	c.keep(closerFunc(func() error {
		cancel()
		l.Close()
		served.Wait()
		return os.RemoveAll(dir)
	}))
	return file, nil
}

type closerFunc func() error

// Close calls the function.
func (f closerFunc) Close() error { return f() }
