package registry

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// statusHint says what to do about an answer.
func (j job) statusHint(e *Error) string {
	switch {
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden, e.Code == "DENIED", e.Code == "UNAUTHORIZED":
		return j.accessHint(e)
	case e.Status == http.StatusNotFound:
		return j.absentHint()
	case e.Status == http.StatusTooManyRequests:
		return "wait, or " + j.loginHint(e) + " for a higher limit"
	case e.Status == http.StatusRequestEntityTooLarge:
		return "the registry, or a proxy before it, limits the size: raise its limit"
	case e.Status >= 500:
		return "the registry is in trouble: try again later"
	}
	return ""
}

// accessHint says what to do where somebody is not let in.
func (j job) accessHint(e *Error) string {
	switch j.op {
	case opLogin:
		return "check the user name and the password (some registries want an access token)"
	case opPush:
		return j.loginHint(e) + " with an account that may push there"
	case opDelete:
		return j.loginHint(e) + " with an account that may delete there"
	}
	return j.shortName() + "check the name, or " + j.loginHint(e)
}

// loginHint names the host that wants to know who asks, which may be a mirror, and what may be the matter with a credential that is there.
func (j job) loginHint(e *Error) string {
	host := e.Host
	if e.At != "" {
		host = e.At
	}
	login := "run `ocibuild login " + host + "`"
	if e.Status == http.StatusUnauthorized && j.c.options.Credentials == nil {
		login += j.c.keys.hint()
	}
	return login
}

// absentHint says what to do where there is no such thing.
func (j job) absentHint() string {
	switch {
	case j.op == opPush:
		return "check the name; some registries want the repository to be created first"
	case j.repo.Name == "":
		return "check the host: it has no registry API there"
	}
	return j.shortName() + "check the name and the tag"
}

// shortName tells what registries.conf has for a name that is Docker's for ocibuild.
func (j job) shortName() string {
	if j.repo.Host != dockerHub || j.op == opPush {
		return ""
	}
	short := strings.TrimPrefix(j.repo.Name, "library/")
	names := j.c.places.ShortName(short)
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("registries.conf gives %s the name %s: write that if it is meant; ", short, strings.Join(names, " or "))
}

// networkHint says what to do about an error below HTTP.
func networkHint(err error, host string) string {
	var (
		dns   *net.DNSError
		cert  *tls.CertificateVerificationError
		noTLS tls.RecordHeaderError
		alert *net.OpError
	)
	switch {
	case errors.As(err, &dns):
		return "check the host's name and the network"
	case errors.As(err, &cert):
		return "put its authority into certs.d/" + host + "/ca.crt below ~/.config/docker or /etc/docker, or pass --insecure " + host
	case errors.As(err, &alert) && alert.Op == "remote error" && strings.Contains(alert.Error(), "certificate"):
		return "it wants to see a certificate of ours: put client.cert and client.key into certs.d/" + host + " below ~/.config/docker or /etc/docker"
	case errors.As(err, &noTLS), errors.Is(err, http.ErrSchemeMismatch):
		return "if it speaks plain http, pass --insecure " + host
	case errors.Is(err, syscall.ECONNREFUSED):
		return "check that a registry listens at " + host
	}
	return ""
}
