package build

import (
	"bytes"
	"context"
	"math"
	"strconv"
	"strings"
)

// ownership is the value of --chown, or the USER that WORKDIR's directories
// belong to.
type ownership struct {
	user  account
	group *account // nil: that of the user
}

// account is a user or a group: a number, or a name that the image's files explain.
type account struct {
	name string
	id   int
}

// parseOwnership reads USER[:GROUP] as BuildKit does: "root" and nothing at
// all are 0 in any image.
func parseOwnership(value string) ownership {
	user, group, _ := strings.Cut(value, ":")
	o := ownership{user: parseAccount(user)}
	if group != "" {
		a := parseAccount(group)
		o.group = &a
	}
	return o
}

func parseAccount(s string) account {
	if s == "" || s == "root" {
		return account{}
	}
	id, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return account{name: s}
	}
	return account{id: chowned(id)}
}

// chowned is what chown(2) makes of an id on a new file: -1 leaves it root's.
func chowned(id int64) int {
	if uint32(id) == math.MaxUint32 {
		return 0
	}
	return int(uint32(id))
}

// byName reports whether the image's files are needed.
func (o ownership) byName() bool {
	return o.user.name != "" || o.group != nil && o.group.name != ""
}

// resolve looks the names up in a tree. A user that nobody is is 0, such a
// group that of the user; unknown lists both.
func (o ownership) resolve(ctx context.Context, t *layerTree) (own owner, unknown []string, err error) {
	own = owner{o.user.id, o.user.id}
	if name := o.user.name; name != "" {
		passwd, err := t.readFile(ctx, "etc/passwd", maxUserFile)
		if err != nil {
			return own, nil, err
		}
		if f := findLine(passwd, name); f != nil {
			own = owner{idAt(f, 2), idAt(f, 3)}
		} else {
			unknown = append(unknown, "user "+name)
		}
	}
	if o.group == nil {
		return own, unknown, nil
	}
	if o.group.name == "" {
		own.gid = o.group.id
		return own, unknown, nil
	}
	group, err := t.readFile(ctx, "etc/group", maxUserFile)
	if err != nil {
		return own, nil, err
	}
	if f := findLine(group, o.group.name); f != nil {
		own.gid = idAt(f, 2)
	} else {
		unknown = append(unknown, "group "+o.group.name)
	}
	return own, unknown, nil
}

// idAt reads the id in a field of a line; what is no number is 0.
func idAt(fields []string, i int) int {
	if i >= len(fields) {
		return 0
	}
	id, _ := strconv.ParseInt(fields[i], 10, 64)
	return chowned(id)
}

// findLine finds the first line of a passwd or group file by its name.
func findLine(file []byte, name string) []string {
	for line := range bytes.Lines(file) {
		f := strings.Split(string(bytes.TrimSpace(line)), ":")
		if f[0] == name {
			return f
		}
	}
	return nil
}
