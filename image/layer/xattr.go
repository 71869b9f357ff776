package layer

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Attributes with a meaning to the kernel.
const (
	capability = "security.capability"
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// Where all files have to belong to one user, attributes say what they are in the image.
const (
	userNotes = "user.ocibuild."
	// ownerNote has "uid:gid".
	ownerNote = userNotes + "owner"
	// deviceNote has "c:major:minor" or "b:major:minor", and is on an empty file.
	deviceNote = userNotes + "device"
	// linksNote has "uid:gid", and is on a directory: of the symbolic links in it, on which there
	// can be none.
	linksNote = userNotes + "links"
)

// noteOwner puts the owner that an attribute names into a file's numbers.
func noteOwner(st *unix.Stat_t, value string) {
	var uid, gid uint32
	if _, err := fmt.Sscanf(value, "%d:%d", &uid, &gid); err == nil {
		st.Uid, st.Gid = uid, gid
	}
}

// noteDevice makes a file's numbers those of the device that an attribute names.
func noteDevice(st *unix.Stat_t, value string) {
	var kind byte
	var major, minor uint32
	if _, err := fmt.Sscanf(value, "%c:%d:%d", &kind, &major, &minor); err != nil || major == 0 && minor == 0 {
		return
	}
	mode := uint32(unix.S_IFCHR)
	if kind == 'b' {
		mode = unix.S_IFBLK
	}
	st.Mode, st.Rdev, st.Size = st.Mode&^unix.S_IFMT|mode, unix.Mkdev(major, minor), 0
}

// BuiltXattr reports whether BuildKit writes an extended attribute into the layers
// that it builds: those of file capabilities alone. What is in the layers below
// stays as it is.
func BuiltXattr(name string) bool { return name == capability }

// KeepXattr reports whether an extended attribute belongs in an image: file
// capabilities, POSIX access lists and user attributes do. What the host's own
// machinery keeps in attributes (security labels, overlayfs, trusted.*) does not.
func KeepXattr(name string) bool {
	switch name {
	case capability, accessACL, defaultACL:
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") && !strings.HasPrefix(name, userNotes)
}

// xattrSource is where attributes are read from: a descriptor, or a path for what
// cannot be opened.
type xattrSource struct {
	list func(buf []byte) (int, error)
	get  func(name string, buf []byte) (int, error)
}

func fdXattrs(fd int) xattrSource {
	return xattrSource{
		list: func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) },
		get:  func(name string, buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) },
	}
}

// pathXattrs reads the attributes of name in the directory dir without following it.
func pathXattrs(dir int, name string) xattrSource {
	path := procPath(dir, name)
	return xattrSource{
		list: func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) },
		get:  func(attr string, buf []byte) (int, error) { return unix.Lgetxattr(path, attr, buf) },
	}
}

// procPath is a path to name in the directory dir, for system calls that take no
// directory descriptor.
func procPath(dir int, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)
}

// names returns the names of all attributes.
func (s xattrSource) names() ([]string, error) {
	var small [512]byte
	buf := small[:]
	n, err := s.list(buf)
	for err == unix.ERANGE {
		if n, err = s.list(nil); err != nil {
			break
		}
		buf = make([]byte, n+256)
		n, err = s.list(buf)
	}
	if err == unix.ENOTSUP {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	if n == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00"), nil
}

// value returns one attribute.
func (s xattrSource) value(name string) (string, error) {
	var small [256]byte
	buf := small[:]
	n, err := s.get(name, buf)
	for err == unix.ERANGE {
		if n, err = s.get(name, nil); err != nil {
			break
		}
		buf = make([]byte, n+256)
		n, err = s.get(name, buf)
	}
	if err != nil {
		return "", fmt.Errorf("read attribute %s: %w", name, err)
	}
	return string(buf[:n]), nil
}

func keepNamed(s xattrSource, names []string) (map[string]string, error) {
	var kept map[string]string
	for _, name := range names {
		if !KeepXattr(name) {
			continue
		}
		value, err := s.value(name)
		if err != nil {
			return nil, err
		}
		if kept == nil {
			kept = make(map[string]string)
		}
		kept[name] = value
	}
	return kept, nil
}
