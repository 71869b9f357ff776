package build

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ocibuild/ocibuild/parser"
)

// Allowed are the privileges that the steps of a build may ask for. The zero
// value allows none.
type Allowed struct {
	NetworkHost      bool // RUN --network=host
	SecurityInsecure bool // RUN --security=insecure
	AllDevices       bool // RUN --device, any
	// Devices are those that RUN --device may name. A key is the name that steps use;
	// its value, if there is one, is the device that stands for.
	Devices map[string]string
}

// The privileges, as --allow takes them.
const (
	allowNetwork  = "network.host"
	allowSecurity = "security.insecure"
	allowDevice   = "device"
)

// Grant allows what a value of --allow says: network.host, security.insecure,
// device, or device=NAME[,alias=ALIAS].
func (a *Allowed) Grant(text string) error {
	name, value, valued := strings.Cut(text, "=")
	switch {
	case text == allowNetwork:
		a.NetworkHost = true
	case text == allowSecurity:
		a.SecurityInsecure = true
	case name == allowDevice && !valued:
		a.AllDevices = true
	case name == allowDevice:
		return a.grantDevice(value)
	default:
		return fmt.Errorf("unknown privilege %q", text)
	}
	return nil
}

func (a *Allowed) grantDevice(text string) error {
	device, rest, aliased := strings.Cut(text, ",")
	alias, ok := strings.CutPrefix(rest, "alias=")
	switch {
	case device == "":
		return errors.New("a device's name is missing")
	case aliased && (!ok || alias == ""):
		return fmt.Errorf("%q is not alias=NAME", rest)
	}
	if a.Devices == nil {
		a.Devices = map[string]string{}
	}
	if aliased {
		a.Devices[alias] = device
	} else {
		a.Devices[device] = ""
	}
	return nil
}

// allows refuses a RUN that asks for a privilege the build has not got.
func (p *planner) allows(s *Step, in *parser.Run) error {
	for _, x := range []struct {
		flag, privilege string
		missing         bool
	}{
		{"--network=host", allowNetwork, in.Network == "host" && !p.o.Allow.NetworkHost},
		{"--security=insecure", allowSecurity, in.Security == "insecure" && !p.o.Allow.SecurityInsecure},
	} {
		if x.missing {
			return p.fail(s.Range(), "if you trust this Dockerfile with it: --allow "+x.privilege, "RUN %s: %s is not allowed", x.flag, x.privilege)
		}
	}
	return nil
}
