package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/spf13/pflag"
)

// securityFlags are what steps may do other than what Docker lets containers do.
type securityFlags struct {
	addTexts, dropTexts, optTexts []string
}

// flags declares them for steps, or whoever else is confined.
func (f *securityFlags) flags(fs *pflag.FlagSet, who string) {
	fs.StringSliceVar(&f.addTexts, "cap-add", nil, "give "+who+" this `CAPABILITY`, as in NET_ADMIN, or ALL (may be repeated)")
	fs.StringSliceVar(&f.dropTexts, "cap-drop", nil, "take this `CAPABILITY` from "+who+", or ALL (may be repeated)")
	fs.StringArrayVar(&f.optTexts, "security-opt", nil, "confine "+who+" by this `OPTION`: seccomp=FILE|unconfined, no-new-privileges, systempaths=unconfined (may be repeated)")
}

// check reads what the flags say.
func (f *securityFlags) check() (s executor.Security, err error) {
	if s.AddCapabilities, err = capabilities("--cap-add", f.addTexts); err != nil {
		return s, err
	}
	if s.DropCapabilities, err = capabilities("--cap-drop", f.dropTexts); err != nil {
		return s, err
	}
	for _, text := range f.optTexts {
		if err := securityOption(&s, text); err != nil {
			return s, err
		}
	}
	if err := s.Check(); err != nil {
		return s, usagef("--security-opt: %v", err)
	}
	return s, nil
}

func capabilities(flag string, texts []string) ([]string, error) {
	var names []string
	for _, text := range texts {
		name, err := executor.ParseCapability(text)
		if err != nil {
			msg := fmt.Sprintf("%s=%s: %v", flag, text, err)
			if near := nearest(strings.TrimPrefix(strings.ToLower(text), "cap_"), shortCapabilities()); near != "" {
				msg += fmt.Sprintf(" (did you mean %s?)", strings.ToUpper(near))
			}
			return nil, &usageError{msg: msg, hint: "capabilities(7) lists them; ALL is all of them"}
		}
		names = append(names, name)
	}
	return names, nil
}

// shortCapabilities lists all capabilities as they are usually typed.
func shortCapabilities() []string {
	var names []string
	for _, name := range executor.CapabilityNames() {
		names = append(names, strings.ToLower(strings.TrimPrefix(name, "CAP_")))
	}
	return names
}

// securityOption takes one --security-opt. There is no AppArmor or SELinux profile for
// steps, so that to ask for none changes nothing.
func securityOption(s *executor.Security, text string) error {
	name, value, _ := strings.Cut(strings.Replace(text, ":", "=", 1), "=")
	switch name + "=" + value {
	case "no-new-privileges=", "no-new-privileges=true":
		s.NoNewPrivileges = true
	case "no-new-privileges=false":
		s.NoNewPrivileges = false
	case "systempaths=unconfined":
		s.Unmasked = true
	case "seccomp=unconfined":
		s.Seccomp = executor.Unconfined
	case "seccomp=builtin":
		s.Seccomp = ""
	case "apparmor=unconfined", "label=disable":
	default:
		return profileOption(s, text, name, value)
	}
	return nil
}

func profileOption(s *executor.Security, text, name, value string) error {
	switch {
	case name == "seccomp" && value != "":
		data, err := os.ReadFile(value)
		if err != nil {
			return usagef("--security-opt=%s: the profile cannot be read: %s", text, plainCause(err))
		}
		s.Seccomp = string(data)
		return nil
	case name == "apparmor", name == "label":
		return &usageError{
			msg:  fmt.Sprintf("--security-opt=%s: steps have no profile of AppArmor and no label of SELinux of their own", text),
			hint: "they are confined by namespaces, capabilities and seccomp, and by the profile that ocibuild itself runs under",
		}
	}
	return &usageError{
		msg:  fmt.Sprintf("--security-opt=%s: unknown option", text),
		hint: "it takes seccomp=FILE, seccomp=unconfined, no-new-privileges and systempaths=unconfined",
	}
}
