package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"syscall"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type catCommand struct {
	args     []string
	platform platformFlag
}

func catDescription() *command {
	return &command{
		name: "cat", args: "IMAGE:PATH...", short: "print files of images",
		long: "Prints files of images straight from the layers: nothing is unpacked. PATH begins with a slash; links are followed inside " +
			"the image. What is printed is checked against the layer.",
		examples: []example{
			{"ocibuild cat app:v1:/etc/os-release", ""},
			{"ocibuild cat --platform linux/arm64 app:v1:/usr/bin/app > app", "of the image for another machine"},
		},
		make: func() verb { return &catCommand{} },
	}
}

func (c *catCommand) flags(fs *pflag.FlagSet) {
	c.platform.declare(fs, "read the image for this `OS/ARCH[/VARIANT]`")
}

func (c *catCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, -1, "an IMAGE:PATH"); err != nil {
		return err
	}
	c.args = args
	for _, arg := range args {
		if err := checkImagePath(arg); err != nil {
			return err
		}
		if _, path := splitImagePath(arg); path == "" {
			return &usageError{msg: arg + ": the PATH of the file is missing", hint: "write it as app:v1:/etc/os-release"}
		}
	}
	return c.platform.check()
}

func (c *catCommand) run(ctx context.Context, s *session) error {
	for _, arg := range c.args {
		if err := c.print(ctx, s, arg); err != nil {
			return err
		}
	}
	return nil
}

func (c *catCommand) print(ctx context.Context, s *session, arg string) error {
	name, path := splitImagePath(arg)
	img, err := selectImage(ctx, s, name, c.platform.want)
	if err != nil {
		return err
	}
	files, err := s.files(ctx, img)
	if err != nil {
		return err
	}
	r, _, err := files.Open(ctx, path)
	if err != nil {
		return fileError(name, err)
	}
	defer r.Close()
	_, err = io.Copy(s.out, r)
	return err
}

// fileError words that an image has no such file.
func fileError(name string, err error) error {
	var at *image.FileError
	if !errors.As(err, &at) {
		return err
	}
	e := &storeError{msg: name + ":" + sanitizeText(at.Path) + ": " + at.Err.Error(), err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.msg, e.hint = name+":"+sanitizeText(at.Path)+": the image has no such file", "`ocibuild ls -R "+name+"` lists its files"
	case errors.Is(err, syscall.EISDIR):
		e.hint = "`ocibuild ls` lists it"
	}
	return e
}
