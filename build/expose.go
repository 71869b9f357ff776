package build

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// exposedPorts reads one word of EXPOSE, [[ip:]host:]port[-last][/proto], and
// gives each container port as "port/proto". What stands before the container
// port is checked and dropped.
func exposedPorts(spec string) ([]string, error) {
	ip, host, port := "", "", spec
	if i := strings.LastIndexByte(spec, ':'); i >= 0 {
		port, host = spec[i+1:], spec[:i]
		if j := strings.LastIndexByte(host, ':'); j >= 0 {
			ip, host = host[:j], host[j+1:]
		}
	}
	port, proto, _ := strings.Cut(port, "/")
	if proto == "" {
		proto = "tcp"
	}
	proto = strings.ToLower(proto)
	if proto != "tcp" && proto != "udp" && proto != "sctp" {
		return nil, fmt.Errorf("unknown protocol %q", proto)
	}
	if ip != "" && net.ParseIP(strings.Trim(ip, "[]")) == nil {
		return nil, fmt.Errorf("bad IP address %q", ip)
	}
	first, last, err := portRange(port)
	if err != nil {
		return nil, err
	}
	if host != "" {
		h1, h2, err := portRange(host)
		if err != nil {
			return nil, fmt.Errorf("host port: %w", err)
		}
		if last != first && h2-h1 != last-first {
			return nil, fmt.Errorf("ranges of different length: %s and %s", port, host)
		}
	}
	var out []string
	for p := first; p <= last; p++ {
		out = append(out, strconv.Itoa(p)+"/"+proto)
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
