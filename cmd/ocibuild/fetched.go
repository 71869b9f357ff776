package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/build/remote"
	"github.com/ocibuild/ocibuild/parser"
	"github.com/opencontainers/go-digest"
)

// readFetched fetches a context that is no directory, and reads the Dockerfile and
// the ignore file, which are mostly in it.
func (c *buildCommand) readFetched(ctx context.Context, w *workshop) (*source, error) {
	src := &source{}
	if err := w.open(ctx); err != nil {
		return src, err
	}
	fetch := c.fetchArchive
	switch {
	case c.place.stdin:
		fetch = c.readStdin
	case c.place.git != nil:
		fetch = c.fetchGit
	}
	if err := fetch(ctx, w, src); err != nil {
		return src, err
	}
	if src.name != "" { // the context was the Dockerfile
		return src, c.parse(src)
	}
	if err := c.readDockerfile(ctx, w, src); err != nil {
		return src, err
	}
	if err := c.parse(src); err != nil {
		return src, err
	}
	return src, c.readIgnore(ctx, src)
}

// keepGitArg keeps .git in a context that is a repository.
const keepGitArg = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"

func (c *buildCommand) fetchGit(ctx context.Context, w *workshop, src *source) error {
	g := *c.place.git
	if keep, err := strconv.ParseBool(c.args[keepGitArg]); err == nil && keep {
		g.KeepGitDir = &keep
	}
	if g.MTime == "" && c.args["SOURCE_DATE_EPOCH"] != "" {
		g.MTime = parser.MTimeCommit
	}
	return w.work("load build context "+remote.Redact(c.place.text), func(report build.Report) error {
		tree, err := w.remotes.Git(ctx, &g)
		if err != nil {
			return err
		}
		src.fetched, err = w.builder.FetchedTree(ctx, tree, report)
		return err
	})
}

func (c *buildCommand) fetchArchive(ctx context.Context, w *workshop, src *source) error {
	shown := remote.Redact(c.place.text)
	return w.work("load build context "+shown, func(report build.Report) error {
		f, err := w.remotes.File(ctx, c.place.text, "", report)
		if err != nil {
			return err
		}
		archive, err := build.IsArchive(f)
		if err != nil {
			return &contextError{msg: "context " + shown, err: err}
		}
		if !archive {
			src.name = shown
			if err := src.read(io.NewSectionReader(f, 0, f.Size)); err != nil {
				return err
			}
		}
		return c.unpack(ctx, w, src, f, shown)
	})
}

// unpack makes the context of what was fetched.
func (c *buildCommand) unpack(ctx context.Context, w *workshop, src *source, f *build.RemoteFile, shown string) (err error) {
	if src.fetched, err = w.builder.FetchedFile(ctx, f); err != nil {
		return &contextError{msg: "context " + shown, err: err}
	}
	return nil
}

// readStdin reads standard input to its end: an archive is the context, anything
// else the Dockerfile of a build without one.
func (c *buildCommand) readStdin(ctx context.Context, w *workshop, src *source) error {
	return w.work("load build context from standard input", func(build.Report) error {
		f, err := spool(ctx, w.s.in, filepath.Join(w.builder.Store.Root(), "ingest"))
		if err != nil {
			return err
		}
		w.stdin = f
		if f.Size == 0 {
			return &contextError{msg: "standard input is empty", hint: "it takes a tar archive, or a Dockerfile"}
		}
		archive, err := build.IsArchive(&f.RemoteFile)
		switch {
		case err != nil:
			return &contextError{msg: "standard input", err: err}
		case archive:
			return c.unpack(ctx, w, src, &f.RemoteFile, "from standard input")
		case c.file != "":
			return &usageError{
				msg: "standard input is no archive, so it is the Dockerfile; and --file=" + c.file + " names another", hint: "leave one of them out",
			}
		}
		src.name = stdinName
		return src.read(io.NewSectionReader(f, 0, f.Size))
	})
}

// stdinName is what errors call a Dockerfile from standard input.
const stdinName = "stdin"

// spooled is what was read of a stream. It has no name, and is gone when it is
// closed.
type spooled struct {
	build.RemoteFile
	file *os.File
}

// spool reads a stream to its end, or until ctx is done.
func spool(ctx context.Context, r io.Reader, dir string) (*spooled, error) {
	f, err := os.CreateTemp(dir, "stdin-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	sum := digest.SHA256.Digester()
	var n int64
	done := make(chan error, 1)
	go func() {
		var err error
		n, err = io.Copy(io.MultiWriter(f, sum.Hash()), r)
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done(): // who waits for input cannot be called off
		return nil, context.Cause(ctx)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return &spooled{build.RemoteFile{ReaderAt: f, Size: n, Digest: sum.Digest()}, f}, nil
}

// openFetched reads the Dockerfile out of a fetched context.
func (c *buildCommand) openFetched(ctx context.Context, src *source) error {
	names := []string{path.Clean(filepath.ToSlash(c.file))}
	if c.file == "" {
		names[0] = "Dockerfile"
	}
	if dir, base := path.Split(names[0]); base == "Dockerfile" {
		names = append(names, dir+"dockerfile")
	}
	for _, name := range names {
		text, err := src.fetched.ReadFile(ctx, name, maxDockerfile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		src.name, src.text = name, text
		if err != nil {
			return &contextError{msg: "read Dockerfile " + name, err: err}
		}
		return nil
	}
	return &contextError{
		msg:  fmt.Sprintf("there is no %s in the context %s", names[0], remote.Redact(c.place.text)),
		hint: "name the Dockerfile with -f, as it is called in the context, or with a path that begins with a slash on this machine",
	}
}
