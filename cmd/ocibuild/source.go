package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/build/remote"
	"github.com/ocibuild/ocibuild/parser"
)

// source is what a build reads besides the files of its context.
type source struct {
	// name is what errors call the Dockerfile.
	name       string
	text       []byte
	dockerfile *parser.Dockerfile
	// ignoreName and ignoreText are of the ignore file, if there is one.
	ignoreName string
	ignoreText []byte
	ignore     *parser.Ignore
	// dir is the context if it is a directory of this machine, and fetched if it
	// is another; a build may have none.
	dir     string
	fetched *build.Fetched
}

// warnings are what was found in the Dockerfile's text, as far as it was read.
func (src *source) warnings() []parser.Warning {
	if src.dockerfile == nil {
		return nil
	}
	return src.dockerfile.Warnings
}

// maxDockerfile is how large a Dockerfile or an ignore file may be.
const maxDockerfile = 16 << 20

// readSource reads the Dockerfile and the ignore file. The source it gives
// beside an error has what was read until then.
func (c *buildCommand) readSource(ctx context.Context, w *workshop) (*source, error) {
	if !c.place.local() {
		return c.readFetched(ctx, w)
	}
	src := &source{}
	if info, err := os.Stat(c.place.text); err != nil {
		return src, &contextError{msg: "context " + c.place.text, err: err, hint: nearFile(c.place.text, "name an existing directory")}
	} else if !info.IsDir() {
		return src, &contextError{msg: "context " + c.place.text + " is not a directory", hint: "a Dockerfile is named with -f, the context is its directory"}
	}
	src.dir = c.place.text
	if err := c.readDockerfile(ctx, w, src); err != nil {
		return src, err
	}
	if err := c.parse(src); err != nil {
		return src, err
	}
	return src, c.readIgnore(ctx, src)
}

func (c *buildCommand) parse(src *source) (err error) {
	src.dockerfile, err = (parser.Options{Check: c.rules, Syntax: c.args["BUILDKIT_SYNTAX"]}).Parse(src.name, src.text)
	return err
}

// readDockerfile reads the Dockerfile that --file names, or the context's.
func (c *buildCommand) readDockerfile(ctx context.Context, w *workshop, src *source) error {
	switch {
	case c.file == "-":
		src.name = stdinName
		if w.s.inTTY {
			return &usageError{msg: "a Dockerfile is not read from a terminal", hint: "redirect standard input, or name a file with -f"}
		}
		return src.read(w.s.in)
	case isURL(c.file):
		return c.fetchDockerfile(ctx, w, src)
	case src.fetched != nil && !filepath.IsAbs(c.file):
		return c.openFetched(ctx, src)
	case c.file == "":
		return c.readDefault(src)
	}
	src.name = c.file
	return src.open(c.file)
}

// fetchDockerfile reads a Dockerfile that --file names by its URL.
func (c *buildCommand) fetchDockerfile(ctx context.Context, w *workshop, src *source) error {
	if err := w.open(ctx); err != nil {
		return err
	}
	src.name = remote.Redact(c.file)
	return w.work("load Dockerfile "+src.name, func(report build.Report) error {
		f, err := w.remotes.File(ctx, c.file, "", report)
		if err != nil {
			return err
		}
		return src.read(io.NewSectionReader(f, 0, f.Size))
	})
}

func (c *buildCommand) readDefault(src *source) error {
	src.name = filepath.Join(src.dir, "Dockerfile")
	err := src.open(src.name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	src.name = filepath.Join(src.dir, "dockerfile")
	if src.open(src.name) == nil {
		return nil
	}
	hint := nearFile(filepath.Join(src.dir, "Dockerfile"), "name one with -f, or name the directory that has it")
	if other := filepath.Join(src.dir, "Containerfile"); exists(other) {
		hint = "name it with -f " + other
	}
	return &contextError{msg: fmt.Sprintf("there is no Dockerfile in the context %s", src.dir), hint: hint}
}

func (src *source) open(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return &contextError{msg: "read Dockerfile " + path, err: err, hint: nearFile(path, "")}
	}
	defer f.Close()
	return src.read(f)
}

func (src *source) read(r io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err != nil {
		return &contextError{msg: "read Dockerfile " + src.name, err: err}
	}
	if len(text) > maxDockerfile {
		return &contextError{msg: fmt.Sprintf("Dockerfile %s is larger than %s", src.name, humanSize(maxDockerfile))}
	}
	src.text = text
	return nil
}

// readIgnore reads DOCKERFILE.dockerignore, or else the context's
// .dockerignore.
func (c *buildCommand) readIgnore(ctx context.Context, src *source) error {
	var reads []ignoreFile
	if c.file != "-" && !isURL(c.file) {
		reads = append(reads, ignoreFile{src.name + ".dockerignore", src.fetched != nil && !filepath.IsAbs(c.file)})
	}
	reads = append(reads, ignoreFile{filepath.Join(src.dir, ".dockerignore"), src.fetched != nil})
	for _, f := range reads {
		text, err := f.read(ctx, src.fetched)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return &contextError{msg: f.path, err: err}
		}
		return src.parseIgnore(f.path, text)
	}
	return nil
}

// ignoreFile is where an ignore file may be: on this machine, or in the context.
type ignoreFile struct {
	path    string
	fetched bool
}

func (f ignoreFile) read(ctx context.Context, in *build.Fetched) ([]byte, error) {
	if f.fetched {
		return in.ReadFile(ctx, f.path, maxDockerfile)
	}
	if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() {
		return nil, fs.ErrNotExist // as if it were not there
	}
	return readIgnoreText(f.path)
}

func readIgnoreText(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDockerfile+1))
	if err == nil && len(text) > maxDockerfile {
		err = fmt.Errorf("it is larger than %s", humanSize(maxDockerfile))
	}
	return text, err
}

func (src *source) parseIgnore(path string, text []byte) error {
	src.ignoreName, src.ignoreText = path, text
	var err error
	src.ignore, err = parser.ParseIgnore(bytes.NewReader(text))
	var bad *parser.Error
	if errors.As(err, &bad) {
		bad.File = path
	}
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// nearFile is the hint for a file that is not there: the one that its name is
// nearest to, or else what otherwise says.
func nearFile(path, otherwise string) string {
	dir, base := filepath.Split(filepath.Clean(path))
	entries, err := os.ReadDir(cmp.Or(dir, "."))
	if err != nil {
		return otherwise
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if near := parser.Nearest(base, names); near != "" && near != base {
		return "did you mean " + filepath.Join(dir, near) + "?"
	}
	return otherwise
}
