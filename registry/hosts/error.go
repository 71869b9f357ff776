package hosts

import (
	"errors"
	"fmt"
	"io/fs"
)

// Error is something wrong with a configuration file, or something that it forbids.
type Error struct {
	// File is the file, and Line the line in it, 0 if it is about all of it.
	File string
	Line int
	// Message says what is wrong, Hint what to do about it.
	Message, Hint string
	// Err is the cause, if there is one.
	Err error
}

// Error says where and what.
func (e *Error) Error() string {
	place := e.File
	if e.Line > 0 {
		place = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	return place + ": " + e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// fileError is for a file that cannot be read.
func fileError(file string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return &Error{File: file, Message: path.Err.Error(), Err: err}
	}
	return &Error{File: file, Message: err.Error(), Err: err}
}
