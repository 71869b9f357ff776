package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdRegistry starts Debian's docker-registry on $REGISTRY:
//
//	-tls DIR    it speaks https; its authority is DIR/ca.crt
//	-mutual     it wants the certificate DIR/client.cert with DIR/client.key
//	-nodelete   it does not delete
//
// With a file of htpasswd it wants a password.
func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if _, err := exec.LookPath("docker-registry"); err != nil {
		skip(ts, "docker-registry is not installed")
	}
	fs := flag.NewFlagSet("registry", flag.ContinueOnError)
	tls := fs.String("tls", "", "")
	mutual := fs.Bool("mutual", false, "")
	nodelete := fs.Bool("nodelete", false, "")
	ts.Check(fs.Parse(args))

	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	addr := l.Addr().String()
	ts.Check(l.Close())
	config := ts.MkAbs(fmt.Sprintf("registry-%s.yml", strings.ReplaceAll(addr, ":", "-")))
	text := fmt.Sprintf("version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n"+
		"storage:\n  filesystem:\n    rootdirectory: %s.d\n  delete:\n    enabled: %v\nhttp:\n  addr: %s\n", config, !*nodelete, addr)
	if *tls != "" {
		dir := ts.MkAbs(*tls)
		ts.Check(writeCertificates(dir))
		text += fmt.Sprintf("  tls:\n    certificate: %[1]s/server.crt.pem\n    key: %[1]s/server.key.pem\n", dir)
		if *mutual {
			text += fmt.Sprintf("    clientcas:\n      - %s/ca.crt\n", dir)
		}
	}
	if fs.NArg() > 0 {
		text += fmt.Sprintf("auth:\n  htpasswd:\n    realm: test\n    path: %s\n", ts.MkAbs(fs.Arg(0)))
	}
	ts.Check(os.WriteFile(config, []byte(text), 0o644))
	startScriptRegistry(ts, config, addr)
	ts.Setenv("REGISTRY", addr)
}

// startScriptRegistry runs docker-registry until the script ends.
func startScriptRegistry(ts *testscript.TestScript, config, addr string) {
	c := scriptProcess(ts, "docker-registry", "serve", config)
	var log bytes.Buffer
	c.Stdout, c.Stderr = &log, &log
	ts.Check(c.Start())
	ended := make(chan struct{})
	go func() { _ = c.Wait(); close(ended) }()
	ts.Defer(func() { _ = c.Process.Kill(); <-ended })
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-ended:
			ts.Fatalf("the registry ended: %s", &log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// writeCertificates makes an authority, and certificates of its for a server
// on this machine and for a client.
func writeCertificates(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	authority := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority of a test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca, caKey, err := writeCertificate(dir, "ca.crt", "ca.key.pem", authority, authority, nil)
	if err != nil {
		return err
	}
	server := &x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if _, _, err := writeCertificate(dir, "server.crt.pem", "server.key.pem", server, ca, caKey); err != nil {
		return err
	}
	client := &x509.Certificate{Subject: pkix.Name{CommonName: "me"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	_, _, err = writeCertificate(dir, "client.cert", "client.key", client, ca, caKey)
	return err
}

// writeCertificate makes one certificate; without a key of the parent's it signs itself.
func writeCertificate(dir, certFile, keyFile string, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if parentKey == nil {
		parentKey = key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o644); err != nil {
			return nil, nil, err
		}
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}
