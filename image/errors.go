package image

import (
	"errors"
	"io/fs"
)

type notFound struct{}

func (notFound) Error() string        { return "not found in the store" }
func (notFound) Is(target error) bool { return target == fs.ErrNotExist }

// ErrNotFound is in every error about a reference, image or blob that the
// store does not have. Such errors are fs.ErrNotExist too.
var ErrNotFound error = notFound{}

// ErrAmbiguous is in the error about a prefix that several images share.
var ErrAmbiguous = errors.New("ambiguous")
