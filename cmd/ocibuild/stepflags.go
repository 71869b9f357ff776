package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/executor"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"
)

// stepFlags are the flags of build that concern every RUN. The first group of
// fields is what the flags say, the second what check made of it.
type stepFlags struct {
	allowTexts, sshTexts, mountTexts []string
	security                         securityFlags
	limit                            limitFlags
	net                              netFlags
	runtime                          runtimeFlag

	allow build.Allowed
	run   build.RunOptions
}

func (f *stepFlags) flags(fs *pflag.FlagSet) {
	f.security.flags(fs, "steps")
	fs.StringArrayVar(&f.allowTexts, "allow", nil, "let steps have a `PRIVILEGE` that they ask for: network.host, security.insecure, device or device=NAME[,alias=ALIAS] (may be repeated)")
	fs.StringArrayVar(&f.run.DeviceDirs, "cdi-spec-dir", nil, "read the specifications of devices in this `DIR`, and not in /etc/cdi and /var/run/cdi (may be repeated)")
	fs.StringArrayVar(&f.sshTexts, "ssh", nil, "let RUN --mount=type=ssh show a step an agent, `default|ID[=SOCKET|KEY[,KEY]]`: yours, another's socket, or one with these keys (may be repeated)")
	fs.DurationVar(&f.run.Timeout, "timeout", 0, "end a step, and the build, that takes longer than this `TIME`, as in 90s or 1h")
	fs.StringArrayVar(&f.mountTexts, "mount-host", nil, "show steps a directory of this machine, `SOURCE:TARGET[:ro]`; its content is part of their keys (may be repeated)")
	fs.BoolVar(&f.run.AllowLeak, "allow-secret-leak", false, "only warn when a step leaves a secret in its files, its output or the config")
	f.limit.flags(fs, "each step")
	f.net.flags(fs, "each step")
	f.runtime.flags(fs, "steps")
}

func (f *stepFlags) check(env func(string) (string, bool)) error {
	for _, text := range f.allowTexts {
		if err := f.allow.Grant(text); err != nil {
			return &usageError{msg: fmt.Sprintf("--allow=%s: %v", text, err), hint: "it takes network.host, security.insecure, device and device=NAME[,alias=ALIAS]"}
		}
	}
	if f.run.Timeout < 0 {
		return usagef("--timeout=%s: it takes a time such as 90s or 1h", f.run.Timeout)
	}
	for _, text := range f.mountTexts {
		m, err := parseHostMount(text)
		if err != nil {
			return err
		}
		f.run.HostMounts = append(f.run.HostMounts, m)
	}
	err := f.net.check()
	if err == nil {
		err = f.limit.check()
	}
	if err != nil {
		return err
	}
	f.run.Network, f.run.Hosts, f.run.DNS, f.run.Certificates = f.net.network, f.net.hosts, f.net.dns, f.net.certificates
	f.allow.NetworkHost = f.allow.NetworkHost || f.net.network == "host"
	f.run.Resources, f.run.Limits, f.run.ShmSize = f.limit.resources, f.limit.limits, f.limit.shmSize
	if f.run.Security, err = f.security.check(); err != nil {
		return err
	}
	f.run.SSH, err = openAgents(f.sshTexts, env)
	return err
}

// parseHosts reads the values of --add-host.
func parseHosts(texts []string) ([]executor.HostIP, error) {
	var hosts []executor.HostIP
	for _, text := range texts {
		h, err := parseHost(text)
		if err != nil {
			return nil, &usageError{msg: fmt.Sprintf("--add-host=%s: %v", text, err), hint: "write NAME:ADDRESS, as in db:10.0.0.7, db:[fd00::7] or me:host-gateway"}
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// hostGateway stands for the machine's own address as steps see it. They are in
// the machine's network.
const hostGateway = "host-gateway"

// parseHost reads NAME:ADDRESS or NAME=ADDRESS. An IPv6 address may be in brackets.
func parseHost(text string) (executor.HostIP, error) {
	at := strings.IndexAny(text, ":=")
	if at <= 0 {
		return executor.HostIP{}, errors.New("a name or an address is missing")
	}
	name, address := text[:at], text[at+1:]
	if address == hostGateway {
		return executor.HostIP{Host: name, IP: netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	if inner, ok := strings.CutPrefix(address, "["); ok {
		address = strings.TrimSuffix(inner, "]")
	}
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Zone() != "" {
		return executor.HostIP{}, fmt.Errorf("%q is no address", address)
	}
	if strings.ContainsAny(name, " \t\r\n#") {
		return executor.HostIP{}, fmt.Errorf("%q is no name", name)
	}
	return executor.HostIP{Host: name, IP: ip}, nil
}

// limitNames are the resources that docker limits.
var limitNames = []string{
	"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice",
	"nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
}

// parseLimit reads NAME=SOFT[:HARD], where -1 is no limit.
func parseLimit(text string) (specs.POSIXRlimit, error) {
	name, values, ok := strings.Cut(text, "=")
	if !slices.Contains(limitNames, name) {
		err := fmt.Errorf("unknown resource %q", name)
		if near := nearest(name, limitNames); near != "" {
			err = fmt.Errorf("%w (did you mean %s?)", err, near)
		}
		return specs.POSIXRlimit{}, err
	}
	soft, hard, both := strings.Cut(values, ":")
	if !both {
		hard = soft
	}
	l := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(name)}
	var err1, err2 error
	l.Soft, err1 = limitValue(soft)
	l.Hard, err2 = limitValue(hard)
	switch {
	case !ok || err1 != nil || err2 != nil:
		return l, errors.New("write NAME=SOFT or NAME=SOFT:HARD, as in nofile=1024:4096")
	case l.Soft > l.Hard:
		return l, errors.New("the soft limit must not be above the hard one")
	}
	return l, nil
}

// limitValue reads a limit. The one for none is the highest of all numbers.
func limitValue(text string) (uint64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && n < -1 {
		err = strconv.ErrRange
	}
	return uint64(n), err
}

// parseHostMount reads SOURCE:TARGET[:ro].
func parseHostMount(text string) (build.HostMount, error) {
	m, err := parseVolume(text)
	var usage *usageError
	if errors.As(err, &usage) {
		return build.HostMount{}, &usageError{msg: "--mount-host=" + usage.msg, hint: usage.hint}
	}
	if err != nil {
		return build.HostMount{}, err
	}
	if info, err := os.Stat(m.Source); err != nil || !info.IsDir() {
		return build.HostMount{}, &usageError{msg: fmt.Sprintf("--mount-host=%s: %s is no directory", text, m.Source), hint: "mount the directory that it is in"}
	}
	return build.HostMount{Source: m.Source, Target: m.Destination, ReadOnly: slices.Contains(m.Options, "rro")}, nil
}
