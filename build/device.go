package build

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/executor/cdi"
	"github.com/ocibuild/ocibuild/parser"
)

// machineDevices are the devices that RUN --device may name, read when the first
// step does.
type machineDevices struct {
	once     sync.Once
	registry *cdi.Registry
	err      error
}

func (d *machineDevices) read(dirs []string) (*cdi.Registry, error) {
	d.once.Do(func() {
		if len(dirs) == 0 {
			dirs = cdi.Dirs
		}
		d.registry, d.err = cdi.Read(dirs)
	})
	return d.registry, d.err
}

// stepDevices finds the devices that a RUN gets: those that it names, as far as they
// are there and it may have them.
func (r *run) stepDevices(asked []parser.Device) ([]*cdi.Device, error) {
	if len(asked) == 0 {
		return nil, nil
	}
	reg, err := r.devices.read(r.req.Run.DeviceDirs)
	if err != nil {
		return nil, err
	}
	allow := r.req.Plan.Allow
	var out []*cdi.Device
	for _, a := range asked {
		name, granted := a.Name, allow.AllDevices
		if real := allow.Devices[a.Name]; real != "" {
			name, granted = real, true
		}
		found := reg.Find(name)
		if len(found) == 0 && a.Required {
			return nil, &Hinted{fmt.Errorf("required device %q is not registered", name), reg.Known()}
		}
		for _, d := range found {
			if !granted {
				if err := allow.device(reg, d); err != nil {
					return nil, err
				}
			}
			if !slices.Contains(out, d) {
				out = append(out, d)
			}
		}
	}
	return out, nil
}

// device refuses a device that steps may not have.
func (a *Allowed) device(reg *cdi.Registry, d *cdi.Device) error {
	if d.AutoAllowed() {
		return nil
	}
	for name, real := range a.Devices {
		if real != "" {
			continue // an alias is for those who use it
		}
		if slices.Contains(reg.Find(name), d) {
			return nil
		}
	}
	return &Hinted{
		fmt.Errorf("device %s is requested by the build but not allowed", d.Name),
		"if you trust this Dockerfile with it: --allow device=" + d.Name + ", or --allow device for all",
	}
}

// deviceNames is what of devices is part of a step's key.
func deviceNames(devices []*cdi.Device) []string {
	var names []string
	for _, d := range devices {
		names = append(names, d.Name)
	}
	return names
}

// giveDevices makes devices part of a process. In a user namespace no nodes can be
// made: those of the machine are shown.
func (r *run) giveDevices(p *executor.Process, devices []*cdi.Device) error {
	for _, d := range devices {
		if err := errors.Join(d.Edits.Check(), d.Common.Check()); err != nil {
			return &Hinted{fmt.Errorf("device %s: %w", d.Name, err), "ocibuild gives a step device nodes, mounts, variables and groups; use a device that needs no more"}
		}
	}
	for _, e := range cdi.All(devices) {
		for _, v := range e.Env {
			name, value, _ := strings.Cut(v, "=")
			p.Env = scope(p.Env).with(name, value)
		}
		for _, n := range e.DeviceNodes {
			node, err := n.Device()
			switch {
			case err != nil:
				return fmt.Errorf("device node: %w", err)
			case !r.b.Level.MakesDevices():
				p.Mounts = append(p.Mounts, n.Bind())
			default:
				p.Devices = append(p.Devices, node)
			}
		}
		for _, m := range e.Mounts {
			p.Mounts = append(p.Mounts, m.Mount())
		}
		for _, g := range e.Groups {
			if g != 0 { // nobody comes to the group root by a device
				p.MoreGroups = append(p.MoreGroups, g)
			}
		}
	}
	return nil
}
