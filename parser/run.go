package parser

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
	Network  string   // "default", "none" or "host"
	Security string   // "sandbox" or "insecure"
	Devices  []string // the values of --device, checked and as they are written
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
