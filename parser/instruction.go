package parser

// Instruction is one instruction of a Dockerfile: a pointer to one of the
// structs that embed Node. No other package can add one.
type Instruction interface {
	// Keyword is the instruction's name in upper case, "RUN".
	Keyword() string
	// Text is the instruction as it is written: continuations joined, flags
	// included, heredoc bodies left out.
	Text() string
	// Range is where it stands, heredoc bodies included.
	Range() Range
	// Word is the instruction's name as it is written, "Run".
	Word() string
	// Comments are the comment lines right above, without their "#".
	Comments() []string

	instruction()
}

// Node is what every instruction has.
type Node struct {
	keyword  string
	text     string
	lines    Range
	word     string
	comments []string
}

// Keyword is the instruction's name in upper case.
func (n *Node) Keyword() string { return n.keyword }

// Text is the instruction as it is written, continuations joined.
func (n *Node) Text() string { return n.text }

// Range is where the instruction stands.
func (n *Node) Range() Range { return n.lines }

// Word is the instruction's name as it is written.
func (n *Node) Word() string { return n.word }

// Comments are the comment lines right above the instruction.
func (n *Node) Comments() []string { return n.comments }

func (n *Node) instruction() {}

// Arg declares build arguments.
type Arg struct {
	Node
	Defs []ArgDef
}

// ArgDef is one declared argument. Default is nil when the line gives none.
type ArgDef struct {
	Name    string
	Default *string
}

// KeyValue is one pair of an ENV or LABEL.
type KeyValue struct{ Key, Value string }

// Env sets environment variables, in order.
type Env struct {
	Node
	Vars   []KeyValue
	Legacy bool // one name and its value, without "="
}

// Label sets image labels, in order.
type Label struct {
	Node
	Labels []KeyValue
	Legacy bool // one name and its value, without "="
}

// Workdir sets the working directory.
type Workdir struct {
	Node
	Path string
}

// User sets who runs the steps and the container.
type User struct {
	Node
	User string
}

// Expose names ports; one word may expand to several.
type Expose struct {
	Node
	Ports []string // in byte order, as BuildKit keeps them
}

// Volume names mount points.
type Volume struct {
	Node
	Paths []string
}

// StopSignal sets the signal that ends the container.
type StopSignal struct {
	Node
	Signal string
}

// Maintainer sets the image's author.
type Maintainer struct {
	Node
	Name string
}
