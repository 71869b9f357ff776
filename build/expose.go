package build

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// portSpec is one word of EXPOSE in its parts: [[ip:]host:]port[-last][/protocol].
type portSpec struct{ ip, host, port, protocol string }

func splitPort(spec string) portSpec {
	p := portSpec{port: spec}
	if i := strings.LastIndexByte(spec, ':'); i >= 0 {
		p.port, p.host = spec[i+1:], spec[:i]
		if j := strings.LastIndexByte(p.host, ':'); j >= 0 {
			p.ip, p.host = p.host[:j], p.host[j+1:]
		}
	}
	p.port, p.protocol, _ = strings.Cut(p.port, "/")
	if p.protocol == "" {
		p.protocol = "tcp"
	}
	return p
}

func (p portSpec) knownProtocol() bool {
	return slices.Contains(protocols, strings.ToLower(p.protocol))
}

var protocols = []string{"tcp", "udp", "sctp"}

// exposedPorts reads one word of EXPOSE and gives each container port as
// "port/proto". What stands before the container port is checked and dropped.
func exposedPorts(spec string) ([]string, error) {
	p := splitPort(spec)
	if !p.knownProtocol() {
		return nil, fmt.Errorf("unknown protocol %q", p.protocol)
	}
	if p.ip != "" && net.ParseIP(strings.Trim(p.ip, "[]")) == nil {
		return nil, fmt.Errorf("bad IP address %q", p.ip)
	}
	first, last, err := portRange(p.port)
	if err != nil {
		return nil, err
	}
	if p.host != "" {
		h1, h2, err := portRange(p.host)
		if err != nil {
			return nil, fmt.Errorf("host port: %w", err)
		}
		if last != first && h2-h1 != last-first {
			return nil, fmt.Errorf("ranges of different length: %s and %s", p.port, p.host)
		}
	}
	var out []string
	for n := first; n <= last; n++ {
		out = append(out, strconv.Itoa(n)+"/"+strings.ToLower(p.protocol))
	}
	return out, nil
}

func portRange(s string) (first, last int, err error) {
	if s == "" {
		return 0, 0, errors.New("no port given")
	}
	a, b, ranged := strings.Cut(s, "-")
	if first, err = portNumber(a); err != nil || !ranged {
		return first, first, err
	}
	if last, err = portNumber(b); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, fmt.Errorf("range %s runs backwards", s)
	}
	return first, last, nil
}

func portNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 65535 {
		return 0, fmt.Errorf("%q is not a port number from 0 to 65535", s)
	}
	return n, nil
}
