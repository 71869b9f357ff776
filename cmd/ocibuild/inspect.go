package main

import (
	"context"
	"text/template"
	"time"

	"github.com/ocibuild/ocibuild/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

type inspectCommand struct {
	names    []string
	format   string
	template *template.Template
}

func inspectDescription() *command {
	return &command{
		name: "inspect", args: "IMAGE...", short: "print everything about images",
		long: "Prints a JSON array with an object for each image, in the shape of docker image inspect. With --format a " +
			"Go template is printed for each image in its place. RepoDigests has the digests of manifests and indexes in the " +
			"store: those of images built here change when push compresses their layers.",
		examples: []example{
			{"ocibuild inspect app:v1 | jq '.[0].Config.Env'", ""},
			{"ocibuild inspect -f '{{.Id}}' app:v1", "the image id"},
			{"ocibuild inspect -f '{{json .Config.Labels}}' app:v1", ""},
		},
		make: func() verb { return &inspectCommand{} },
	}
}

func (c *inspectCommand) Flags(fs *pflag.FlagSet) {
	fs.StringVarP(&c.format, "format", "f", "", "print this Go `TEMPLATE` for each image, or json")
}

func (c *inspectCommand) Check(_ *stdio, args []string) error {
	if err := count(args, 1, -1, "an IMAGE"); err != nil {
		return err
	}
	c.names = args
	if c.format == "" || c.format == "json" {
		return nil
	}
	var err error
	c.template, err = parseTemplate(c.format)
	return err
}

// imageInfo is docker's description of an image.
type imageInfo struct {
	Id           digest.Digest // docker's spelling
	RepoTags     []string
	RepoDigests  []string
	Comment      string
	Created      *time.Time `json:",omitempty"`
	Author       string
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	OsVersion    string `json:",omitempty"`
	Size         int64
	RootFS       imageRootFS
	Config       *image.RunConfig
	Descriptor   ocispec.Descriptor
}

type imageRootFS struct {
	Type   string
	Layers []digest.Digest
}

func (c *inspectCommand) Run(ctx context.Context, s *session) error {
	found := []*imageInfo{}
	var missing error
	for _, name := range c.names {
		info, err := describe(ctx, s, name)
		if err != nil {
			missing = err
			break
		}
		found = append(found, info)
	}
	if err := c.print(s, found); err != nil {
		return err
	}
	return missing
}

func (c *inspectCommand) print(s *session, found []*imageInfo) error {
	switch c.format {
	case "":
		return writeJSON(s.out, found)
	case "json":
		for _, info := range found {
			if err := writeJSONLine(s.out, info); err != nil {
				return err
			}
		}
		return nil
	}
	for _, info := range found {
		if err := execute(s.out, c.template, info); err != nil {
			return err
		}
	}
	return nil
}

// resolveImage finds an image by name, id or the beginning of one.
func resolveImage(ctx context.Context, s *session, name string) (*image.Image, ocispec.Descriptor, error) {
	st, err := s.store()
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	desc, err := st.Resolve(ctx, name)
	if err != nil {
		return nil, desc, missingImage(name, err)
	}
	img, err := openImage(ctx, st, desc)
	return img, desc, err
}

func describe(ctx context.Context, s *session, name string) (*imageInfo, error) {
	img, desc, err := resolveImage(ctx, s, name)
	if err != nil {
		return nil, err
	}
	i := &stored{desc: desc, img: img}
	info := &imageInfo{
		Id: img.ID(), RepoTags: []string{}, RepoDigests: []string{},
		Created: img.Config.Created, Author: img.Config.Author,
		Architecture: img.Config.Architecture, Variant: img.Config.Variant,
		Os: img.Config.OS, OsVersion: img.Config.OSVersion, Size: i.size(),
		RootFS:     imageRootFS{Type: img.Config.RootFS.Type, Layers: img.Config.RootFS.DiffIDs},
		Config:     &img.Config.Config,
		Descriptor: desc,
	}
	if n := len(img.Config.History); n > 0 {
		info.Comment = img.Config.History[n-1].Comment
	}
	return info, info.addNames(ctx, s, desc)
}

// addNames fills in the names that lead to the image.
func (i *imageInfo) addNames(ctx context.Context, s *session, desc ocispec.Descriptor) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	refs, err := st.References(ctx)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, r := range refs {
		if r.Descriptor.Digest != desc.Digest {
			continue
		}
		if r.Ref.Tag() != "" {
			i.RepoTags = append(i.RepoTags, r.Ref.Familiar())
		}
		if name := familiarName(r.Ref) + "@" + desc.Digest.String(); !seen[name] {
			seen[name] = true
			i.RepoDigests = append(i.RepoDigests, name)
		}
	}
	return nil
}
