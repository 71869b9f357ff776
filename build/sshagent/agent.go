package sshagent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// Agent answers connections. It may answer several at once.
type Agent struct {
	socket string // of the user's agent
	keys   []key
}

// maxKeyFile bounds the files that keys are read from.
const maxKeyFile = 100 << 10

// Open gives the agent for the files that a user names: the socket of an agent,
// or private keys.
func Open(paths ...string) (*Agent, error) {
	a := &Agent{}
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if info.Mode()&os.ModeSocket == 0 {
			k, err := readKey(p, info.Size())
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p, err)
			}
			a.keys = append(a.keys, k)
			continue
		}
		if len(paths) > 1 {
			return nil, fmt.Errorf("%s: a socket stands alone", p)
		}
		if a.socket, err = filepath.Abs(p); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func readKey(path string, size int64) (key, error) {
	if size > maxKeyFile {
		return key{}, errors.New("too large for a key")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return key{}, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return key{}, errors.New("the key has a passphrase: add it to an agent with ssh-add, and give that")
	}
	if err != nil {
		return key{}, errors.New("neither an agent's socket nor a private key")
	}
	return key{signer, filepath.Base(path)}, nil
}

// answerer gives the reply to a request; both begin with their type.
type answerer interface {
	answer(request []byte) (reply []byte, err error)
}

// Serve answers a connection until it ends or ctx does, and closes it.
func (a *Agent) Serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if a.socket == "" {
		return serve(conn, keyring(a.keys))
	}
	var d net.Dialer
	theirs, err := d.DialContext(ctx, "unix", a.socket)
	if err != nil {
		return err
	}
	defer theirs.Close()
	stopTheirs := context.AfterFunc(ctx, func() { theirs.Close() })
	defer stopTheirs()
	return serve(conn, passer{theirs})
}

// The types of messages: the requests that are answered, with 12 and 14, and
// the answer to all others.
const (
	requestKeys = 11
	requestSign = 13
	failure     = 5
)

// serve answers requests, one after the other, as the protocol has it.
func serve(conn io.ReadWriter, a answerer) error {
	for {
		request, err := readMessage(conn)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		reply := []byte{failure}
		if request[0] == requestKeys || request[0] == requestSign {
			if reply, err = a.answer(request); err != nil {
				return err
			}
		}
		if err := writeMessage(conn, reply); err != nil {
			return err
		}
	}
}

// maxMessage bounds a message, as OpenSSH does.
const maxMessage = 256 << 10

// readMessage reads one message; it has at least its type.
func readMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return body, err
}

func writeMessage(w io.Writer, body []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// passer passes requests on to another agent.
type passer struct{ conn io.ReadWriter }

func (p passer) answer(request []byte) ([]byte, error) {
	if err := writeMessage(p.conn, request); err != nil {
		return nil, err
	}
	return readMessage(p.conn)
}
