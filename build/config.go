package build

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
	"golang.org/x/sys/unix"
)

// scoped is what the expansion of an instruction needs: the Dockerfile's
// escape character, global and given arguments, and the State before it.
type scoped struct {
	x       parser.Expander
	globals scope
	given   map[string]string
	state   *State
	// missed hears of the variables that a word names and env has not; it may be nil.
	missed func(env scope, names []string)
}

func (c scoped) word(w string) (string, error) { return c.wordIn(c.state.Env, w) }

func (c scoped) wordIn(env scope, w string) (string, error) {
	return c.noting(env, func(l parser.Lookup) (string, error) { return c.x.Word(w, l) })
}

// noting expands with the variables of env, and tells missed of the others.
func (c scoped) noting(env scope, expand func(parser.Lookup) (string, error)) (string, error) {
	var n noted
	out, err := expand(n.lookup(env))
	if c.missed != nil && len(n.missed) > 0 {
		c.missed(env, n.missed)
	}
	return out, err
}

func (c scoped) words(list []string) ([]string, error) {
	out := make([]string, len(list))
	for i, w := range list {
		var err error
		if out[i], err = c.word(w); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c scoped) pairs(list []parser.KeyValue) ([]parser.KeyValue, error) {
	out := make([]parser.KeyValue, len(list))
	for i, kv := range list {
		key, err := c.word(kv.Key)
		if err != nil {
			return nil, err
		}
		value, err := c.word(kv.Value)
		if err != nil {
			return nil, err
		}
		out[i] = parser.KeyValue{Key: key, Value: value}
	}
	return out, nil
}

// applyConfig gives the State after an instruction that changes the config
// alone. It is pure. The texts of history entries are BuildKit's.
func applyConfig(c scoped, in parser.Instruction) (*State, error) {
	switch in := in.(type) {
	case *parser.Env:
		return c.env(in)
	case *parser.Arg:
		return c.arg(in)
	case *parser.Label:
		return c.label(in)
	case *parser.Cmd:
		return c.cmd(in), nil
	case *parser.Entrypoint:
		return c.entrypoint(in), nil
	case *parser.Healthcheck:
		return c.healthcheck(in), nil
	case *parser.Expose:
		return c.expose(in)
	case *parser.Volume:
		return c.volume(in)
	case *parser.User:
		return c.user(in)
	case *parser.StopSignal:
		return c.stopSignal(in)
	case *parser.Shell:
		n := c.state.addHistory(fmt.Sprintf("SHELL %v", in.Args))
		n.Config.Config.Shell = slices.Clone(in.Args)
		return n, nil
	case *parser.Maintainer:
		n := c.state.addHistory("MAINTAINER " + in.Name)
		n.Config.Author = in.Name
		return n, nil
	case *parser.OnBuild:
		n := c.state.clone() // BuildKit writes no history for a trigger
		n.Config.Config.OnBuild = append(n.Config.Config.OnBuild, in.Trigger)
		return n, nil
	}
	panic(fmt.Sprintf("internal error: %s does not only change the config", in.Keyword()))
}

// env sets variables; all words see the environment from before the line.
func (c scoped) env(in *parser.Env) (*State, error) {
	vars, err := c.pairs(in.Vars)
	if err != nil {
		return nil, err
	}
	text := "ENV"
	n := c.state.clone()
	for _, v := range vars {
		text += " " + v.Key + "=" + v.Value
		n.Config.Config.Env = setEnv(n.Config.Config.Env, v.Key, v.Value)
		n.Env = n.Env.with(v.Key, v.Value)
	}
	return n.addHistory(text), nil
}

// arg declares build arguments. One without a default takes the global of
// its name; --build-arg wins over both.
func (c scoped) arg(in *parser.Arg) (*State, error) {
	n := c.state.clone()
	var texts []string
	for _, def := range in.Defs {
		value := def.Default
		if v, ok := c.given[def.Name]; ok {
			value = &v
		} else if def.Default != nil {
			v, err := c.wordIn(n.Env, *def.Default)
			if err != nil {
				return nil, err
			}
			value = &v
		} else if v, ok := c.globals.lookup(def.Name); ok {
			value = &v
		}
		text := def.Name
		if value != nil {
			n.Env = n.Env.with(def.Name, *value)
			text += "=" + *value
		}
		n.Args = append(n.Args, argValue{Name: def.Name, Value: value})
		texts = append(texts, text)
	}
	return n.addHistory("ARG " + strings.Join(texts, " ")), nil
}

func (c scoped) label(in *parser.Label) (*State, error) {
	labels, err := c.pairs(in.Labels)
	if err != nil {
		return nil, err
	}
	text := "LABEL"
	n := c.state.clone()
	if n.Config.Config.Labels == nil {
		n.Config.Config.Labels = map[string]string{}
	}
	for _, l := range labels {
		text += " " + l.Key + "=" + l.Value
		n.Config.Config.Labels[l.Key] = l.Value
	}
	return n.addHistory(text), nil
}

// command is the argument list of a CMD, ENTRYPOINT or RUN: shell form goes
// through the image's SHELL.
func (s *State) command(shell bool, args []string) []string {
	if !shell {
		return slices.Clone(args)
	}
	prefix := s.Config.Config.Shell
	switch {
	case len(prefix) > 0:
	case s.Config.OS == windows:
		prefix = []string{"cmd", "/S", "/C"}
	default:
		prefix = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(prefix), strings.Join(args, " "))
}

func (c scoped) cmd(in *parser.Cmd) *State {
	args := c.state.command(in.Shell, in.Args)
	n := c.state.addHistory(fmt.Sprintf("CMD %q", args))
	n.Config.Config.Cmd = args
	//lint:ignore SA1019 deprecated, and BuildKit still writes it
	n.Config.Config.ArgsEscaped = true //nolint:staticcheck // the same
	n.cmdSet = true
	return n
}

// entrypoint clears a CMD that was inherited, not one of this stage.
func (c scoped) entrypoint(in *parser.Entrypoint) *State {
	args := c.state.command(in.Shell, in.Args)
	n := c.state.addHistory(fmt.Sprintf("ENTRYPOINT %q", args))
	n.Config.Config.Entrypoint = args
	if !c.state.cmdSet {
		n.Config.Config.Cmd = nil
	}
	return n
}

func (c scoped) healthcheck(in *parser.Healthcheck) *State {
	h := image.HealthConfig{
		Interval: in.Interval, Timeout: in.Timeout, StartPeriod: in.StartPeriod,
		StartInterval: in.StartInterval, Retries: in.Retries,
	}
	switch {
	case in.None:
		h.Test = []string{"NONE"}
	case in.Shell:
		h.Test = append([]string{"CMD-SHELL"}, in.Args...)
	default:
		h.Test = append([]string{"CMD"}, in.Args...)
	}
	n := c.state.addHistory(fmt.Sprintf("HEALTHCHECK %+v", h))
	n.Config.Config.Healthcheck = &h
	return n
}

func (c scoped) volume(in *parser.Volume) (*State, error) {
	paths, err := c.words(in.Paths)
	if err != nil {
		return nil, err
	}
	volumes := maps.Clone(c.state.Config.Config.Volumes)
	if volumes == nil {
		volumes = map[string]struct{}{}
	}
	for _, p := range paths {
		if p == "" {
			return nil, errors.New("VOLUME specified can not be an empty string")
		}
		volumes[p] = struct{}{}
	}
	n := c.state.addHistory(fmt.Sprintf("VOLUME %v", paths))
	n.Config.Config.Volumes = volumes
	return n, nil
}

func (c scoped) user(in *parser.User) (*State, error) {
	user, err := c.word(in.User)
	if err != nil {
		return nil, err
	}
	n := c.state.addHistory("USER " + user)
	n.Config.Config.User = user
	return n, nil
}

func (c scoped) stopSignal(in *parser.StopSignal) (*State, error) {
	sig, err := c.word(in.Signal)
	if err != nil {
		return nil, err
	}
	if !validSignal(sig) {
		return nil, &Hinted{fmt.Errorf("invalid signal: %s", sig), signalHint(sig)}
	}
	n := c.state.addHistory("STOPSIGNAL " + sig)
	n.Config.Config.StopSignal = sig
	return n, nil
}

// validSignal takes any number but 0, and a name, with or without SIG and in
// any case. The real-time ones are RTMIN, RTMIN+1 to +15, RTMAX-14 to -1, RTMAX.
func validSignal(s string) bool {
	if n, err := strconv.Atoi(s); err == nil {
		return n != 0
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	for base, most := range map[string]int{"RTMIN+": 15, "RTMAX-": 14} {
		if n, ok := strings.CutPrefix(name, base); ok {
			i, err := strconv.Atoi(n)
			return err == nil && 0 < i && i <= most && strconv.Itoa(i) == n
		}
	}
	return slices.Contains([]string{"RTMIN", "RTMAX", "CLD", "IOT", "POLL"}, name) || unix.SignalNum("SIG"+name) != 0
}

func (c scoped) expose(in *parser.Expose) (*State, error) {
	specs, err := c.ports(in)
	if err != nil {
		return nil, err
	}
	ports := maps.Clone(c.state.Config.Config.ExposedPorts)
	if ports == nil {
		ports = map[string]struct{}{}
	}
	var list []string
	for _, spec := range specs {
		some, err := exposedPorts(spec)
		if err != nil {
			return nil, &Hinted{fmt.Errorf("invalid port %q: %w", spec, err), portHint(spec)}
		}
		list = append(list, some...)
	}
	for _, p := range list {
		ports[p] = struct{}{}
	}
	n := c.state.addHistory(fmt.Sprintf("EXPOSE %v", list))
	n.Config.Config.ExposedPorts = ports
	return n, nil
}

// ports are the words of an EXPOSE; one that is written may expand to several.
func (c scoped) ports(in *parser.Expose) ([]string, error) {
	var specs []string
	for _, p := range in.Ports {
		words, err := c.x.Words(p, c.state.Env.lookup)
		if err != nil {
			return nil, err
		}
		specs = append(specs, words...)
	}
	return specs, nil
}

// workdir joins a WORKDIR to the one before it.
func workdir(current, dir string) string {
	switch {
	case dir == "":
		dir = current
	case !path.IsAbs(dir):
		dir = path.Join("/", current, dir)
	}
	if dir == "" {
		return "/"
	}
	return dir
}

// windows is the system that has other paths and another shell. Its images can
// be made as long as no step runs.
const windows = "windows"

// slashed gives a path of an image's config with slashes and without a drive.
func slashed(dir, system string) string {
	if system != windows {
		return dir
	}
	if len(dir) > 1 && dir[1] == ':' {
		dir = dir[2:]
	}
	return strings.ReplaceAll(dir, `\`, "/")
}
