package cdi

import (
	"fmt"
	"os"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// All gives the edits of several devices, those that they have in common once.
func All(devices []*Device) []Edits {
	var list []Edits
	seen := map[*Edits]bool{}
	for _, d := range devices {
		if !seen[d.Common] {
			seen[d.Common] = true
			list = append(list, *d.Common)
		}
		list = append(list, d.Edits)
	}
	return list
}

// Check refuses edits that are not carried out.
func (e Edits) Check() error {
	for _, x := range []struct {
		what  string
		asked bool
	}{
		{"hooks", len(e.Hooks) > 0},
		{"network devices", len(e.NetDevices) > 0},
		{"a class of Intel RDT", len(e.RDT) > 0 && string(e.RDT) != "null"},
	} {
		if x.asked {
			return fmt.Errorf("its specification asks for %s", x.what)
		}
	}
	return nil
}

// Source is the node's path on the machine.
func (n Node) Source() string {
	if n.HostPath != "" {
		return n.HostPath
	}
	return n.Path
}

// Device describes the node. What the specification does not say is that of the
// machine's node.
func (n Node) Device() (specs.LinuxDevice, error) {
	d := specs.LinuxDevice{Path: n.Path, Type: n.Type, Major: n.Major, Minor: n.Minor, UID: n.UID, GID: n.GID}
	if n.FileMode != nil {
		mode := os.FileMode(*n.FileMode).Perm()
		d.FileMode = &mode
	}
	if d.Type != "" && d.Major != 0 {
		return d, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(n.Source(), &st); err != nil {
		return d, &os.PathError{Op: "stat", Path: n.Source(), Err: err}
	}
	kind := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[st.Mode&unix.S_IFMT]
	switch {
	case kind == "":
		return d, fmt.Errorf("%s is no device", n.Source())
	case d.Type != "" && d.Type != kind && (d.Type != "u" || kind != "c"):
		return d, fmt.Errorf("%s is of type %s, and its specification says %s", n.Source(), kind, d.Type)
	}
	d.Type, d.Major, d.Minor = kind, int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	return d, nil
}

// Bind shows the machine's own node, where none can be made.
func (n Node) Bind() specs.Mount {
	return specs.Mount{Destination: n.Path, Type: "bind", Source: n.Source(), Options: []string{"bind", "nosuid", "noexec"}}
}

// Mount gives the mount in the words of a runtime spec. How it is propagated does
// not matter to a step, whose mounts nobody else has.
func (m Mount) Mount() specs.Mount {
	out := specs.Mount{Destination: m.ContainerPath, Type: m.Type, Source: m.HostPath}
	bind := m.Type == "" || m.Type == "bind" || m.Type == "none"
	for _, o := range m.Options {
		switch strings.TrimPrefix(o, "r") {
		case "private", "slave", "shared", "unbindable":
		default:
			bind = bind || o == "bind" || o == "rbind"
			out.Options = append(out.Options, o)
		}
	}
	if bind {
		out.Type = "bind"
	}
	return out
}
