package build

import (
	"strconv"
	"strings"
)

// ownerOf resolves the value of --chown, or a USER that WORKDIR's directories
// belong to, as BuildKit does: a number stands for itself and its group, a
// name is looked up, and a name that nobody has is 0. unknown lists such names.
func ownerOf(value string, passwd, group []byte) (o owner, unknown []string) {
	user, grp, hasGroup := strings.Cut(value, ":")
	if id, ok := numericID(user); ok {
		o = owner{id, id}
	} else if f := findLine(passwd, user, 4); f != nil {
		o = owner{idOf(f[2]), idOf(f[3])}
	} else {
		unknown = append(unknown, "user "+user)
	}
	if !hasGroup || grp == "" {
		return o, unknown
	}
	if id, ok := numericID(grp); ok {
		o.gid = id
	} else if f := findLine(group, grp, 3); f != nil {
		o.gid = idOf(f[2])
	} else {
		unknown = append(unknown, "group "+grp)
	}
	return o, unknown
}

// numericID reads an id; "root" is 0 even in an image without a passwd file.
func numericID(s string) (int, bool) {
	if s == "root" {
		return 0, true
	}
	id, err := strconv.ParseInt(s, 10, 32)
	return int(id), err == nil && id >= 0
}

func idOf(s string) int {
	id, _ := strconv.Atoi(s)
	return id
}

// findLine finds the line of a passwd or group file by its name.
func findLine(file []byte, name string, fields int) []string {
	for line := range strings.Lines(string(file)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) >= fields && f[0] == name {
			return f
		}
	}
	return nil
}

// chownByName reports whether resolving the value needs the image's files.
func chownByName(value string) bool {
	user, group, _ := strings.Cut(value, ":")
	_, u := numericID(user)
	_, g := numericID(group)
	return value != "" && (!u || group != "" && !g)
}
