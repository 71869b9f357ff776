package executor

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// fillDev fills a new /dev.
func fillDev(dev int, devices []planDevice) error {
	for _, d := range devices {
		err := makeDevice(dev, d)
		if err == nil { // whatever our umask is
			err = unix.Fchmodat(dev, strings.TrimPrefix(d.Path, devTarget+"/"), uint32(d.Mode&0o7777), 0)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.Path, err)
		}
	}
	for _, l := range devLinks {
		if l[1] == "core" || l[1] == "ptmx" {
			continue // there is nothing behind them
		}
		if err := unix.Symlinkat(l[0], dev, l[1]); err != nil {
			return fmt.Errorf("%s: %w", l[1], err)
		}
	}
	return nil
}

// fillSys shows the part of /sys that programs count processors by.
func fillSys(sys int) error {
	const cpus = "devices/system/cpu"
	for _, name := range []string{"online", "possible", "present"} {
		if err := copyText("/sys", sys, path.Join(cpus, name)); err != nil {
			return err
		}
	}
	return nil
}

// copyText copies a file of the machine's, as far as it can be read, to the same place
// below dir.
func copyText(from string, dir int, name string) error {
	data, err := os.ReadFile(path.Join(from, name))
	if err != nil {
		return nil //nolint:nilerr // what cannot be read is not shown
	}
	return putText(dir, name, string(data))
}

func putText(dir int, name, text string) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		if err := unix.Mkdirat(dir, name[:i], 0o555); err != nil && err != unix.EEXIST {
			return err
		}
	}
	return putFile(dir, name, []byte(text), 0o444, 0, 0)
}
