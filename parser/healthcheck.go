package parser

import (
	"strconv"
	"strings"
	"time"
)

// Healthcheck says how to ask a container whether it is well.
type Healthcheck struct {
	Node
	None bool // HEALTHCHECK NONE: the rest is empty
	Command
	Interval, Timeout, StartPeriod, StartInterval time.Duration // zero: the default
	Retries                                       int           // zero: the default
}

func convertHealthcheck(s *statement) (Instruction, error) {
	const hint = "write HEALTHCHECK [flags] CMD <command>, or HEALTHCHECK NONE"
	if len(s.args) == 0 {
		return nil, refuse(hint, "HEALTHCHECK requires at least one argument")
	}
	h := &Healthcheck{Node: s.Node}
	kind, args := strings.ToUpper(s.args[0]), s.args[1:]
	if kind != "NONE" { // which takes any flags, as with BuildKit
		if err := parseFlags(s.flags, h.flags()...); err != nil {
			return nil, err
		}
	}
	switch kind {
	case "NONE":
		if len(args) > 0 {
			return nil, refuse(hint, "HEALTHCHECK NONE takes no arguments")
		}
		return &Healthcheck{Node: s.Node, None: true}, nil
	case "CMD":
		if len(args) == 0 {
			return nil, refuse(hint, "missing command after HEALTHCHECK CMD")
		}
		h.Command = s.command(args)
		return h, nil
	default:
		return nil, refuse(didYouMean(kind, []string{"CMD", "NONE"}), "unknown type %q in HEALTHCHECK", kind)
	}
}

func (h *Healthcheck) flags() []flag {
	return []flag{
		durationFlag("interval", &h.Interval),
		durationFlag("timeout", &h.Timeout),
		durationFlag("start-period", &h.StartPeriod),
		durationFlag("start-interval", &h.StartInterval),
		{name: "retries", set: h.setRetries},
	}
}

// durationFlag takes a duration of a millisecond or more, or 0 for the
// default.
func durationFlag(name string, p *time.Duration) flag {
	return flag{name: name, set: func(value string) error {
		if value == "" {
			return nil
		}
		d, err := time.ParseDuration(value)
		switch {
		case err != nil:
			return refuse("as in 30s, 1m30s or 500ms", "--%s: %v", name, err)
		case d != 0 && d < time.Millisecond:
			return refuse("0 takes the default", "interval %q cannot be less than %s", name, time.Millisecond)
		}
		*p = d
		return nil
	}}
}

func (h *Healthcheck) setRetries(value string) error {
	if value == "" {
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 32)
	switch {
	case err != nil:
		return refuse("write --retries=3", "--retries: %q is not a number", value)
	case n < 0:
		return refuse("0 takes the default", "--retries cannot be negative (%d)", n)
	}
	h.Retries = int(n)
	return nil
}
