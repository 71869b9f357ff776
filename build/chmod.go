package build

import (
	"fmt"
	"strconv"
	"strings"
)

// chmod is the value of --chmod: a number, or a symbolic mode such as
// "u=rwX,go=rX". The zero value changes nothing.
type chmod struct {
	text    string
	octal   bool
	mode    int64
	clauses []modeClause
}

// modeClause is one part of a symbolic mode: who, and what to do with which bits.
type modeClause struct {
	who  int64 // the permission bits of u, g and o that are concerned
	ops  []modeOp
	bare bool // no who given: everyone
}

type modeOp struct {
	op    byte // + - =
	perms string
}

// parseChmod reads octal 0 to 07777 or symbolic modes, as --chmod takes them.
func parseChmod(s string) (chmod, error) {
	c := chmod{text: s}
	if s == "" {
		return c, nil
	}
	if n, err := strconv.ParseUint(s, 8, 32); err == nil {
		if n > 0o7777 {
			return c, badMode(s)
		}
		c.octal, c.mode = true, int64(n)
		return c, nil
	}
	if strings.Trim(s, "0123456789") == "" {
		return c, badMode(s)
	}
	for part := range strings.SplitSeq(s, ",") {
		clause, err := parseClause(part)
		if err != nil {
			return c, fmt.Errorf("invalid chmod parameter: '%s': %w", s, err)
		}
		c.clauses = append(c.clauses, clause)
	}
	return c, nil
}

func badMode(s string) error {
	return fmt.Errorf("invalid chmod parameter: '%s'. it should be octal string and between 0 and 07777", s)
}

var whoBits = map[byte]int64{'u': 0o4700, 'g': 0o2070, 'o': 0o1007, 'a': 0o7777}

func parseClause(s string) (modeClause, error) {
	var c modeClause
	i := 0
	for ; i < len(s) && whoBits[s[i]] != 0; i++ {
		c.who |= whoBits[s[i]]
	}
	if c.who == 0 {
		c.who, c.bare = 0o7777, true
	}
	for i < len(s) {
		op := s[i]
		if !strings.ContainsRune("+-=", rune(op)) {
			return c, fmt.Errorf("%q is not one of + - =", string(op))
		}
		j := i + 1
		for j < len(s) && strings.ContainsRune("rwxXstugo", rune(s[j])) {
			j++
		}
		c.ops = append(c.ops, modeOp{op: op, perms: s[i+1 : j]})
		i = j
	}
	if len(c.ops) == 0 {
		return c, fmt.Errorf("%q has no operator", s)
	}
	return c, nil
}

// parents is the mode of the directories that a transfer has to make: a
// number applies to them too, a symbolic mode does not.
func (c chmod) parents() int64 {
	if c.octal {
		return c.mode & 0o777
	}
	return 0o755
}

// apply gives the mode of a file or directory.
func (c chmod) apply(mode int64, dir bool) int64 {
	if c.octal {
		return c.mode
	}
	for _, clause := range c.clauses {
		for _, op := range clause.ops {
			mode = op.apply(mode, clause, dir)
		}
	}
	return mode
}

func (o modeOp) apply(mode int64, c modeClause, dir bool) int64 {
	var bits int64
	for _, p := range o.perms {
		bits |= permBits(byte(p), mode, dir)
	}
	bits &= c.who
	switch o.op {
	case '+':
		return mode | bits
	case '-':
		return mode &^ bits
	}
	clear := c.who & 0o777
	if !dir { // chmod(1) keeps the special bits of directories under =
		clear = c.who
	}
	return mode&^clear | bits
}

// permBits spreads one permission letter over user, group and others.
func permBits(p byte, mode int64, dir bool) int64 {
	triple := func(b int64) int64 { return b<<6 | b<<3 | b }
	switch p {
	case 'r':
		return 0o444
	case 'w':
		return 0o222
	case 'x':
		return 0o111
	case 'X':
		if dir || mode&0o111 != 0 {
			return 0o111
		}
	case 's':
		return 0o6000
	case 't':
		return 0o1000
	case 'u':
		return triple(mode >> 6 & 7)
	case 'g':
		return triple(mode >> 3 & 7)
	case 'o':
		return triple(mode & 7)
	}
	return 0
}
