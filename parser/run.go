package parser

import "slices"

// Command is a command line in either form. In the shell form Args holds the
// one text that the shell gets, or nothing for an empty command; in the exec
// form it holds the words of the JSON array.
type Command struct {
	Shell    bool
	Args     []string
	Heredocs []Heredoc // RUN alone has them
}

// Run carries out a command.
type Run struct {
	Node
	Command
	Mounts   []Mount
	Network  string // "default", "none" or "host"
	Security string // "sandbox" or "insecure"
	Devices  []Device
}

// Cmd sets the container's default command or arguments.
type Cmd struct {
	Node
	Command
}

// Entrypoint sets what the container runs.
type Entrypoint struct {
	Node
	Command
}

// Shell sets the program that carries out shell forms.
type Shell struct {
	Node
	Args []string
}

var (
	networks   = []string{"default", "none", "host"}
	securities = []string{"sandbox", "insecure"}
)

func convertRun(s *statement) (Instruction, error) {
	r := &Run{Node: s.Node, Network: networks[0], Security: securities[0]}
	var mounts, devices []string
	err := parseFlags(s.flags, r.flags(&mounts, &devices)...)
	switch {
	case err != nil:
		return nil, err
	case !slices.Contains(networks, r.Network):
		return nil, refuse(didYouMean(r.Network, networks), "invalid network mode %q", r.Network)
	case !slices.Contains(securities, r.Security):
		return nil, refuse(didYouMean(r.Security, securities), "security %q is not valid", r.Security)
	}
	for _, raw := range mounts {
		m, err := parseMount(raw, nil)
		if err != nil {
			return nil, err
		}
		r.Mounts = append(r.Mounts, m)
	}
	for _, raw := range devices {
		d, err := parseDevice(raw)
		if err != nil {
			return nil, err
		}
		r.Devices = append(r.Devices, d)
	}
	r.Command = s.command(s.args)
	return r, nil
}

func (r *Run) flags(mounts, devices *[]string) []flag {
	return []flag{
		listFlag("mount", mounts),
		textFlag("network", &r.Network),
		textFlag("security", &r.Security),
		listFlag("device", devices),
	}
}

func convertCmd(s *statement) (Instruction, error) {
	return &Cmd{Node: s.Node, Command: s.command(s.args)}, s.takesNoFlags()
}

func convertEntrypoint(s *statement) (Instruction, error) {
	return &Entrypoint{Node: s.Node, Command: s.command(s.args)}, s.takesNoFlags()
}
