package main

import (
	"context"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
)

type registryReferrersCommand struct {
	listing
	ref      image.Ref
	kind     string
	insecure []string
}

func registryReferrersDescription() *command {
	return &command{
		name: "registry referrers", args: "REF", short: "list the artifacts that are about an image",
		long: "Lists the signatures, bills of materials and other artifacts that a registry has about an image. Registries that do not know " +
			"them have them in a tag, which is read then.\n" +
			"Fields of templates: .Digest .ArtifactType .MediaType .Size .Annotations",
		examples: []example{
			{"ocibuild registry referrers ghcr.io/me/app:v1", ""},
			{"ocibuild registry referrers --type application/spdx+json --format '{{.Digest}}' ghcr.io/me/app:v1", ""},
		},
		make: func() verb { return &registryReferrersCommand{} },
	}
}

func (c *registryReferrersCommand) flags(fs *pflag.FlagSet) {
	fs.StringVar(&c.kind, "type", "", "list those of this artifact `TYPE` alone")
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "print the digests only")
	insecureFlag(fs, &c.insecure)
	c.declare(fs)
}

func (c *registryReferrersCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, 1, "one REF"); err != nil {
		return err
	}
	refs, err := parseRemote(args)
	if err != nil {
		return err
	}
	c.ref = refs[0]
	return c.parse()
}

// referrerLine is a line of the list, and what templates and JSON see.
type referrerLine struct {
	Digest       digest.Digest
	ArtifactType string
	MediaType    string
	Size         int64
	Annotations  map[string]string `json:",omitempty"`
}

func (c *registryReferrersCommand) run(ctx context.Context, s *session) error {
	client := s.client(c.insecure, noDisplay{})
	desc, err := client.Resolve(ctx, repository(c.ref), remoteReference(c.ref))
	if err != nil {
		return err
	}
	list, err := client.Referrers(ctx, repository(c.ref), desc.Digest)
	if err != nil {
		return err
	}
	var lines []referrerLine
	for _, d := range list {
		if c.kind == "" || d.ArtifactType == c.kind {
			lines = append(lines, referrerLine{d.Digest, d.ArtifactType, d.MediaType, d.Size, d.Annotations})
		}
	}
	return c.write(s, lines)
}

func (c *registryReferrersCommand) write(s *session, lines []referrerLine) error {
	headers := map[string]string{"Digest": "DIGEST", "ArtifactType": "TYPE", "MediaType": "MEDIA TYPE", "Size": "SIZE", "Annotations": "ANNOTATIONS"}
	if c.quiet && c.format == "" {
		c.format = "{{.Digest}}"
		if err := c.parse(); err != nil {
			return err
		}
	}
	if done, err := writeFormatted(s.out, &c.listing, headers, lines); done {
		return err
	}
	rows := make([][]string, 0, len(lines))
	for _, l := range lines {
		rows = append(rows, []string{l.Digest.String(), sanitizeLine(l.ArtifactType), humanSize(l.Size)})
	}
	return writeTable(s.out, []string{"DIGEST", "TYPE", "SIZE"}, rows)
}
