package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
)

// cmdProgram copies a program into a root filesystem, to the path that it has
// here, and what its loader maps for it.
func cmdProgram(ts *testscript.TestScript, neg bool, args []string) {
	root := ts.MkAbs(args[0])
	program, err := exec.LookPath(args[1])
	if err != nil {
		skip(ts, args[1]+" is not installed")
	}
	libraries, err := exec.Command("ldd", program).Output()
	if err != nil {
		skip(ts, "ldd does not tell the libraries of "+program)
	}
	for _, word := range append(strings.Fields(string(libraries)), program) {
		if !filepath.IsAbs(word) {
			continue
		}
		text, err := os.ReadFile(word)
		ts.Check(err)
		ts.Check(os.MkdirAll(filepath.Dir(filepath.Join(root, word)), 0o755))
		ts.Check(os.WriteFile(filepath.Join(root, word), text, 0o755))
	}
}

// cmdSSHKey makes a private key, with a passphrase if one is given.
func cmdSSHKey(ts *testscript.TestScript, neg bool, args []string) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	block, err := ssh.MarshalPrivateKey(key, "test")
	if len(args) > 1 {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "test", []byte(args[1]))
	}
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(block), 0o600))
}
