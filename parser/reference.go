package parser

import (
	"maps"
	"slices"
)

// FlagForm is how a flag of an instruction is given.
type FlagForm struct {
	Name   string // without dashes
	Toggle bool   // needs no value
	Repeat bool   // may stand several times
}

// Keywords lists the instructions of the language.
func Keywords() []string {
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(converters)), onBuild)))
}

// Flags lists the flags that an instruction knows, in the order in which errors
// list them.
func Flags(keyword string) []FlagForm {
	var flags []flag
	switch keyword {
	case "ADD":
		flags = (&Add{}).flags()
	case "COPY":
		flags = (&Copy{}).flags()
	case "FROM":
		flags = (&From{}).flags()
	case "HEALTHCHECK":
		flags = (&Healthcheck{}).flags()
	case "RUN":
		flags = (&Run{}).flags(new([]string), new([]string))
	}
	var out []FlagForm
	for _, f := range flags {
		out = append(out, FlagForm{Name: f.name, Toggle: f.toggle, Repeat: f.repeat})
	}
	return out
}

// MountTypes lists the types of RUN --mount.
func MountTypes() []string { return slices.Clone(mountTypes) }

// MountOptions lists the options of RUN --mount, the other names of each among
// them.
func MountOptions() []string { return slices.Clone(mountKeys) }
