package image

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

type notFound struct{}

// Error says it of whatever is named before it.
func (notFound) Error() string { return "not found in the store" }

// Is makes it an fs.ErrNotExist too.
func (notFound) Is(target error) bool { return target == fs.ErrNotExist }

// ErrNotFound is in every error about a reference, image or blob that the
// store does not have. Such errors are fs.ErrNotExist too.
var ErrNotFound error = notFound{}

// ErrAmbiguous is in the error about a prefix that several images share.
var ErrAmbiguous = errors.New("ambiguous")

// AmbiguousError names the images a prefix stands for. It is ErrAmbiguous.
type AmbiguousError struct {
	Name    string
	Matches []digest.Digest
}

// Error lists the matches.
func (e *AmbiguousError) Error() string {
	var list []string
	for _, d := range e.Matches {
		list = append(list, d.String())
	}
	return fmt.Sprintf("%q is ambiguous: it stands for %s (give more digits)", e.Name, strings.Join(list, ", "))
}

// Is makes the error an ErrAmbiguous.
func (e *AmbiguousError) Is(target error) bool { return target == ErrAmbiguous }

// VerifyError says that content is not what its descriptor promises.
type VerifyError struct {
	Want, Got         digest.Digest
	WantSize, GotSize int64
	Stored            bool // the bytes are the store's own: it is damaged
}

// Error says what differs.
func (e *VerifyError) Error() string {
	var text string
	switch e.Got {
	case "", e.Want:
		text = fmt.Sprintf("blob %s has %d bytes instead of %d", e.Want, e.GotSize, e.WantSize)
	default:
		text = fmt.Sprintf("blob %s has digest %s", e.Want, e.Got)
	}
	if e.Stored {
		text += " (the store is damaged: \"ocibuild fsck\" tells which images need it)"
	}
	return text
}

// Mismatch tells it apart from a failure to store.
func (e *VerifyError) Mismatch() bool { return true }

// DamagedError says that a file without which a store cannot be opened is damaged
// or gone.
type DamagedError struct {
	Path string // within the store
	Err  error
}

// Error says what to do.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s is damaged: %v (\"ocibuild fsck --repair\" mends it)", e.Path, e.Err)
}

// Unwrap is the cause.
func (e *DamagedError) Unwrap() error { return e.Err }

// NotImageError says that a manifest is no container image but something else
// that is kept in the form of one.
type NotImageError struct {
	Manifest  digest.Digest
	MediaType string // of its config
}

// Error tells what it is.
func (e *NotImageError) Error() string {
	return fmt.Sprintf("manifest %s is not a container image: its config has media type %q", e.Manifest, e.MediaType)
}

// PlatformError says that an image is not there for the wanted platform.
type PlatformError struct {
	Image digest.Digest // the index, or the manifest
	Want  ocispec.Platform
	Have  []ocispec.Platform
	// Absent says that the index has an image for the platform which is not in
	// the store: it was not fetched.
	Absent bool
}

// Error lists the platforms there are.
func (e *PlatformError) Error() string {
	if e.Absent {
		return fmt.Sprintf("the image for platform %s of index %s is %v", FormatPlatform(e.Want), e.Image, ErrNotFound)
	}
	var have []string
	for _, p := range e.Have {
		if text := FormatPlatform(p); !slices.Contains(have, text) {
			have = append(have, text)
		}
	}
	if len(have) == 0 {
		have = []string{"none"}
	}
	return fmt.Sprintf("no image for platform %s in %s (there are: %s)", FormatPlatform(e.Want), e.Image, strings.Join(have, ", "))
}

// Is makes the error an ErrNotFound.
func (e *PlatformError) Is(target error) bool {
	return target == ErrNotFound || target == fs.ErrNotExist
}

// StoreError is a failure of the store's own directory, with what to do.
type StoreError struct {
	Root string
	Op   string
	Hint string
	Err  error
}

// Error names the store, the cause and the next step.
func (e *StoreError) Error() string {
	return fmt.Sprintf("%s: store %s: %v (%s)", e.Op, e.Root, e.Err, e.Hint)
}

// Unwrap is the cause.
func (e *StoreError) Unwrap() error { return e.Err }

const (
	hintSpace    = "free space there, run \"ocibuild prune\", or choose another store with --root"
	hintAccess   = "run as the owner of the store, or choose another one with --root"
	hintAside    = "the store is at its limit, so compressed layers go to temporary files: set TMPDIR to a directory with room, or let the store take more"
	hintReadOnly = "the file system is read-only: choose another store with --root"
)

// Diagnose is for others that keep files in the directory of the store: it puts the
// operation before err, and for a full disk or a missing permission names the store
// and the next step.
func (s *Store) Diagnose(op string, err error) error { return s.explain(op, err) }

// explain puts the operation before err, and for a full disk or a missing
// permission names the store and the next step.
func (s *Store) explain(op string, err error) error {
	var known *StoreError
	if err == nil || errors.As(err, &known) {
		return err
	}
	hint := ""
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		hint = hintSpace
	case errors.Is(err, fs.ErrPermission):
		hint = hintAccess
	case errors.Is(err, unix.EROFS):
		hint = hintReadOnly
	default:
		return fmt.Errorf("%s: %w", op, err)
	}
	return &StoreError{Root: s.root, Op: op, Hint: hint, Err: err}
}
