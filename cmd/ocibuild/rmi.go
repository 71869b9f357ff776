package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocibuild/ocibuild/build/space"
	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

type rmiCommand struct {
	names     []string
	force     bool
	platforms platformsFlag
	all       allFlag
}

func rmiDescription() *command {
	return &command{
		name: "rmi", args: "IMAGE...", short: "remove images",
		long: "Removes images. A name is taken from its image, which goes when it was the last one. An id removes the image " +
			"with its name; when it has several names, or a running program may need it, --force is needed. Layers that other " +
			"images or the build cache need stay. With --platform the image stays for all other platforms.",
		examples: []example{
			{"ocibuild rmi app:v1", ""},
			{"ocibuild rmi $(ocibuild images -q --filter dangling=true)", "all images without a name, as `ocibuild prune` does"},
			{"ocibuild rmi --platform linux/arm64 app:v1", "what only the image for that platform needs"},
		},
		make: func() verb { return &rmiCommand{} },
	}
}

func (c *rmiCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.force, "force", "f", false, "remove an image by its id though it has several names or is in use; do not mind missing images")
	c.platforms.declare(fs, "remove the image for this `OS/ARCH[/VARIANT]` alone")
	c.all.declare(fs, "remove the images for all platforms, which is the default")
}

func (c *rmiCommand) accept(_ *stdio, args []string) error {
	c.names = args
	if err := count(args, 1, -1, "an IMAGE"); err != nil {
		return err
	}
	if err := c.all.check(c.platforms.texts...); err != nil {
		return err
	}
	return c.platforms.check()
}

func (c *rmiCommand) run(ctx context.Context, s *session) error {
	return removeImages(ctx, s, c.names, image.RemoveOptions{Force: c.force, Platforms: c.platforms.want})
}

// removeImages removes images and tells what went.
func removeImages(ctx context.Context, s *session, names []string, o image.RemoveOptions) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	mounted, err := mountedImages(s)
	if err != nil {
		return err
	}
	o.InUse = func(id digest.Digest) string {
		if dir := mounted[id.String()]; dir != "" {
			return "it is mounted at " + dir
		}
		return ""
	}
	o.KeepMore = func(ctx context.Context) ([]digest.Digest, error) { return cacheBlobs(ctx, s) }
	report, errs := st.Remove(ctx, names, o)
	for _, ref := range report.Untagged {
		fmt.Fprintf(s.out, "Untagged: %s\n", ref.Familiar())
	}
	for _, id := range report.Deleted {
		fmt.Fprintf(s.out, "Deleted: %s\n", id)
	}
	return lastError(s, errs)
}

// lastError prints all errors but the last, which it gives.
func lastError(s *session, errs []error) error {
	for i, err := range errs {
		err = removeError(err)
		if i == len(errs)-1 {
			return err
		}
		fmt.Fprintf(s.err, "ocibuild: %s\n", message(err))
	}
	return nil
}

// removeError words why an image could not be removed.
func removeError(err error) error {
	var (
		failed *image.RemoveError
		shared *image.SharedIDError
		used   *image.InUseError
		last   *image.LastPlatformError
	)
	name := ""
	if errors.As(err, &failed) {
		name = failed.Name
	}
	switch {
	case errors.As(err, &shared):
		return &storeError{msg: shared.Error(), hint: "remove them by name, or all with --force", err: err}
	case errors.As(err, &used):
		return &storeError{msg: used.Error(), hint: "try again later, or remove it by its name", err: err}
	case errors.As(err, &last):
		return &storeError{msg: last.Error(), hint: "without --platform the image goes", err: err}
	}
	return missingImage(name, err)
}

// cacheBlobs lists the blobs that the records of the build cache name.
func cacheBlobs(ctx context.Context, s *session) ([]digest.Digest, error) {
	memory, err := s.cache()
	if err != nil {
		return nil, err
	}
	return space.Space{Cache: memory}.RecordBlobs(ctx)
}
