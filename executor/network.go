package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// NetworkIsolated is a network namespace that a program of this machine, pasta or
// slirp4netns, connects with the machine's network: steps reach out, and nothing on the
// machine's loopback.
const NetworkIsolated = "isolated"

// ownNetwork reports whether a process has a network namespace of its own.
func (p *Process) ownNetwork() bool {
	return p.Network == NetworkNone || p.Network == NetworkIsolated
}

// DNS is how names are resolved in place of the machine's own way; what is empty stays
// as it is.
type DNS struct {
	Servers         []netip.Addr
	Search, Options []string
}

// apply changes a resolv.conf.
func (d DNS) apply(conf []byte) []byte {
	replaced := map[string]bool{
		"nameserver": len(d.Servers) > 0, "search": len(d.Search) > 0, "domain": len(d.Search) > 0, "options": len(d.Options) > 0,
	}
	var out bytes.Buffer
	for line := range bytes.Lines(conf) {
		if f := strings.Fields(string(line)); len(f) == 0 || !replaced[f[0]] {
			out.Write(line)
		}
	}
	if n := out.Len(); n > 0 && out.Bytes()[n-1] != '\n' {
		out.WriteByte('\n')
	}
	for _, s := range d.Servers {
		fmt.Fprintf(&out, "nameserver %s\n", s)
	}
	if len(d.Search) > 0 && d.Search[0] != "." { // which is docker's word for none
		fmt.Fprintf(&out, "search %s\n", strings.Join(d.Search, " "))
	}
	if len(d.Options) > 0 {
		fmt.Fprintf(&out, "options %s\n", strings.Join(d.Options, " "))
	}
	return out.Bytes()
}

// connector is a program that connects a network namespace.
type connector struct {
	name string
	// server answers for the machine's name servers in the namespace.
	server string
	// args are its arguments, with the namespace as descriptor 3 and the process in it.
	args func(pid int) []string
}

// connectors are those that are known, the best first.
var connectors = []connector{
	{"pasta", "169.254.1.1", func(int) []string {
		args := []string{
			"--foreground", "--quiet", "--config-net", "--no-map-gw", "--dns-forward", "169.254.1.1",
			"-t", "none", "-u", "none", "-T", "none", "-U", "none", "--netns", "/proc/self/fd/3",
		}
		if ids, err := readIDMap("/proc/self/uid_map"); err == nil && ids.whole() && os.Geteuid() == 0 {
			args = append(args, "--runas", "0") // nobody, which it would become, may not enter the namespace
		}
		return args
	}},
	{"slirp4netns", "10.0.2.3", func(pid int) []string {
		return []string{"--configure", "--mtu=65520", "--disable-host-loopback", fmt.Sprint(pid), "tap0"}
	}},
}

// ErrNoConnector is that no program is installed that NetworkIsolated needs.
var ErrNoConnector = errors.New("network isolated needs pasta (package passt) or slirp4netns, and neither is installed")

// findConnector gives the first that is installed.
func findConnector() (*connector, error) {
	for i := range connectors {
		if _, err := exec.LookPath(connectors[i].name); err == nil {
			return &connectors[i], nil
		}
	}
	return nil, ErrNoConnector
}

// connectPatience is how long a connector may take.
const connectPatience = 10 * time.Second

// connect connects the network namespace of a process, until stop is called. The
// program ends with the thread that started it, and so with this process at the latest.
func (c *connector) connect(ctx context.Context, pid int) (stop func(), err error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("connect network: %w", err)
	}
	defer ns.Close()
	var said bytes.Buffer
	cmd := exec.Command(c.name, c.args(pid)...)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.ExtraFiles = []*os.File{ns}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("connect network: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // what it has said tells more
		close(ended)
	}()
	stop = func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	if err := waitRoute(ctx, pid, ended); err != nil {
		if errors.Is(err, errEnded) {
			return nil, fmt.Errorf("connect network: %s: %s", c.name, lastLine(said.Bytes()))
		}
		stop()
		return nil, fmt.Errorf("connect network: %s: %w", c.name, err)
	}
	return stop, nil
}

// errEnded is that a connector has ended and not connected.
var errEnded = errors.New("ended")

// waitRoute waits until a process's network has a route to somewhere.
func waitRoute(ctx context.Context, pid int, ended <-chan struct{}) error {
	late := time.After(connectPatience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/route", pid))
		if err != nil {
			return err
		}
		if bytes.Count(table, []byte("\n")) > 1 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return errors.New("the network does not come up")
		case <-ended:
			return errEnded
		case <-tick.C:
		}
	}
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if line := strings.TrimSpace(lines[i]); line != "" && !strings.HasPrefix(line, "Failed to send") {
			return line
		}
	}
	return "it ended without a word"
}
