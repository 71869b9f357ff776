package parser

import (
	"maps"
	"slices"
	"strings"
)

// converters turn a statement into its instruction; ONBUILD, which holds
// another statement, stands apart.
var converters = map[string]func(*statement) (Instruction, error){
	"ADD":         convertAdd,
	"ARG":         convertArg,
	"CMD":         convertCmd,
	"COPY":        convertCopy,
	"ENTRYPOINT":  convertEntrypoint,
	"ENV":         convertEnv,
	"EXPOSE":      convertExpose,
	"FROM":        convertFrom,
	"HEALTHCHECK": convertHealthcheck,
	"LABEL":       convertLabel,
	"MAINTAINER":  convertMaintainer,
	"RUN":         convertRun,
	"SHELL":       convertShell,
	"STOPSIGNAL":  convertStopSignal,
	"USER":        convertUser,
	"VOLUME":      convertVolume,
	"WORKDIR":     convertWorkdir,
}

const onBuild = "ONBUILD"

func convert(s *statement) (Instruction, error) {
	if s.keyword == onBuild {
		return convertOnBuild(s)
	}
	f, ok := converters[s.keyword]
	if !ok {
		return nil, unknownInstruction(s.word)
	}
	return f(s)
}

// unknownInstruction names the nearest keyword in the case of the mistake. A
// word like none of them is mostly the rest of a line that lost its escape.
func unknownInstruction(word string) error {
	keywords := append(slices.Sorted(maps.Keys(converters)), onBuild)
	near := Nearest(strings.ToUpper(word), keywords)
	if near == "" {
		return refuse(`if it belongs to the line before, that line must end in \`, "unknown instruction: %s", word)
	}
	if word == strings.ToLower(word) {
		near = strings.ToLower(near)
	}
	return refuse("did you mean "+near+"?", "unknown instruction: %s", word)
}

func convertArg(s *statement) (Instruction, error) {
	const hint = "write ARG <name>[=<default>]"
	if err := s.some(hint); err != nil {
		return nil, err
	}
	a := &Arg{Node: s.Node}
	for _, arg := range s.args {
		name, value, valued := strings.Cut(arg, "=")
		if valued && name == "" {
			return nil, refuse(hint, "ARG names can not be blank")
		}
		def := ArgDef{Name: name}
		if valued {
			def.Default = &value
		}
		a.Defs = append(a.Defs, def)
	}
	return a, nil
}

func convertEnv(s *statement) (Instruction, error) {
	vars, err := s.pairs()
	return &Env{Node: s.Node, Vars: vars, Legacy: s.legacyPair()}, err
}

func convertLabel(s *statement) (Instruction, error) {
	labels, err := s.pairs()
	return &Label{Node: s.Node, Labels: labels, Legacy: s.legacyPair()}, err
}

// legacyPair tells whether the only name and its value have no "=" between them.
func (s *statement) legacyPair() bool { return len(s.args) == 3 && s.args[2] == "" }

// pairs reads the names and values of ENV and LABEL. They come in threes: name,
// value and the character between them, "=" or, in the old form, none.
func (s *statement) pairs() ([]KeyValue, error) {
	hint := "write " + s.keyword + " <name>=<value>"
	if err := s.some(hint); err != nil {
		return nil, err
	}
	var out []KeyValue
	for i := 0; i+1 < len(s.args); i += 3 {
		if s.args[i] == "" {
			return nil, refuse(hint, "%s names can not be blank", s.keyword)
		}
		out = append(out, KeyValue{Key: s.args[i], Value: s.args[i+1]})
	}
	return out, nil
}

func convertExpose(s *statement) (Instruction, error) {
	err := s.some("write EXPOSE <port>[/<protocol>]")
	slices.Sort(s.args)
	return &Expose{Node: s.Node, Ports: s.args}, err
}

func convertMaintainer(s *statement) (Instruction, error) {
	name, err := s.one("write LABEL org.opencontainers.image.authors=<name>")
	return &Maintainer{Node: s.Node, Name: name}, err
}

func convertShell(s *statement) (Instruction, error) {
	const hint = `write SHELL ["/bin/bash", "-c"]`
	if err := s.some(hint); err != nil {
		return nil, err
	}
	if !s.json {
		return nil, refuse(hint, "SHELL requires the arguments to be in JSON form")
	}
	return &Shell{Node: s.Node, Args: s.args}, nil
}

func convertStopSignal(s *statement) (Instruction, error) {
	signal, err := s.one("write STOPSIGNAL SIGTERM, or a number")
	return &StopSignal{Node: s.Node, Signal: signal}, err
}

func convertUser(s *statement) (Instruction, error) {
	user, err := s.one("write USER <user>[:<group>]")
	return &User{Node: s.Node, User: user}, err
}

func convertVolume(s *statement) (Instruction, error) {
	const hint = "write VOLUME <path>"
	if err := s.some(hint); err != nil {
		return nil, err
	}
	v := &Volume{Node: s.Node}
	for _, arg := range s.args {
		path := strings.TrimSpace(arg)
		if path == "" {
			return nil, refuse(hint, "VOLUME specified can not be an empty string")
		}
		v.Paths = append(v.Paths, path)
	}
	return v, nil
}

func convertWorkdir(s *statement) (Instruction, error) {
	path, err := s.one("write WORKDIR <path>")
	return &Workdir{Node: s.Node, Path: path}, err
}
