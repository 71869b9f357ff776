package main

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
)

// applyChange carries out one --change on an image's config.
func applyChange(rc *image.RunConfig, in parser.Instruction) error {
	x := changeWords{rc}
	var err error
	switch in := in.(type) {
	case *parser.Cmd:
		rc.Cmd = commandLine(in.Command)
	case *parser.Entrypoint:
		rc.Entrypoint = commandLine(in.Command)
	case *parser.User:
		rc.User, err = x.word(in.User)
	case *parser.Workdir:
		err = x.workdir(in.Path)
	case *parser.Env:
		err = x.pairs(in.Vars, x.setEnv)
	case *parser.Label:
		err = x.pairs(in.Labels, x.setLabel)
	case *parser.Expose:
		err = x.each(in.Ports, x.expose)
	case *parser.Volume:
		err = x.each(in.Paths, x.addVolume)
	}
	if err != nil {
		return &usageError{msg: fmt.Sprintf("--change %q: %v", in.Text(), err)}
	}
	return nil
}

// commandLine is the argument list of a CMD or ENTRYPOINT.
func commandLine(c parser.Command) []string {
	if c.Shell {
		return append([]string{"/bin/sh", "-c"}, c.Args...)
	}
	return c.Args
}

// changeWords expands the words of changes in the environment of a config.
type changeWords struct{ rc *image.RunConfig }

func (x changeWords) lookup(name string) (string, bool) {
	for _, e := range x.rc.Env {
		if k, v, _ := strings.Cut(e, "="); k == name {
			return v, true
		}
	}
	return "", false
}

func (x changeWords) word(w string) (string, error) {
	return parser.Expander{Escape: '\\'}.Word(w, x.lookup)
}

// each calls set with every word of list, expanded.
func (x changeWords) each(list []string, set func(string) error) error {
	for _, w := range list {
		words, err := parser.Expander{Escape: '\\'}.Words(w, x.lookup)
		if err != nil {
			return err
		}
		for _, word := range words {
			if err := set(word); err != nil {
				return err
			}
		}
	}
	return nil
}

// pairs calls set with every pair. All see the environment from before.
func (x changeWords) pairs(list []parser.KeyValue, set func(k, v string)) error {
	before := changeWords{&image.RunConfig{}}
	before.rc.Env = append(before.rc.Env, x.rc.Env...)
	for _, kv := range list {
		k, err := before.word(kv.Key)
		if err != nil {
			return err
		}
		v, err := before.word(kv.Value)
		if err != nil {
			return err
		}
		set(k, v)
	}
	return nil
}

func (x changeWords) setEnv(k, v string) {
	for i, e := range x.rc.Env {
		if strings.HasPrefix(e, k+"=") {
			x.rc.Env[i] = k + "=" + v
			return
		}
	}
	x.rc.Env = append(x.rc.Env, k+"="+v)
}

func (x changeWords) setLabel(k, v string) {
	if x.rc.Labels == nil {
		x.rc.Labels = map[string]string{}
	}
	x.rc.Labels[k] = v
}

func (x changeWords) addVolume(p string) error {
	if x.rc.Volumes == nil {
		x.rc.Volumes = map[string]struct{}{}
	}
	x.rc.Volumes[p] = struct{}{}
	return nil
}

func (x changeWords) workdir(dir string) error {
	dir, err := x.word(dir)
	if err != nil {
		return err
	}
	if !path.IsAbs(dir) {
		dir = path.Join("/", x.rc.WorkingDir, dir)
	}
	x.rc.WorkingDir = dir
	return nil
}

// expose takes PORT[-LAST][/PROTOCOL].
func (x changeWords) expose(spec string) error {
	ports, proto, _ := strings.Cut(strings.ToLower(spec), "/")
	if proto == "" {
		proto = "tcp"
	}
	first, last, ranged := strings.Cut(ports, "-")
	if !ranged {
		last = first
	}
	low, err1 := strconv.ParseUint(first, 10, 16)
	high, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || high < low || proto != "tcp" && proto != "udp" && proto != "sctp" {
		return fmt.Errorf("%q is no port: write 80, 80-82 or 53/udp", spec)
	}
	if x.rc.ExposedPorts == nil {
		x.rc.ExposedPorts = map[string]struct{}{}
	}
	for p := low; p <= high; p++ {
		x.rc.ExposedPorts[fmt.Sprintf("%d/%s", p, proto)] = struct{}{}
	}
	return nil
}
