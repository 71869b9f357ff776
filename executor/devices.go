package executor

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

type boundDevice struct {
	path   string
	source int
}

// devLinks are the links that every /dev has.
var devLinks = [...][2]string{
	{"/proc/self/fd", "fd"},
	{"/proc/self/fd/0", "stdin"},
	{"/proc/self/fd/1", "stdout"},
	{"/proc/self/fd/2", "stderr"},
	{"pts/ptmx", "ptmx"},
	{"/proc/kcore", "core"},
}

// withoutDevices makes device nodes in a mount useless, unless it is such a node, or
// terminals, which are the step's own.
func withoutDevices(fd int, m planMount) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFCHR || kind == unix.S_IFBLK || m.Type == "devpts" || m.Clear&unix.MOUNT_ATTR_NODEV != 0 {
		return nil
	}
	return setAttrs(fd, unix.MOUNT_ATTR_NODEV, 0, m.Recursive)
}

// makeNodes makes device nodes where the step will not be able to make any, to be bound
// one by one.
func (s *setup) makeNodes(p *plan) error {
	tmpfs, err := newFilesystem(planMount{Type: "tmpfs", Source: "tmpfs", Data: []string{"mode=0755"}})
	if err != nil {
		return err
	}
	defer unix.Close(tmpfs)
	if err := unix.MoveMount(tmpfs, "", unix.AT_FDCWD, p.Scratch, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach tmpfs: %w", err)
	}
	defer unix.Unmount(p.Scratch, unix.MNT_DETACH) //nolint:errcheck // it goes with the namespace at the latest
	for _, d := range p.Devices {
		if err := makeDevice(tmpfs, d); err != nil {
			return err
		}
		source, err := cloneTree(tmpfs, strings.TrimPrefix(d.Path, devTarget+"/"), false)
		if err != nil {
			return fmt.Errorf("%s: %w", d.Path, err)
		}
		s.devices = append(s.devices, boundDevice{d.Path, source})
	}
	return nil
}

// populateDev fills a new /dev, dev, with nodes and links. Where nodes may not be
// made, as in a user namespace, the host's are bound later.
func (s *setup) populateDev(dev int, p *plan) error {
	devices := p.Devices
	if p.NoDevices {
		switch err := s.makeNodes(p); {
		case err == nil:
			devices = nil
		case !errors.Is(err, unix.EPERM):
			return err
		}
	}
	for _, d := range devices {
		err := makeDevice(dev, d)
		if err == unix.EPERM {
			var source int
			source, err = cloneTree(unix.AT_FDCWD, d.Path, false)
			if err == unix.ENOENT {
				continue // we may not make what the machine does not have
			}
			s.devices = append(s.devices, boundDevice{d.Path, source})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.Path, err)
		}
	}
	for _, l := range devLinks {
		if l[1] == "core" && unix.Access(l[0], unix.F_OK) != nil {
			continue // a kernel need not have it
		}
		if err := unix.Symlinkat(l[0], dev, l[1]); err != nil {
			return fmt.Errorf("%s: %w", l[1], err)
		}
	}
	return nil
}

// makeDevice makes a node, and the directories that lead to it, in the new /dev.
func makeDevice(dev int, d planDevice) error {
	name := strings.TrimPrefix(d.Path, devTarget+"/")
	for i, c := range name {
		if c != '/' {
			continue
		}
		if err := unix.Mkdirat(dev, name[:i], 0o755); err != nil && err != unix.EEXIST {
			return err
		}
	}
	if err := unix.Mknodat(dev, name, uint32(d.Mode), int(d.Dev)); err != nil {
		return err
	}
	if d.UID == 0 && d.GID == 0 {
		return nil
	}
	return unix.Fchownat(dev, name, int(d.UID), int(d.GID), unix.AT_SYMLINK_NOFOLLOW)
}
