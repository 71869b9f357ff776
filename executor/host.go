package executor

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// detectHost looks at what the spec of p depends on.
func detectHost(p Process) (Host, error) {
	ids, err := readIDMap("/proc/self/uid_map")
	if err != nil {
		return Host{}, fmt.Errorf("read id map: %w", err)
	}
	var h Host
	h.UserNamespace = !ids.whole()
	h.SingleID = ids.total() == 1
	_, err = os.Stat("/proc/self/ns/cgroup")
	h.CgroupNamespace = err == nil
	var fs unix.Statfs_t
	if p.Insecure {
		if h.Capabilities, err = ownCapabilities(); err != nil {
			return Host{}, fmt.Errorf("read own capabilities: %w", err)
		}
		h.FreeLoop = freeLoop()
	}
	h.CgroupV2 = h.CgroupNamespace && unix.Statfs("/sys/fs/cgroup", &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
	return h, nil
}

// ownCapabilities are those that this process may use.
func ownCapabilities() ([]string, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return nil, err
	}
	mask := uint64(have[1].Effective)<<32 | uint64(have[0].Effective)
	var names []string
	for i, name := range capabilityNames {
		if mask&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names, nil
}

// freeLoop is the number of the loop device that the next one to ask for one gets.
func freeLoop() int {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return 0
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return 0
	}
	return n
}

const (
	resolvConf = "/etc/resolv.conf"
	// upstreamConf lists the name servers that systemd-resolved asks.
	upstreamConf = "/run/systemd/resolve/resolv.conf"
)

// readResolvConf returns the name servers for a step: the machine's, or, where it
// asks a local systemd-resolved only, those behind it. A machine without the
// file gives an empty one.
func readResolvConf(read func(name string) ([]byte, error)) []byte {
	conf, err := read(resolvConf)
	if err != nil {
		return nil
	}
	if resolvedOnly(conf) {
		if upstream, err := read(upstreamConf); err == nil {
			return upstream
		}
	}
	return conf
}

// resolvedOnly reports whether systemd-resolved's stub is the only name server.
func resolvedOnly(conf []byte) bool {
	var servers []netip.Addr
	for line := range bytes.Lines(conf) {
		f := strings.Fields(string(line))
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(f[1]); err == nil {
			servers = append(servers, addr)
		}
	}
	return len(servers) == 1 && servers[0] == netip.AddrFrom4([4]byte{127, 0, 0, 53})
}

// hostsFile is the text of a step's /etc/hosts, as BuildKit writes it.
func hostsFile(p Process) []byte {
	name := p.Hostname
	if name == "" {
		name = DefaultHostname
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", name)
	for _, h := range p.ExtraHosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.IP, h.Host)
	}
	return b.Bytes()
}

// file returns the path of a file with that text, made when none has it yet.
// Steps bind it read-only, so one file serves them all.
func (s *Snapshots) file(text []byte) (string, error) {
	sum := sha256.Sum256(text)
	path := s.path(filesDir, hex.EncodeToString(sum[:16]))
	now := time.Now()
	if err := os.Chtimes(path, now, now); err == nil {
		return path, nil
	}
	// One that another step has made meanwhile stays: a file that is replaced
	// can no longer be mounted by who has opened it.
	if err := s.writeFile(path, text, renameNew); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("write generated file: %w", err)
	}
	return path, nil
}
