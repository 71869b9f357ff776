package main

import (
	"bytes"
	"cmp"
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
	// ignoreName and ignoreText are of the ignore file, if there is one.
	ignoreName string
	ignoreText []byte
	ignore     *parser.Ignore
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
func (c *buildCommand) readSource(s *session) (*source, error) {
	src := &source{}
	if info, err := os.Stat(c.dir); err != nil {
		return src, &contextError{msg: "context " + c.dir, err: err, hint: nearFile(c.dir, "name an existing directory")}
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
	return src, c.readIgnore(src)
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
	hint := nearFile(filepath.Join(c.dir, "Dockerfile"), "name one with -f, or name the directory that has it")
	if other := filepath.Join(c.dir, "Containerfile"); exists(other) {
		hint = "name it with -f " + other
	}
	return &contextError{msg: fmt.Sprintf("there is no Dockerfile in the context %s", c.dir), hint: hint}
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
func (c *buildCommand) readIgnore(src *source) error {
	paths := []string{filepath.Join(c.dir, ".dockerignore")}
	if c.file != "-" {
		paths = append([]string{src.name + ".dockerignore"}, paths...)
	}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			continue // as if it were not there
		}
		text, err := readIgnoreText(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return &contextError{msg: path, err: err}
		}
		return src.parseIgnore(path, text)
	}
	return nil
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
