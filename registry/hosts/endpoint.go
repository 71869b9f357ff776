package hosts

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"time"
)

// Use is what an endpoint is wanted for.
type Use int

const (
	// Pull is for content that is the same wherever it is: mirrors have it too.
	Pull Use = iota
	// List is for what only the registry itself knows: its tags and its repositories.
	List
	// Push is for changes, which go to the registry itself and to the name that was given.
	Push
)

// Can is what an endpoint is trusted with.
type Can uint8

const (
	// CanPull is to give content by its digest.
	CanPull Can = 1 << iota
	// CanResolve is to say which digest a tag has.
	CanResolve
	// CanPush is to take content.
	CanPush
	// CanReferrers is to list what is about a manifest.
	CanReferrers

	canAll = CanPull | CanResolve | CanPush | CanReferrers
)

// Endpoint is one place where a repository can be had.
type Endpoint struct {
	// Host is the host with its port, if it has one.
	Host string
	// Name is the repository as it is called there; empty where none was asked for.
	Name string
	// Scheme is http or https; empty means that it has to be found out.
	Scheme string
	// Root is the path of the registry's API, "/v2" for most.
	Root string
	// For is the registry that a mirror stands for, which wants to be told; empty for others.
	For string
	// Mirror says that there is another endpoint behind it.
	Mirror bool
	// Insecure allows plain http and any certificate.
	Insecure bool
	// Can is what it may be used for.
	Can Can
	// TLS says which certificates count.
	TLS TLS
	// Header goes with every request to this host, and to no other.
	Header http.Header
	// DialTimeout bounds how long a connection may take; 0 means the usual.
	DialTimeout time.Duration
}

// TLS says by which certificates a host and a client prove what they are.
type TLS struct {
	// CAs are files with authorities that count beside the system's.
	CAs []string
	// Pairs are files with a client's certificate and its key, which may be the same file.
	Pairs [][2]string
	// SkipVerify takes any certificate.
	SkipVerify bool
}

// Config reads the files. It is nil if they say nothing.
func (t TLS) Config() (*tls.Config, error) {
	if len(t.CAs) == 0 && len(t.Pairs) == 0 && !t.SkipVerify {
		return nil, nil
	}
	conf := &tls.Config{InsecureSkipVerify: t.SkipVerify} // #nosec G402 -- only where the user has said so
	if len(t.CAs) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool() // a machine without authorities of its own
		}
		for _, file := range t.CAs {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, fileError(file, err)
			}
			if !pool.AppendCertsFromPEM(text) {
				return nil, &Error{File: file, Message: "there is no certificate in it", Hint: "it must be in PEM format: -----BEGIN CERTIFICATE-----"}
			}
		}
		conf.RootCAs = pool
	}
	for _, pair := range t.Pairs {
		cert, err := tls.LoadX509KeyPair(pair[0], pair[1])
		if err != nil {
			return nil, &Error{File: pair[0], Message: fmt.Sprintf("load the client's certificate with the key %s: %v", pair[1], err), Err: err}
		}
		conf.Certificates = append(conf.Certificates, cert)
	}
	return conf, nil
}

// and adds to what one source says of a host what another says.
func (t TLS) and(o TLS) TLS {
	return TLS{
		CAs: append(append([]string{}, t.CAs...), o.CAs...), Pairs: append(append([][2]string{}, t.Pairs...), o.Pairs...),
		SkipVerify: t.SkipVerify || o.SkipVerify,
	}
}
