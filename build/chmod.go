package build

import (
	"fmt"
	"strconv"
	"strings"
)

// chmod is the value of --chmod: a number, or a symbolic mode such as
// "u=rwX,go=rX". The zero value changes nothing.
type chmod struct {
	text  string
	octal bool
	mode  int64
	ops   []modeOp
}

// modeOp is one change of a mode. Symbolic modes mean what they mean to BSD's
// setmode(3), which BuildKit follows, not what they mean to GNU's chmod(1).
type modeOp struct {
	op byte // + or -, and = for copies
	// from is a class, u, g or o, whose permissions are copied; X for what is
	// executable or a directory alone; or 0.
	from byte
	bits int64 // what is set, cleared or copied to
}

// The bits of who a clause is about. Neither "a" nor nobody at all means the
// sticky bit.
const (
	allBits    = 0o6777
	otherBits  = 0o0007
	stickyBit  = 0o1000
	setidBits  = 0o6000
	permitBits = 0o0777
)

var whoBits = map[byte]int64{'u': 0o4700, 'g': 0o2070, 'o': otherBits, 'a': allBits}

// parseChmod reads octal 0 to 07777 or symbolic modes, as --chmod takes them.
func parseChmod(s string) (chmod, error) {
	c := chmod{text: s}
	if s == "" {
		return c, nil
	}
	if n, err := strconv.ParseUint(s, 8, 32); err == nil && n <= 0o7777 {
		c.octal, c.mode = true, int64(n)
		return c, nil
	}
	if s[0] >= '0' && s[0] <= '9' {
		return c, fmt.Errorf("invalid chmod parameter: '%s'. it should be octal string and between 0 and 07777", s)
	}
	for clause := range strings.SplitSeq(s, ",") {
		ops, err := parseClause(clause)
		if err != nil {
			return c, fmt.Errorf("invalid chmod parameter: '%s': %w", s, err)
		}
		c.ops = append(c.ops, ops...)
	}
	return c, nil
}

// parseClause reads a clause: who, and one or more operators with permissions.
func parseClause(s string) ([]modeOp, error) {
	i := 0
	var who int64
	for ; i < len(s) && whoBits[s[i]] != 0; i++ {
		who |= whoBits[s[i]]
	}
	if i == len(s) {
		return nil, fmt.Errorf("%q has no operator", s)
	}
	var ops []modeOp
	for i < len(s) {
		op := s[i]
		if !strings.ContainsRune("+-=", rune(op)) {
			return nil, fmt.Errorf("%q is not one of + - =", s[i:i+1])
		}
		j := i + 1
		for j < len(s) && strings.ContainsRune("rwxXstugo", rune(s[j])) {
			j++
		}
		g := modeGroup{op: op, who: who}
		ops = append(ops, g.read(s[i+1:j])...)
		i = j
	}
	return ops, nil
}

// modeGroup collects what an operator and its permissions mean.
type modeGroup struct {
	op        byte
	who       int64
	set, setX int64 // permissions that are not in ops yet
	ops       []modeOp
	assigned  bool // an = has done its clearing
}

func (g *modeGroup) read(perms string) []modeOp {
	for _, p := range []byte(perms) {
		switch p {
		case 'r':
			g.set |= 0o444
		case 'w':
			g.set |= 0o222
		case 'x':
			g.set |= 0o111
		case 'X':
			if g.op == '-' {
				g.set |= 0o111
			} else {
				g.setX |= 0o111
			}
		case 's':
			if g.who != otherBits {
				g.set |= setidBits
			}
		case 't':
			if g.who != otherBits {
				g.who |= stickyBit
				g.set |= stickyBit
			}
		default:
			g.copy(p)
		}
	}
	if g.set != 0 || g.op == '=' && !g.assigned {
		g.flush()
	}
	g.flushX()
	return g.ops
}

// copy copies the permissions of the class p; what stands before it is done first.
func (g *modeGroup) copy(p byte) {
	if g.set != 0 {
		g.flush()
	}
	g.flushX()
	to := int64(permitBits)
	if g.who != 0 {
		to = 0
		for _, class := range []int64{0o700, 0o070, 0o007} {
			if g.who&class != 0 {
				to |= class
			}
		}
	}
	g.ops = append(g.ops, modeOp{op: g.op, from: p, bits: to})
	g.assigned = true
}

// within cuts permissions to those of who.
func (g *modeGroup) within(bits int64) int64 {
	if g.who != 0 {
		bits &= g.who
	}
	return bits
}

func (g *modeGroup) flush() {
	op := g.op
	if op == '=' {
		clear := g.who
		if clear == 0 {
			clear = allBits
		}
		g.ops = append(g.ops, modeOp{op: '-', bits: clear})
		op, g.assigned = '+', true
	}
	g.ops = append(g.ops, modeOp{op: op, bits: g.within(g.set)})
	g.set = 0
}

func (g *modeGroup) flushX() {
	if g.setX != 0 {
		g.ops = append(g.ops, modeOp{op: '+', from: 'X', bits: g.within(g.setX)})
		g.setX = 0
	}
}

// parents is the mode of the directories that a transfer has to make: a
// number applies to them too, a symbolic mode does not.
func (c chmod) parents() int64 {
	if c.octal {
		return c.mode & permitBits
	}
	return 0o755
}

// apply gives the mode of a file or directory.
func (c chmod) apply(mode int64, dir bool) int64 {
	if c.octal {
		return c.mode
	}
	executable := dir || mode&0o111 != 0
	for _, op := range c.ops {
		mode = op.apply(mode, executable)
	}
	return mode
}

func (o modeOp) apply(mode int64, executable bool) int64 {
	bits := o.bits
	switch o.from {
	case 0:
	case 'X':
		if !executable {
			return mode
		}
	default:
		shift := map[byte]int{'u': 6, 'g': 3, 'o': 0}[o.from]
		bits &= mode >> shift & 7 * 0o111
	}
	switch o.op {
	case '+':
		return mode | bits
	case '-':
		return mode &^ bits
	}
	return mode&^o.bits | bits
}
