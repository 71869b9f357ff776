package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// The labels of an attachment.
const (
	labelName = "name" // what the image was called
	labelID   = "id"
	labelMade = "made" // the directory was made for the mount
)

type mountCommand struct {
	listing
	name, dir string
	noTrunc   bool
	platform  platformFlag
}

func mountDescription() *command {
	return &command{
		name: "mount", args: "[IMAGE [DIR]]", short: "mount the files of an image",
		long: "Mounts the root filesystem of an image read-only at DIR, or at a directory in the store, and prints where. Without " +
			"arguments lists what is mounted. It stays until `ocibuild umount`, or until the machine goes down. It takes root: " +
			"what an ordinary user mounts ends with the program, so there `ocibuild ls` and `ocibuild cat` look into an image, " +
			"and `ocibuild export` writes its files.\n" +
			"Fields of templates of the list: .Dir .Name .ID",
		examples: []example{
			{"ls $(ocibuild mount app:v1)", ""},
			{"ocibuild mount --platform linux/arm64 app:v1 /mnt", ""},
			{"ocibuild mount", "what is mounted"},
		},
		make: func() verb { return &mountCommand{} },
	}
}

func (c *mountCommand) flags(fs *pflag.FlagSet) {
	c.platform.declare(fs, "mount the image for this `OS/ARCH[/VARIANT]`")
	fs.BoolVar(&c.noTrunc, "no-trunc", false, "print whole ids")
	c.declare(fs)
}

func (c *mountCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 0, 2, "an IMAGE and perhaps a DIR"); err != nil {
		return err
	}
	if len(args) > 0 {
		c.name = args[0]
	}
	if len(args) > 1 {
		c.dir = args[1]
	}
	if err := c.platform.check(); err != nil {
		return err
	}
	return c.parse()
}

func (c *mountCommand) run(ctx context.Context, s *session) error {
	if c.name == "" {
		return c.list(s)
	}
	img, err := selectImage(ctx, s, c.name, c.platform.want)
	if err != nil {
		return err
	}
	if s.uid != 0 {
		return &storeError{
			msg:  "an image can be mounted by root alone",
			hint: fmt.Sprintf("`ocibuild ls` and `ocibuild cat` look into it, and `ocibuild export %s | tar -x -C DIR` writes its files", c.name),
		}
	}
	s.level = executor.LevelRoot // a mount that stays is the machine's own
	_, lease, err := s.leasedStore(ctx)
	if err != nil {
		return err
	}
	defer lease.Release()
	dir, err := c.mount(ctx, s, img)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, dir)
	return err
}

// mount mounts the image, unless it is mounted there already.
func (c *mountCommand) mount(ctx context.Context, s *session, img *image.Image) (string, error) {
	snapshots, err := s.snapshots()
	if err != nil {
		return "", err
	}
	a := executor.Attachment{Labels: map[string]string{labelName: c.name, labelID: img.ID().String()}}
	if err := c.place(s, img, &a); err != nil {
		return "", err
	}
	list, err := snapshots.Attachments()
	if err != nil {
		return "", err
	}
	for _, old := range list {
		if old.Dir == a.Dir && old.Labels[labelID] == a.Labels[labelID] {
			return a.Dir, nil
		}
		if old.Dir == a.Dir {
			return "", &storeError{msg: fmt.Sprintf("%s is mounted at %s", old.Labels[labelName], a.Dir), hint: "`ocibuild umount " + a.Dir + "` first"}
		}
	}
	b, err := s.builder(noDisplay{}, nil, 0)
	if err != nil {
		return "", err
	}
	if a.Layers, err = b.Unpack(ctx, img.Layers); err != nil {
		return "", err
	}
	return a.Dir, mountError(snapshots.Attach(ctx, a))
}

// place chooses the directory, and makes that in the store.
func (c *mountCommand) place(s *session, img *image.Image, a *executor.Attachment) error {
	if c.dir != "" {
		info, err := os.Stat(c.dir)
		if err == nil && !info.IsDir() {
			err = unix.ENOTDIR
		}
		if err != nil {
			return &contextError{msg: c.dir, err: err, hint: "name an existing directory"}
		}
		a.Dir, err = filepath.Abs(c.dir)
		return err
	}
	st, err := s.store()
	if err != nil {
		return err
	}
	a.Dir, a.Labels[labelMade] = filepath.Join(st.Root(), "mounts", shortID(img.ID())), "yes"
	return os.MkdirAll(a.Dir, 0o700)
}

// mountError says what to do where the machine does not allow mounts.
func mountError(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) {
		return &storeError{
			msg:  "this machine does not let ocibuild mount: " + err.Error(),
			hint: "it takes CAP_SYS_ADMIN and overlayfs, which containers seldom have; `ocibuild ls`, `ocibuild cat` and `ocibuild export` do without",
			err:  err,
		}
	}
	return err
}

// mountLine is a line of the list, and what templates and JSON see.
type mountLine struct{ Dir, Name, ID string }

func (c *mountCommand) list(s *session) error {
	snapshots, err := s.snapshots()
	if err != nil {
		return err
	}
	list, err := snapshots.Attachments()
	if err != nil {
		return err
	}
	var lines []mountLine
	var rows [][]string
	for _, a := range list {
		l := mountLine{Dir: a.Dir, Name: a.Labels[labelName], ID: a.Labels[labelID]}
		if !c.noTrunc {
			l.ID = shortHex(l.ID)
		}
		lines = append(lines, l)
		rows = append(rows, []string{l.ID, l.Name, l.Dir})
	}
	if done, err := writeFormatted(s.out, &c.listing, map[string]string{"Dir": "MOUNTED AT", "Name": "IMAGE", "ID": "IMAGE ID"}, lines); done {
		return err
	}
	return writeTable(s.out, []string{"IMAGE ID", "IMAGE", "MOUNTED AT"}, rows)
}

// mountedImages tells by its id where an image is mounted.
func mountedImages(s *session) (map[string]string, error) {
	snapshots, err := s.snapshots()
	if err != nil {
		return nil, err
	}
	list, err := snapshots.Attachments()
	mounted := map[string]string{}
	for _, a := range list {
		mounted[a.Labels[labelID]] = a.Dir
	}
	return mounted, err
}
