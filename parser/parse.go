package parser

// Parse reads a Dockerfile.
func Parse(file string, text []byte) (*Dockerfile, error) {
	return nil, &Error{File: file, Msg: "not written yet"}
}

// ParseTrigger reads one instruction, as ONBUILD of a base image stores it.
func ParseTrigger(file, text string) (Instruction, error) {
	return nil, &Error{File: file, Msg: "not written yet"}
}

// Check is what a "# check=" directive asks for.
type Check struct {
	Skip    []string // rules to leave out
	SkipAll bool
	Error   bool // findings are errors
}
