package executor

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// idRange maps count ids of a user namespace, from inside on, to those outside.
type idRange struct{ inside, outside, count uint64 }

type idMap []idRange

// readIDMap reads /proc/<pid>/uid_map or gid_map.
func readIDMap(path string) (idMap, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var m idMap
	for line := range bytes.Lines(data) {
		var r idRange
		if _, err := fmt.Sscan(string(line), &r.inside, &r.outside, &r.count); err != nil {
			return nil, fmt.Errorf("parse %s: %w", path, err)
		}
		m = append(m, r)
	}
	return m, nil
}

// whole reports whether every id is mapped to itself, as it is in the first
// user namespace.
func (m idMap) whole() bool {
	return len(m) == 1 && m[0] == idRange{0, 0, 1<<32 - 1}
}

func (m idMap) total() uint64 {
	var n uint64
	for _, r := range m {
		n += r.count
	}
	return n
}

// text gives the map as the kernel takes it.
func (m idMap) text() string {
	var b strings.Builder
	for _, r := range m {
		fmt.Fprintln(&b, r.inside, r.outside, r.count)
	}
	return b.String()
}

// subordinateIDs finds the ranges that /etc/subuid or /etc/subgid gives to a
// user, by name or by number.
func subordinateIDs(file []byte, user, uid string) idMap {
	var m idMap
	next := uint64(1) // 0 is the user's own
	for f := range records(file, 3) {
		if f[0] != user && f[0] != uid || f[0] == "" {
			continue
		}
		start, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil || count == 0 {
			continue
		}
		m = append(m, idRange{next, start, count})
		next += count
	}
	return m
}

// mapperArgs are the arguments of newuidmap and newgidmap: pid, own as 0, the rest.
func mapperArgs(pid, own int, m idMap) []string {
	args := []string{strconv.Itoa(pid), "0", strconv.Itoa(own), "1"}
	for _, r := range m {
		args = append(args, strings.Fields(fmt.Sprint(r.inside, r.outside, r.count))...)
	}
	return args
}
