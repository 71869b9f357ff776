package build

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sync/errgroup"
)

// SSHAgent answers the programs of a step that connect to the socket of a
// RUN --mount=type=ssh.
type SSHAgent interface {
	// Serve answers one connection until it ends or ctx does, and closes it. It is
	// called for several connections at once.
	Serve(ctx context.Context, conn net.Conn) error
}

const (
	// defaultSSH is the id of a mount, and of an agent, that names none.
	defaultSSH = "default"
	// sshSocket is where the socket of a mount without a target is, by its place
	// among them.
	sshSocket = "/run/buildkit/ssh_agent.%d"
	// sshVariable tells programs where it is.
	sshVariable = "SSH_AUTH_SOCK"
	// sshMode is that of a socket.
	sshMode = 0o600
	// sshConnections is how many connections of one socket are answered at once.
	sshConnections = 64
)

// settleSSH fills in what the ssh mounts of a step do not say.
func settleSSH(mounts []*stepMount) {
	n := 0
	for _, m := range mounts {
		if m.Type != "ssh" {
			continue
		}
		if m.target == "" {
			m.target = fmt.Sprintf(sshSocket, n)
		}
		if m.ID == "" {
			m.ID = defaultSSH
		}
		n++
	}
}

// sshSocketOf is where a step finds its agent: the first ssh mount, whether or not
// there is an agent for it.
func sshSocketOf(mounts []*stepMount) string {
	for _, m := range mounts {
		if m.Type == "ssh" {
			return m.target
		}
	}
	return ""
}

// ssh gives a step the socket of an agent, for as long as the step runs.
func (s *scene) ssh(ctx context.Context, m *stepMount) error {
	agent, ok := s.r.req.Run.SSH[m.ID]
	if !ok && m.Required {
		flag := "--ssh " + m.ID
		if m.ID != defaultSSH {
			flag += "=SOCKET or --ssh " + m.ID + "=KEYFILE"
		}
		return &Hinted{fmt.Errorf("ssh agent %s: not found", m.ID), "give it: " + flag}
	}
	if !ok {
		return nil
	}
	l, err := s.r.b.Executor.Listen(numberOr(m.Mode, sshMode)&0o777, numberOr(m.UID, 0), numberOr(m.GID, 0))
	if err != nil {
		return err
	}
	s.proc.Binds = append(s.proc.Binds, l.Bind(m.target))
	s.closers = append(s.closers, serveAgent(ctx, l, agent))
	return nil
}

// serveAgent answers what connects to l, until stop is called, which returns when
// all connections have ended.
func serveAgent(ctx context.Context, l net.Listener, agent SSHAgent) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.SetLimit(sshConnections + 1)
	g.Go(func() error {
		for {
			conn, err := l.Accept()
			if err != nil {
				return nil // it is closed
			}
			g.Go(func() error {
				_ = agent.Serve(ctx, conn) // the program at the other end tells its user
				return nil
			})
		}
	})
	return func() {
		cancel()
		l.Close()
		_ = g.Wait() // always nil
	}
}
