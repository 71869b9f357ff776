package executor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/ocibuild/ocibuild/image/rootfs"
	"golang.org/x/sys/unix"
)

// UserInfo is what USER means in a root filesystem.
type UserInfo struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups
	Home     string   // home directory of the passwd entry, as it is there; "/" without an entry
}

// maxID is the highest id that USER may name, as runc has it.
const maxID = 1<<31 - 1

// LookupUser resolves a USER value (name, uid, name:group, uid:gid and their mixtures)
// against the contents of /etc/passwd and /etc/group, either of which may be
// nil. It follows runc: the empty value is uid 0; a number is never taken for a
// name, and one that no entry has stands for itself with gid 0; an unknown name is
// an error; the groups that list the user's name come along unless the value
// names a group. In a pair of two numbers, "root" is one, as BuildKit has it.
func LookupUser(user string, passwd, group []byte) (UserInfo, error) {
	name, groupName, _ := strings.Cut(user, ":")
	if name == "" {
		name = "0"
	}
	if uid, gid := rootID(name), rootID(groupName); isID(uid) && isID(gid) {
		name, groupName = uid, gid
	}
	info := UserInfo{Home: "/"}
	entry, known := findUser(name, passwd)
	if known {
		info.UID, info.GID, info.Home = entry.uid, entry.gid, entry.home
	} else {
		uid, err := parseID(name)
		if err != nil {
			return UserInfo{}, fmt.Errorf("find user %s: %w", name, orMissing(err, "passwd"))
		}
		info.UID = uid
	}
	if groupName == "" {
		if known {
			info.Groups = memberships(entry.name, group)
		}
		return info, nil
	}
	gid, err := findGroup(groupName, group)
	if err != nil {
		return UserInfo{}, err
	}
	info.GID = gid
	return info, nil
}

type passwdEntry struct {
	name, home string
	uid, gid   uint32
}

// findUser returns the first entry with that number, or with that name if user
// is no number.
func findUser(user string, passwd []byte) (passwdEntry, bool) {
	want, err := parseID(user)
	numeric := err == nil
	for f := range records(passwd, 4) {
		uid, err1 := parseID(f[2])
		gid, err2 := parseID(f[3])
		if err1 != nil || err2 != nil {
			continue
		}
		if numeric && uid != want || !numeric && f[0] != user {
			continue
		}
		e := passwdEntry{name: f[0], uid: uid, gid: gid}
		if len(f) > 5 {
			e.home = f[5]
		}
		return e, true
	}
	return passwdEntry{}, false
}

// findGroup returns the number of a group given by name or number.
func findGroup(name string, group []byte) (uint32, error) {
	want, err := parseID(name)
	if err == nil {
		return want, nil
	}
	for f := range records(group, 3) {
		if gid, err := parseID(f[2]); err == nil && f[0] == name {
			return gid, nil
		}
	}
	return 0, fmt.Errorf("find group %s: %w", name, orMissing(err, "group"))
}

// orMissing says why a value that parseID refused names nobody: it is a number
// out of range, or a name that the file does not have.
func orMissing(err error, file string) error {
	if errors.Is(err, strconv.ErrRange) {
		return errors.New("id is out of range")
	}
	return fmt.Errorf("no matching entry in %s file", file)
}

// memberships lists the groups that name a user among their members.
func memberships(user string, group []byte) []uint32 {
	var gids []uint32
	for f := range records(group, 4) {
		if !slices.Contains(strings.Split(f[3], ","), user) {
			continue
		}
		if gid, err := parseID(f[2]); err == nil {
			gids = append(gids, gid)
		}
	}
	return gids
}

// records iterates over the colon-separated lines that have at least n fields.
// Empty lines and comments are passed over.
func records(file []byte, n int) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		lines := bufio.NewScanner(bytes.NewReader(file))
		lines.Buffer(nil, len(file)+1)
		for lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			if line == "" || line[0] == '#' {
				continue
			}
			if f := strings.Split(line, ":"); len(f) >= n && !yield(f) {
				return
			}
		}
	}
}

func isID(s string) bool {
	_, err := parseID(s)
	return err == nil
}

func rootID(s string) string {
	if s == "root" {
		return "0"
	}
	return s
}

func parseID(s string) (uint32, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, err
	}
	if id > maxID {
		return 0, strconv.ErrRange
	}
	return uint32(id), nil
}

// UserError is a USER that cannot be found in the root filesystem.
type UserError struct {
	User string
	Err  error
}

// Error names the user and the reason.
func (e *UserError) Error() string { return fmt.Sprintf("user %s: %v", e.User, e.Err) }

// Unwrap gives the reason.
func (e *UserError) Unwrap() error { return e.Err }

// maxUserFile bounds the passwd and group files that are read from an image.
const maxUserFile = 16 << 20

// resolveUser looks p.User up in the root filesystem.
func (p *Process) resolveUser(root *rootfs.Root) error {
	if p.User == nil {
		return nil
	}
	var files [2][]byte
	for i, name := range []string{"etc/passwd", "etc/group"} {
		data, err := root.ReadFile(name, maxUserFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return &UserError{*p.User, err}
		}
		files[i] = data
	}
	info, err := LookupUser(*p.User, files[0], files[1])
	if err != nil {
		return &UserError{*p.User, err}
	}
	p.UID, p.GID, p.Groups = info.UID, info.GID, info.Groups
	if !slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		p.Env = append(slices.Clone(p.Env), "HOME="+info.Home)
	}
	return nil
}
