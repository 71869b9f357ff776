package parser

import (
	"strings"
	"unicode/utf8"
)

// flag is one that an instruction knows.
type flag struct {
	name   string
	repeat bool // may stand several times
	toggle bool // needs no value
	set    func(value string) error
}

func textFlag(name string, p *string) flag {
	return flag{name: name, set: func(v string) error { *p = v; return nil }}
}

func listFlag(name string, p *[]string) flag {
	return flag{name: name, repeat: true, set: func(v string) error { *p = append(*p, v); return nil }}
}

func toggleFlag(name string, p *bool) flag {
	return flag{name: name, toggle: true, set: func(v string) error { *p = v == "true"; return nil }}
}

// parseFlags hands each word of an instruction's flags to the flag that it
// names.
func parseFlags(words []string, flags ...flag) error {
	seen := map[string]bool{}
	for _, word := range words {
		name, value, valued := strings.Cut(word, "=")
		f, ok := findFlag(name, flags)
		switch {
		case !ok:
			return unknownFlag(name, flags)
		case seen[name] && !f.repeat:
			return refuse("give it once", "duplicate flag specified: %s", name)
		case !valued && !f.toggle, valued && value == "" && f.toggle:
			return refuse("write "+name+"=<value>", "missing a value on flag: %s", name)
		}
		seen[name] = true
		if f.toggle {
			value = strings.ToLower(value)
			if value == "" {
				value = "true"
			}
			if value != "true" && value != "false" {
				return refuse("write "+name+" or "+name+"=false", "expecting boolean value for flag %s, not: %s", name, value)
			}
		}
		if err := f.set(value); err != nil {
			return err
		}
	}
	return nil
}

func findFlag(name string, flags []flag) (flag, bool) {
	for _, f := range flags {
		if "--"+f.name == name {
			return f, true
		}
	}
	return flag{}, false
}

func unknownFlag(name string, flags []flag) error {
	if len(flags) == 0 {
		return refuse("the instruction takes no flags; -- ends them", "unknown flag: %s", name)
	}
	names := make([]string, len(flags))
	for i, f := range flags {
		names[i] = "--" + f.name
	}
	return refuse(didYouMean(name, names), "unknown flag: %s", name)
}

// flagBytes undoes what the line parser does to flags: it takes each byte for
// a character of its own.
func flagBytes(word string) (string, error) {
	b := make([]byte, 0, len(word))
	for _, r := range word {
		b = append(b, byte(r))
	}
	if !utf8.Valid(b) {
		return "", refuse("put the value in an ARG and use the variable", "the flag %q holds a character that flags cannot hold", b)
	}
	return string(b), nil
}
