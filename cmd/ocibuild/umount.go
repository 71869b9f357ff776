package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

type umountCommand struct {
	args []string
	all  bool
}

func umountDescription() *command {
	return &command{
		name: "umount", args: "DIR|IMAGE...", short: "unmount images",
		long: "Takes away what `ocibuild mount` has mounted: at a directory, or all mounts of an image. Prints the directories.",
		examples: []example{
			{"ocibuild umount /mnt", ""},
			{"ocibuild umount app:v1", ""},
			{"ocibuild umount --all", ""},
		},
		make: func() verb { return &umountCommand{} },
	}
}

func (c *umountCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.all, "all", "a", false, "unmount everything")
}

func (c *umountCommand) accept(_ *stdio, args []string) error {
	c.args = args
	if c.all {
		return count(args, 0, 0, "no arguments with --all")
	}
	return count(args, 1, -1, "a DIR or an IMAGE")
}

func (c *umountCommand) run(ctx context.Context, s *session) error {
	snapshots, err := s.snapshots()
	if err != nil {
		return err
	}
	list, err := snapshots.Attachments()
	if err != nil {
		return err
	}
	chosen := list
	if !c.all {
		if chosen, err = c.choose(ctx, s, list); err != nil {
			return err
		}
	}
	for _, a := range chosen {
		if err := detach(snapshots, a); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(s.out, a.Dir); err != nil {
			return err
		}
	}
	return nil
}

// choose finds what the arguments name.
func (c *umountCommand) choose(ctx context.Context, s *session, list []executor.Attachment) ([]executor.Attachment, error) {
	var chosen []executor.Attachment
	for _, arg := range c.args {
		dir, err := filepath.Abs(arg)
		if err != nil {
			return nil, err
		}
		id := ""
		if st, err := s.store(); err != nil {
			return nil, err
		} else if img, err := st.Inspect(ctx, arg, nil); err == nil {
			id = img.ConfigDigest.String()
		}
		before := len(chosen)
		for _, a := range list {
			if a.Dir == dir || a.Labels[labelID] == id || a.Labels[labelName] == arg {
				chosen = append(chosen, a)
			}
		}
		if len(chosen) == before {
			return nil, &storeError{msg: arg + " is not mounted", hint: "`ocibuild mount` lists what is"}
		}
	}
	return chosen, nil
}

func detach(snapshots *executor.Snapshots, a executor.Attachment) error {
	err := snapshots.Detach(a.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // the same was named twice
	case errors.Is(err, unix.EBUSY):
		return &storeError{msg: a.Dir + " is in use", hint: "a program has a file or its working directory there: `fuser -m " + a.Dir + "` tells which", err: err}
	case err != nil:
		return mountError(err)
	}
	if a.Labels[labelMade] != "" {
		return os.Remove(a.Dir)
	}
	return nil
}
