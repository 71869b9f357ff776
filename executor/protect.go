package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// protect hides the paths that a step must not see and makes read-only those
// that it must not change, as far as they are there.
func (s *setup) protect(p *plan) error {
	for _, name := range p.Masked {
		if err := s.ifThere(name, s.mask); err != nil {
			return fmt.Errorf("mask %s: %w", name, err)
		}
	}
	if s.masks >= 0 {
		unix.Close(s.masks)
	}
	for _, name := range p.Readonly {
		if err := s.ifThere(name, makeReadonly); err != nil {
			return fmt.Errorf("make %s read-only: %w", name, err)
		}
	}
	return nil
}

func (s *setup) ifThere(name string, do func(at *os.File) error) error {
	at, err := s.root.OpenFile(name, unix.O_PATH, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer at.Close()
	return do(at)
}

// mask covers a directory with an empty one and anything else with /dev/null.
func (s *setup) mask(at *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(at.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return s.maskDirectory(at)
	}
	null, err := s.cloneInside("/dev/null")
	if err != nil {
		return err
	}
	defer unix.Close(null)
	return moveOnto(null, at)
}

// maskDirectory uses one empty read-only tmpfs for all directories.
func (s *setup) maskDirectory(at *os.File) (err error) {
	if s.masks < 0 {
		s.masks, err = newFilesystem(planMount{Type: "tmpfs", Source: "tmpfs", Set: unix.MOUNT_ATTR_RDONLY})
		if err != nil {
			return err
		}
		return moveOnto(s.masks, at)
	}
	fd, err := cloneTree(s.masks, "", false)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return moveOnto(fd, at)
}

func (s *setup) cloneInside(name string) (int, error) {
	f, err := s.root.OpenFile(name, unix.O_PATH, 0)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	return cloneTree(int(f.Fd()), "", false)
}

func makeReadonly(at *os.File) error {
	fd, err := cloneTree(int(at.Fd()), "", true)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := setAttrs(fd, unix.MOUNT_ATTR_RDONLY, 0, true); err != nil {
		return err
	}
	return moveOnto(fd, at)
}
