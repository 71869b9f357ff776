package main

import (
	"context"
	"fmt"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

type registryRmCommand struct {
	listing
	refs     []image.Ref
	force    bool
	insecure []string
}

func registryRmDescription() *command {
	return &command{
		name: "registry rm", args: "REF...", short: "delete tags and manifests at a registry",
		long: "Deletes a tag, or with NAME@DIGEST a manifest and all its tags. Registries that delete manifests only, as docker-registry does, " +
			"lose the manifest of a tag if no other tag has it, or with --force. Space comes back when the registry collects its garbage. A registry " +
			"may have to be set up for it: docker-registry wants REGISTRY_STORAGE_DELETE_ENABLED=true.\n" +
			"Fields of templates: .Name .Tag .Digest",
		examples: []example{
			{"ocibuild registry rm ghcr.io/me/app:rc1", ""},
			{"ocibuild registry rm $(ocibuild registry resolve ghcr.io/me/app:old)", "the manifest, whatever its tags"},
		},
		make: func() verb { return &registryRmCommand{} },
	}
}

func (c *registryRmCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.force, "force", "f", false, "delete the other tags of the image too where a tag cannot be deleted alone")
	insecureFlag(fs, &c.insecure)
	c.declare(fs)
}

func (c *registryRmCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, -1, "a REF"); err != nil {
		return err
	}
	for _, arg := range args {
		ref, err := parseRef(arg)
		if err != nil {
			return err
		}
		if ref.Tag() == "" && ref.Digest() == "" {
			return &usageError{msg: arg + ": what is to be deleted needs a tag or a digest", hint: "`ocibuild registry tags " + arg + "` lists the tags"}
		}
		c.refs = append(c.refs, ref)
	}
	return c.parse()
}

// deletedLine is what templates and JSON see of what is gone: a tag, the
// manifest, or both.
type deletedLine struct {
	Name   string
	Tag    string        `json:",omitempty"`
	Digest digest.Digest `json:",omitempty"`
}

func (c *registryRmCommand) run(ctx context.Context, s *session) error {
	client := s.client(c.insecure, noDisplay{})
	for _, ref := range c.refs {
		gone, err := client.Delete(ctx, repository(ref), remoteReference(ref), c.force)
		if err != nil {
			return err
		}
		line := deletedLine{repositoryName(ref), gone.Tag, gone.Digest}
		headers := map[string]string{"Name": "NAME", "Tag": "TAG", "Digest": "DIGEST"}
		if done, err := writeFormatted(s.out, &c.listing, headers, []deletedLine{line}); done {
			if err != nil {
				return err
			}
			continue
		}
		if gone.Tag != "" {
			fmt.Fprintf(s.out, "Untagged: %s:%s\n", repositoryName(ref), gone.Tag)
		}
		if gone.Digest != "" {
			fmt.Fprintf(s.out, "Deleted: %s@%s\n", repositoryName(ref), gone.Digest)
		}
	}
	return nil
}
