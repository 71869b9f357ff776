package build

import (
	"context"
	"io"
	"time"

	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
)

// Remotes fetches what a Dockerfile names by URL. The errors are shown to the user
// beside the line that does.
type Remotes interface {
	// File gives what a URL has now. If want is set, anything else is an error, and
	// nobody need be asked when it is here.
	File(ctx context.Context, url string, want digest.Digest, report Report) (*RemoteFile, error)
	// Git finds out which commit is meant. It fetches nothing of it.
	Git(ctx context.Context, g *parser.Git) (RemoteTree, error)
}

// Report is told what is being fetched, and how far: bytes of total, 0 where that
// is not known.
type Report func(text string, done, total int64)

// RemoteFile is the file of a URL. It can be read as long as the build lasts.
type RemoteFile struct {
	io.ReaderAt
	Size int64
	// Digest is its SHA-256.
	Digest digest.Digest
	// ModTime is the time that the server gives for it, or zero.
	ModTime time.Time
}

// RemoteTree is the files of a commit.
type RemoteTree interface {
	// Identity is the same for trees with the same files.
	Identity() string
	// Time is when the commit was made.
	Time(ctx context.Context) (time.Time, error)
	// Checkout gives the directory with the files, which belong to 0:0 and do not
	// change as long as the build lasts.
	Checkout(ctx context.Context, report Report) (dir string, err error)
}
