package parser

// Heredoc is a text that an instruction carries along.
type Heredoc struct {
	Name   string // the delimiter without quotes; for COPY the file's name
	Body   string // for <<- without the tabs that begin its lines; ends in a newline unless empty
	Expand bool   // the delimiter has no quotes: COPY and ADD expand variables in Body
	FD     uint   // the descriptor in front of <<, 0 if there is none
}
