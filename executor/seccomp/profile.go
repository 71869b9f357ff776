package seccomp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// profile is a file for `docker run --security-opt seccomp=FILE`.
type profile struct {
	DefaultAction   specs.LinuxSeccompAction `json:"defaultAction"`
	DefaultErrnoRet *uint                    `json:"defaultErrnoRet"`
	Architectures   []specs.Arch             `json:"architectures"`
	ArchMap         []struct {
		Arch specs.Arch   `json:"architecture"`
		Subs []specs.Arch `json:"subArchitectures"`
	} `json:"archMap"`
	Syscalls         []profileRule `json:"syscalls"`
	Flags            []string      `json:"flags"`
	ListenerPath     string        `json:"listenerPath"`
	ListenerMetadata string        `json:"listenerMetadata"`
}

type profileRule struct {
	Name     string                   `json:"name"`
	Names    []string                 `json:"names"`
	Action   specs.LinuxSeccompAction `json:"action"`
	ErrnoRet *uint                    `json:"errnoRet"`
	Args     []specs.LinuxSeccompArg  `json:"args"`
	Comment  string                   `json:"comment"`
	Includes profileWhen              `json:"includes"`
	Excludes profileWhen              `json:"excludes"`
}

// profileWhen is where a rule applies, or does not.
type profileWhen struct {
	Caps      []string `json:"caps"`
	Arches    []string `json:"arches"`
	MinKernel string   `json:"minKernel"`
}

// Parse reads a profile in Docker's JSON for a container with these capabilities.
func Parse(text []byte, capabilities []string) (*specs.LinuxSeccomp, error) {
	var p profile
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("parse seccomp profile: %w", err)
	}
	s := &specs.LinuxSeccomp{DefaultAction: p.DefaultAction, DefaultErrnoRet: p.DefaultErrnoRet, Architectures: p.Architectures}
	own, err := native()
	if err != nil {
		return nil, err
	}
	for _, m := range p.ArchMap {
		if m.Arch == own.name {
			s.Architectures = append([]specs.Arch{m.Arch}, m.Subs...)
		}
	}
	for _, r := range p.Syscalls {
		applies, err := r.applies(capabilities)
		if err != nil {
			return nil, err
		}
		if !applies {
			continue
		}
		if r.Name != "" {
			r.Names = append(r.Names, r.Name)
		}
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: r.Names, Action: r.Action, ErrnoRet: r.ErrnoRet, Args: r.Args})
	}
	return s, p.refuse(s)
}

// refuse finds what would be left out of the filter, or is wrong.
func (p *profile) refuse(s *specs.LinuxSeccomp) error {
	if len(p.Flags) > 0 || p.ListenerPath != "" || p.ListenerMetadata != "" {
		return fmt.Errorf("seccomp profile: flags and listeners are not supported")
	}
	for _, r := range s.Syscalls {
		for _, name := range r.Names {
			if r.Action == specs.ActNotify {
				return fmt.Errorf("seccomp profile: %s: SCMP_ACT_NOTIFY is not supported", name)
			}
		}
		for _, a := range r.Args {
			if a.Index > 5 {
				return fmt.Errorf("seccomp profile: %s: there is no argument %d", strings.Join(r.Names, ","), a.Index)
			}
			if !slices.Contains(operators, a.Op) {
				return fmt.Errorf("seccomp profile: %s: unknown operator %q", strings.Join(r.Names, ","), a.Op)
			}
		}
	}
	_, err := Compile(s)
	return err
}

var operators = []specs.LinuxSeccompOperator{
	specs.OpEqualTo, specs.OpNotEqual, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpLessEqual, specs.OpLessThan, specs.OpMaskedEqual,
}

func (r *profileRule) applies(capabilities []string) (bool, error) {
	has := func(name string) bool { return slices.Contains(capabilities, name) }
	for _, when := range []profileWhen{r.Includes, r.Excludes} {
		for _, c := range when.Caps {
			if !strings.HasPrefix(c, "CAP_") {
				return false, fmt.Errorf("seccomp profile: %q is no capability", c)
			}
		}
	}
	newEnough, err := r.Includes.kernel()
	if err != nil {
		return false, err
	}
	tooNew, err := r.Excludes.kernel()
	if err != nil {
		return false, err
	}
	switch {
	case len(r.Includes.Caps) > 0 && !slices.ContainsFunc(r.Includes.Caps, func(c string) bool { return has(c) }):
		return false, nil
	case len(r.Includes.Arches) > 0 && !slices.Contains(r.Includes.Arches, runtime.GOARCH), !newEnough:
		return false, nil
	case slices.ContainsFunc(r.Excludes.Caps, has), slices.Contains(r.Excludes.Arches, runtime.GOARCH):
		return false, nil
	}
	return r.Excludes.MinKernel == "" || !tooNew, nil
}

// kernel reports whether the kernel is at least what is asked for.
func (w profileWhen) kernel() (bool, error) {
	if w.MinKernel == "" {
		return true, nil
	}
	want, ok := version(w.MinKernel)
	if !ok {
		return false, fmt.Errorf("seccomp profile: %q is no kernel version", w.MinKernel)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false, err
	}
	have, _ := version(unix.ByteSliceToString(u.Release[:]))
	return slices.Compare(have, want) >= 0, nil
}

// version reads the first two numbers of a kernel's version.
func version(text string) ([]int, bool) {
	parts := strings.SplitN(text, ".", 3)
	if len(parts) < 2 {
		return nil, false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return []int{major, minor}, err1 == nil && err2 == nil
}
