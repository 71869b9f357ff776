package main

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

type lsCommand struct {
	listing
	name, path    string
	long, recurse bool
	platform      platformFlag
}

func lsDescription() *command {
	return &command{
		name: "ls", args: "IMAGE[:PATH]", short: "list the files of an image",
		long: "Lists a directory of an image, or its root, straight from the layers: nothing is unpacked. PATH begins with a slash; " +
			"links are followed inside the image. Of images that were built here, and the second time, no layer is read.\n" +
			"Fields of templates: .Path .Name .Type .Mode .UID .GID .Size .ModTime .Link .Digest .Layer .Xattrs; Layer is the " +
			"diff id of the layer that the file comes from.",
		examples: []example{
			{"ocibuild ls app:v1", ""},
			{"ocibuild ls -l app:v1:/etc", "with modes, owners, sizes and times"},
			{"ocibuild ls -R --format '{{.Size}} {{.Path}}' app:v1 | sort -n | tail", "the largest files"},
		},
		make: func() verb { return &lsCommand{} },
	}
}

func (c *lsCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.long, "long", "l", false, "print mode, owner, size and time before each name")
	fs.BoolVarP(&c.recurse, "recursive", "R", false, "list everything below, by its whole path")
	c.platform.declare(fs, "list the image for this `OS/ARCH[/VARIANT]`")
	c.declare(fs)
}

func (c *lsCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, 1, "one IMAGE"); err != nil {
		return err
	}
	if err := checkImagePath(args[0]); err != nil {
		return err
	}
	c.name, c.path = splitImagePath(args[0])
	if err := c.platform.check(); err != nil {
		return err
	}
	return c.parse()
}

// fileLine is what templates and JSON see of a file.
type fileLine struct {
	Path    string
	Name    string
	Type    string
	Mode    string
	UID     int
	GID     int
	Size    int64
	ModTime time.Time
	Link    string            `json:",omitempty"`
	Digest  digest.Digest     `json:",omitempty"`
	Layer   digest.Digest     `json:",omitempty"`
	Xattrs  map[string]string `json:",omitempty"`
}

func (c *lsCommand) run(ctx context.Context, s *session) error {
	img, err := selectImage(ctx, s, c.name, c.platform.want)
	if err != nil {
		return err
	}
	files, err := s.files(ctx, img)
	if err != nil {
		return err
	}
	list, err := files.List(c.path, c.recurse)
	if err != nil {
		return fileError(c.name, err)
	}
	lines := make([]fileLine, 0, len(list))
	for _, f := range list {
		lines = append(lines, newFileLine(img, f))
	}
	headers := map[string]string{
		"Path": "PATH", "Name": "NAME", "Type": "TYPE", "Mode": "MODE", "UID": "UID", "GID": "GID", "Size": "SIZE",
		"ModTime": "MODIFIED", "Link": "LINK", "Digest": "DIGEST", "Layer": "LAYER", "Xattrs": "XATTRS",
	}
	if done, err := writeFormatted(s.out, &c.listing, headers, lines); done {
		return err
	}
	return c.print(s, list)
}

func newFileLine(img *image.Image, f image.File) fileLine {
	l := fileLine{
		Path: "/" + f.Path, Name: path.Base("/" + f.Path), Type: typeName(f), Mode: fmt.Sprintf("%04o", f.Mode), UID: f.UID, GID: f.GID,
		Size: f.Size, ModTime: f.ModTime, Link: f.Linkname, Digest: f.Digest, Xattrs: f.Xattrs,
	}
	if f.Layer >= 0 {
		l.Layer = img.Layers[f.Layer].DiffID
	}
	return l
}

func (c *lsCommand) print(s *session, list []image.File) error {
	rows := make([][]string, 0, len(list))
	for _, f := range list {
		name := path.Base("/" + f.Path)
		if c.recurse {
			name = "/" + f.Path
		}
		name = oneLine(name)
		if !c.long {
			if _, err := fmt.Fprintln(s.out, name); err != nil {
				return err
			}
			continue
		}
		if f.Linkname != "" {
			name += " -> " + oneLine(f.Linkname)
		}
		size := fmt.Sprint(f.Size)
		if f.Devmajor != 0 || f.Devminor != 0 {
			size = fmt.Sprintf("%d,%d", f.Devmajor, f.Devminor)
		}
		rows = append(rows, []string{modeText(f), fmt.Sprint(f.UID), fmt.Sprint(f.GID), size, f.ModTime.UTC().Format("2006-01-02 15:04"), name})
	}
	if !c.long {
		return nil
	}
	return writeAligned(s.out, rows, []int{1, 2, 3})
}
