// Package cdi reads the specifications of devices that vendors put on a machine
// (the Container Device Interface, tags.cncf.io/container-device-interface), for
// RUN --device.
//
// A specification is a file in one of a few directories. It names a kind of devices,
// vendor/class, and for each device of that kind what a container gets with it:
// device nodes, mounts, variables, groups. A device of a later directory replaces the
// one of that name in an earlier directory; two in one directory are a conflict, and
// neither is there.
//
// Files are JSON or YAML. Hooks, network devices and resource control classes are not
// carried out: a device that asks for them is refused.
package cdi
