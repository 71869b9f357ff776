package parser

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Range is a span of lines, counted from 1, both ends included. The zero Range
// means that no line is to blame.
type Range struct{ Start, End int }

// Error is a mistake in a Dockerfile or a .dockerignore file.
type Error struct {
	File  string // as it was given to Parse
	Range Range  // the lines of the instruction, or zero
	Msg   string // what is wrong
	Hint  string // what to do about it, or empty
	Err   error  // the cause, or nil; Msg already tells it
}

// Error gives "Dockerfile:3: unknown instruction: RUNN (did you mean RUN?)".
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		b.WriteByte(':')
		if e.Range.Start > 0 {
			b.WriteString(strconv.Itoa(e.Range.Start))
			b.WriteByte(':')
		}
		b.WriteByte(' ')
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString(" (")
		b.WriteString(e.Hint)
		b.WriteByte(')')
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// refuse is an Error whose place its maker does not know; Parse fills it in.
func refuse(hint, format string, args ...any) error {
	return &Error{Msg: fmt.Sprintf(format, args...), Hint: hint}
}

// locate puts an error where it belongs, unless it already has a place.
func locate(err error, file string, lines Range) error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Msg: err.Error(), Err: err}
	}
	if e.File == "" && e.Range.Start == 0 {
		e.File, e.Range = file, lines
	}
	return e
}
