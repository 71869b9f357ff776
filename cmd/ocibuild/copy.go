package main

import (
	"context"
	"fmt"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	"github.com/spf13/pflag"
)

type copyCommand struct {
	from, to  image.Ref
	platforms platformsFlag
	allTags   bool
	referrers bool
	show      progressFlag
	insecure  []string
}

func copyDescription() *command {
	return &command{
		name: "copy", args: "SOURCE DEST", short: "copy an image from registry to registry",
		long: "Copies an image, an index with all that it names, or an artifact from one registry or repository to another; the store " +
			"is not used, and digests stay as they are. What DEST has is not sent again, and between repositories of one registry " +
			"nothing is. Without a tag DEST gets that of SOURCE. With one --platform that image is copied alone, with several an index of those. " +
			"Prints NAME@DIGEST of what DEST has then. (`ocibuild help COPY` is about the instruction.)",
		examples: []example{
			{"ocibuild copy alpine:3.20 registry.example.com/base/alpine", "for all platforms, as alpine:3.20"},
			{"ocibuild copy ghcr.io/me/app:rc1 ghcr.io/me/app:v1", "give an image another tag without fetching it"},
			{"ocibuild copy --platform linux/amd64 --platform linux/arm64 alpine:3.20 localhost:5000/alpine", ""},
			{"ocibuild copy --all-tags --referrers ghcr.io/me/app registry.example.com/app", "everything, signatures included"},
		},
		make: func() verb { return &copyCommand{} },
	}
}

func (c *copyCommand) flags(fs *pflag.FlagSet) {
	c.platforms.declare(fs, "copy the image for this `OS/ARCH[/VARIANT]`, not those for all platforms")
	fs.BoolVarP(&c.allTags, "all-tags", "a", false, "copy all tags of the repository")
	fs.BoolVar(&c.referrers, "referrers", false, "copy the artifacts that are about the image too: signatures, bills of materials and the like")
	c.show.declare(fs)
	insecureFlag(fs, &c.insecure)
}

func (c *copyCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 2, 2, "SOURCE and DEST"); err != nil {
		return err
	}
	if err := c.show.check(); err != nil {
		return err
	}
	var err error
	if c.from, err = parseRef(args[0]); err != nil {
		return err
	}
	if c.to, err = parseRef(args[1]); err != nil {
		return err
	}
	if c.allTags {
		for i, ref := range []image.Ref{c.from, c.to} {
			if ref.Tag() != "" || ref.Digest() != "" {
				return usagef("--all-tags is about a repository: leave the tag of %s out", args[i])
			}
		}
		return c.platforms.check()
	}
	c.from = c.from.WithDefaultTag()
	switch {
	case c.to.Digest() != "" && c.to.Digest() != c.from.Digest():
		return &usageError{msg: fmt.Sprintf("%s: the digest is that of SOURCE and cannot be chosen", args[1]), hint: "leave it out, or give DEST a tag"}
	case c.to.Tag() == "" && c.to.Digest() == "" && c.from.Tag() != "":
		if c.to, err = c.to.WithTag(c.from.Tag()); err != nil {
			return err
		}
	}
	return c.platforms.check()
}

func (c *copyCommand) run(ctx context.Context, s *session) error {
	show := newDisplay(c.show.mode, s.stdio)
	client := s.client(c.insecure, show)
	pairs, err := c.pairs(ctx, client)
	var done []string
	for _, p := range pairs {
		copied, copyErr := c.copy(ctx, client, show, p)
		if err = copyErr; err != nil {
			break
		}
		done = append(done, fmt.Sprintf("%s@%s", repositoryName(p.to), copied.Digest))
	}
	show.close()
	for _, line := range done {
		if _, err := fmt.Fprintln(s.out, line); err != nil {
			return err
		}
	}
	return failed(ctx, show, err)
}

// copyPair is a reference to copy, and what it is to be.
type copyPair struct{ from, to image.Ref }

// pairs are what is to be copied.
func (c *copyCommand) pairs(ctx context.Context, client *registry.Client) ([]copyPair, error) {
	if !c.allTags {
		return []copyPair{{c.from, c.to}}, nil
	}
	var pairs []copyPair
	for tag, err := range client.Tags(ctx, repository(c.from)) {
		if err != nil {
			return nil, err
		}
		if listTag().MatchString(tag) {
			continue // a list of referrers, which the copy of an image makes anew
		}
		from, err := c.from.WithTag(tag)
		if err != nil {
			return nil, fmt.Errorf("tag of %s: %w", c.from.FamiliarName(), err)
		}
		to, err := c.to.WithTag(tag)
		if err != nil {
			return nil, fmt.Errorf("tag of %s: %w", c.to.FamiliarName(), err)
		}
		pairs = append(pairs, copyPair{from, to})
	}
	return pairs, nil
}

func (c *copyCommand) copy(ctx context.Context, client *registry.Client, show display, p copyPair) (registry.Copied, error) {
	row := show.begin(fmt.Sprintf("copy %s to %s", p.from, p.to), repositoryName(p.to))
	copied, err := client.Copy(ctx, registry.CopyRequest{
		From: repository(p.from), Reference: remoteReference(p.from), To: repository(p.to), Tag: p.to.Tag(),
		Platforms: c.platforms.want, Referrers: c.referrers,
	})
	show.end(row, err)
	return copied, err
}
