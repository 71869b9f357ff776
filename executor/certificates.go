package executor

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// bundles are where distributions keep the certificates that programs trust: Debian,
// Alpine and Gentoo; Alpine's and BSD's link to it; Fedora and RHEL; OpenSUSE and SLES.
var bundles = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/ssl/cert.pem",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/ssl/ca-bundle.pem",
	"/var/lib/ca-certificates/ca-bundle.pem",
}

const (
	// maxBundle bounds what is read of an image.
	maxBundle = 16 << 20
	// trustFile and extraFile are where a step finds all certificates, and the ones
	// that were added, whatever its image has.
	trustFile = "/run/ocibuild/ca-bundle.pem"
	extraFile = "/run/ocibuild/ca-extra.pem"
)

// trustVariables name a file with all certificates; Node's one with more than it has.
var trustVariables = map[string]string{
	"SSL_CERT_FILE": trustFile, "CURL_CA_BUNDLE": trustFile, "REQUESTS_CA_BUNDLE": trustFile, "GIT_SSL_CAINFO": trustFile,
	"PIP_CERT": trustFile, "AWS_CA_BUNDLE": trustFile, "CARGO_HTTP_CAINFO": trustFile, "NODE_EXTRA_CA_CERTS": extraFile,
}

// addCertificates lets the process trust more certificates: its image's bundles have
// them for as long as it runs, and the usual variables name a bundle. An image without
// one gets this machine's.
func (p *Process) addCertificates(root *rootfs.Root) error {
	if len(p.Certificates) == 0 {
		return nil
	}
	trusted := []byte(nil)
	seen := map[string]bool{}
	files := slices.Clone(p.Files)
	for _, name := range bundles {
		real, err := root.Resolve(name)
		if err != nil || seen[real] {
			continue
		}
		seen[real] = true
		data, err := root.ReadFile(real, maxBundle)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EISDIR) {
			continue
		}
		if err != nil {
			return err
		}
		data = joinPEM(data, p.Certificates)
		if trusted == nil {
			trusted = data
		}
		files = append(files, File{Target: "/" + real, Data: data, Mode: 0o644})
	}
	if trusted == nil {
		trusted = joinPEM(ownBundle(), p.Certificates)
	}
	p.Files = append(files, File{Target: trustFile, Data: trusted, Mode: 0o644}, File{Target: extraFile, Data: p.Certificates, Mode: 0o644})
	p.Env = slices.Clone(p.Env)
	for name, file := range trustVariables {
		if !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, name+"=") }) {
			p.Env = append(p.Env, name+"="+file)
		}
	}
	return nil
}

// ownBundle is what this machine trusts.
func ownBundle() []byte {
	for _, name := range bundles {
		if data, err := os.ReadFile(name); err == nil {
			return data
		}
	}
	return nil
}

func joinPEM(a, b []byte) []byte {
	if len(a) > 0 {
		a = append(bytes.TrimRight(slices.Clone(a), "\n"), '\n')
	}
	return append(a, b...)
}
