package sshagent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

func newKeys(t *testing.T) map[string]crypto.PrivateKey {
	t.Helper()
	_, ed, err1 := ed25519.GenerateKey(rand.Reader)
	ec, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rs, err3 := rsa.GenerateKey(rand.Reader, 2048)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	return map[string]crypto.PrivateKey{"ed25519": ed, "ecdsa": ec, "rsa": rs}
}

func writeKey(t *testing.T, key crypto.PrivateKey, passphrase string) string {
	t.Helper()
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(key, "comment")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "comment", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// connect gives a client of an agent.
func connect(t *testing.T, a *Agent) agent.ExtendedAgent {
	t.Helper()
	ours, theirs := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- a.Serve(context.Background(), theirs) }()
	t.Cleanup(func() {
		ours.Close()
		if err := <-ended; err != nil && !strings.Contains(err.Error(), "closed") {
			t.Error(err)
		}
	})
	return agent.NewClient(ours)
}

// checkAgent lists the one key of an agent and has it sign, in each way.
func checkAgent(t *testing.T, client agent.ExtendedAgent, key crypto.PrivateKey) {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := signer.PublicKey()
	keys, err := client.List()
	if err != nil || len(keys) != 1 || !bytes.Equal(keys[0].Marshal(), public.Marshal()) {
		t.Fatalf("got keys %v, %v", keys, err)
	}
	data := []byte("what is signed")
	for _, flags := range []agent.SignatureFlags{0, agent.SignatureFlagRsaSha256, agent.SignatureFlagRsaSha512} {
		sig, err := client.SignWithFlags(public, data, flags)
		if err != nil {
			t.Fatal(err)
		}
		if err := public.Verify(data, sig); err != nil {
			t.Errorf("flags %d: %v", flags, err)
		}
		want := map[agent.SignatureFlags]string{0: ssh.KeyAlgoRSA, agent.SignatureFlagRsaSha256: ssh.KeyAlgoRSASHA256, agent.SignatureFlagRsaSha512: ssh.KeyAlgoRSASHA512}[flags]
		if public.Type() == ssh.KeyAlgoRSA && sig.Format != want {
			t.Errorf("flags %d: got a signature of format %s, want %s", flags, sig.Format, want)
		}
	}
}

// checkRefusals asks for what no step may do.
func checkRefusals(t *testing.T, client agent.ExtendedAgent, key crypto.PrivateKey) {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"add":        client.Add(agent.AddedKey{PrivateKey: key}),
		"remove":     client.Remove(signer.PublicKey()),
		"remove all": client.RemoveAll(),
		"lock":       client.Lock([]byte("x")),
		"unlock":     client.Unlock([]byte("x")),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := client.Extension("session-bind@openssh.com", nil); err == nil {
		t.Error("extension: no error")
	}
	if keys, err := client.List(); err != nil || len(keys) != 1 {
		t.Errorf("afterwards: got %v, %v", keys, err)
	}
}

func TestKeys(t *testing.T) {
	for name, key := range newKeys(t) {
		t.Run(name, func(t *testing.T) {
			a, err := Open(writeKey(t, key, ""))
			if err != nil {
				t.Fatal(err)
			}
			client := connect(t, a)
			checkAgent(t, client, key)
			checkRefusals(t, client, key)
			if list, err := client.List(); err != nil || list[0].Comment != "id" {
				t.Errorf("got comment %v, %v", list, err)
			}
			_, other, _ := ed25519.GenerateKey(rand.Reader)
			signer, _ := ssh.NewSignerFromKey(other)
			if _, err := client.Sign(signer.PublicKey(), nil); err == nil {
				t.Error("a key that is not there has signed")
			}
		})
	}
}

// TestSocket goes through another agent, the keyring of golang.org/x/crypto.
func TestSocket(t *testing.T) {
	key := newKeys(t)["rsa"]
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "agent") // shorter than t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := dir + "/s"
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { // after the connections of connect
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_ = agent.ServeAgent(ring, conn)
				conn.Close()
			})
		}
	})
	a, err := Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	client := connect(t, a)
	checkAgent(t, client, key)
	checkRefusals(t, client, key)
	checkAgent(t, connect(t, a), key) // a second connection at the same time
	if _, err := Open(socket, writeKey(t, key, "")); err == nil || !strings.Contains(err.Error(), "a socket stands alone") {
		t.Errorf("a socket and a key: got %v", err)
	}
}

func TestSeveralKeys(t *testing.T) {
	var files []string
	for _, key := range newKeys(t) {
		files = append(files, writeKey(t, key, ""))
	}
	a, err := Open(files...)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := connect(t, a).List(); err != nil || len(keys) != len(files) {
		t.Errorf("got %v, %v", keys, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(text, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(big, make([]byte, maxKeyFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		text:         "neither an agent's socket nor a private key",
		big:          "too large",
		dir:          dir,
		dir + "/not": "no such file",
		writeKey(t, newKeys(t)["ed25519"], "secret"): "has a passphrase: add it to an agent",
	} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}

func TestServeEndsWithContext(t *testing.T) {
	a, err := Open(writeKey(t, newKeys(t)["ed25519"], ""))
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Serve(ctx, theirs) }()
	cancel()
	<-ended
	if _, err := ours.Write([]byte{0}); err == nil {
		t.Error("the connection is still open")
	}
}

func FuzzServe(f *testing.F) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		f.Fatal(err)
	}
	ring := keyring{{signer, "id"}}
	f.Add([]byte{0, 0, 0, 1, requestKeys})
	f.Add([]byte{0, 0, 0, 5, requestSign, 0, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 1})
	f.Fuzz(func(_ *testing.T, data []byte) {
		_ = serve(wire{bytes.NewReader(data), io.Discard}, ring)
	})
}

// wire is a connection that has been recorded.
type wire struct {
	io.Reader
	io.Writer
}
