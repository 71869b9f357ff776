package executor

import (
	"encoding/binary"
	"errors"
	"io"
)

// The plan goes to the init process, and the report comes back, as a length
// in four bytes and then the fields in the order of their struct: numbers as
// varints, strings and lists with their length before them. Both ends are the same
// binary, so there is no version. Reading it needs no reflection, which would
// double the time that the init process takes to start.

// maxMessage bounds what is read before it is decoded. A command line and an
// environment come to 6 MiB at the most (a quarter of the stack limit, or ARG_MAX).
const maxMessage = 16 << 20

var errMalformed = errors.New("malformed message")

// coder writes fields to b, or, when decoding, reads them from it. One list of
// the fields thus serves both directions.
type coder struct {
	b        []byte
	decoding bool
	err      error
}

func (c *coder) number(v *uint64) {
	if !c.decoding {
		c.b = binary.AppendUvarint(c.b, *v)
		return
	}
	x, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return
	}
	*v, c.b = x, c.b[n:]
}

func (c *coder) fail() {
	c.err, c.b = errMalformed, nil
}

func (c *coder) flag(v *bool) {
	var x uint64
	if *v {
		x = 1
	}
	c.number(&x)
	*v = x != 0
}

func (c *coder) text(s *string) {
	n := uint64(len(*s))
	c.number(&n)
	if !c.decoding {
		c.b = append(c.b, *s...)
		return
	}
	if n > uint64(len(c.b)) {
		c.fail()
		return
	}
	*s, c.b = string(c.b[:n]), c.b[n:]
}

// list codes each element with one; every element takes at least a byte.
func list[T any](c *coder, v *[]T, one func(*T)) {
	n := uint64(len(*v))
	c.number(&n)
	if c.decoding {
		if n > uint64(len(c.b)) {
			c.fail()
			return
		}
		*v = make([]T, n)
	}
	for i := range *v {
		one(&(*v)[i])
	}
}

func (p *plan) code(c *coder) {
	c.number(&p.Flags)
	c.text(&p.Scratch)
	c.text(&p.Hostname)
	list(c, &p.Mounts, func(m *planMount) {
		c.text(&m.Type)
		c.text(&m.Source)
		c.text(&m.Target)
		list(c, &m.Data, c.text)
		c.number(&m.Set)
		c.number(&m.Clear)
		c.flag(&m.Recursive)
		c.flag(&m.RecursiveAttr)
		c.number(&m.Tree)
		c.flag(&m.File)
		c.flag(&m.Inline)
		c.text(&m.Content)
		c.number(&m.Mode)
		c.number(&m.UID)
		c.number(&m.GID)
	})
	list(c, &p.Devices, func(d *planDevice) {
		c.text(&d.Path)
		c.number(&d.Mode)
		c.number(&d.Dev)
		c.number(&d.UID)
		c.number(&d.GID)
	})
	c.flag(&p.NoDevices)
	list(c, &p.Masked, c.text)
	list(c, &p.Readonly, c.text)
	c.flag(&p.ReadonlyRoot)
	c.text(&p.Cwd)
	c.number(&p.Umask)
	c.number(&p.UID)
	c.number(&p.GID)
	list(c, &p.Groups, c.number)
	c.flag(&p.KeepGroups)
	c.flag(&p.OneID)
	c.number(&p.Bounding)
	c.number(&p.Permitted)
	c.number(&p.Effective)
	c.number(&p.Inheritable)
	c.number(&p.Ambient)
	list(c, &p.Limits, func(l *planLimit) {
		c.number(&l.Resource)
		c.number(&l.Soft)
		c.number(&l.Hard)
	})
	c.flag(&p.Chroot)
	c.text(&p.Notify)
	c.text(&p.Guard)
	c.flag(&p.NoNewPrivs)
	c.text(&p.Filter)
	list(c, &p.CPUs, c.number)
	c.number(&p.Terminal)
	c.number(&p.Streams)
	list(c, &p.Runtime, c.text)
	c.text(&p.Config)
	list(c, &p.Args, c.text)
	list(c, &p.Environ, c.text)
}

// report is what the init process says at its end.
type report struct {
	Kind uint64
	Code uint64 // exit code or signal number
	Text string // why it went wrong
	// Start is why the command could not be started.
	Start StartError
}

// Kinds of report.
const (
	reportExit       = iota + 1 // the command exited with Code
	reportSignal                // the signal Code ended the command
	reportNotStarted            // the command could not be started, for the reasons of Start
	reportSetup                 // the container could not be set up
)

func (r *report) code(c *coder) {
	c.number(&r.Kind)
	c.number(&r.Code)
	c.text(&r.Text)
	c.text(&r.Start.Command)
	c.number((*uint64)(&r.Start.Reason))
	for _, s := range []*string{&r.Start.Program, &r.Start.Interpreter, &r.Start.Arch, &r.Start.Text} {
		c.text(s)
	}
}

type coded interface{ code(*coder) }

// marshal gives a message with its length before it.
func marshal(v coded) []byte {
	c := coder{b: make([]byte, 4, 4096)}
	v.code(&c)
	binary.LittleEndian.PutUint32(c.b, uint32(len(c.b)-4))
	return c.b
}

// readMessage reads one message into v.
func readMessage(r io.Reader, v coded) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > maxMessage {
		return errMalformed
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	return unmarshal(body, v)
}

func unmarshal(body []byte, v coded) error {
	c := coder{b: body, decoding: true}
	v.code(&c)
	if c.err == nil && len(c.b) > 0 {
		c.fail()
	}
	return c.err
}
