package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ocibuild/ocibuild/parser"
)

// source is what a build reads besides the files of its context.
type source struct {
	// name is what errors call the Dockerfile.
	name       string
	text       []byte
	dockerfile *parser.Dockerfile
	ignore     *parser.Ignore
}

// maxDockerfile is how large a Dockerfile or an ignore file may be.
const maxDockerfile = 16 << 20

// readSource reads the Dockerfile and the ignore file. The source it gives
// beside an error has what was read until then.
func (c *buildCommand) readSource(s *session) (*source, error) {
	src := &source{}
	if info, err := os.Stat(c.dir); err != nil {
		return src, &contextError{msg: "context " + c.dir, err: err, hint: "name an existing directory"}
	} else if !info.IsDir() {
		return src, &contextError{msg: "context " + c.dir + " is not a directory", hint: "a Dockerfile is named with -f, the context is its directory"}
	}
	if err := c.readDockerfile(s, src); err != nil {
		return src, err
	}
	var err error
	if src.dockerfile, err = (parser.Options{Check: c.rules, Syntax: c.args["BUILDKIT_SYNTAX"]}).Parse(src.name, src.text); err != nil {
		return src, err
	}
	src.ignore, err = c.readIgnore(src.name)
	return src, err
}

func (c *buildCommand) readDockerfile(s *session, src *source) error {
	switch c.file {
	case "":
		return c.readDefault(src)
	case "-":
		src.name = "stdin"
		if s.inTTY {
			return &usageError{msg: "a Dockerfile is not read from a terminal", hint: "redirect standard input, or name a file with -f"}
		}
		return src.read(s.in)
	}
	src.name = c.file
	return src.open(c.file)
}

func (c *buildCommand) readDefault(src *source) error {
	src.name = filepath.Join(c.dir, "Dockerfile")
	err := src.open(src.name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	src.name = filepath.Join(c.dir, "dockerfile")
	if src.open(src.name) == nil {
		return nil
	}
	return &contextError{
		msg:  fmt.Sprintf("there is no Dockerfile in the context %s", c.dir),
		hint: "name one with -f, or name the directory that has it",
		err:  nil,
	}
}

func (src *source) open(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return &contextError{msg: "read Dockerfile " + path, err: err}
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
func (c *buildCommand) readIgnore(dockerfile string) (*parser.Ignore, error) {
	paths := []string{filepath.Join(c.dir, ".dockerignore")}
	if c.file != "-" {
		paths = append([]string{dockerfile + ".dockerignore"}, paths...)
	}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			continue // as if it were not there
		}
		ig, err := openIgnore(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, &contextError{msg: path, err: err}
		}
		return ig, nil
	}
	return nil, nil
}

func openIgnore(path string) (*parser.Ignore, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDockerfile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxDockerfile {
		return nil, fmt.Errorf("it is larger than %s", humanSize(maxDockerfile))
	}
	return parser.ParseIgnore(bytes.NewReader(text))
}
