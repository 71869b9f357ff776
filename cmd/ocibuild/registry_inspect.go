package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/template"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

type registryInspectCommand struct {
	ref         image.Ref
	platform    platformFlag
	raw, config bool
	json        bool
	format      string
	template    *template.Template
	insecure    []string
}

func registryInspectDescription() *command {
	return &command{
		name: "registry inspect", args: "REF", short: "everything about an image at a registry, as JSON",
		long: "Prints what a registry has under a name, without its layers: of an index what it lists, of an image its layers and its config. With " +
			"--platform the image of an index for that. --raw prints the manifest or index, --config the config, byte for byte.\n" +
			"Fields of templates: .Name .Tag .Digest .MediaType .Size .ArtifactType .Subject .Annotations .Manifests .Layers .Config",
		examples: []example{
			{"ocibuild registry inspect alpine:3.20", "which platforms there are"},
			{"ocibuild registry inspect --platform linux/arm64 -f '{{json .Config.config.Env}}' alpine:3.20", ""},
			{"ocibuild registry inspect --raw ghcr.io/me/app:v1 | sha256sum", ""},
		},
		make: func() verb { return &registryInspectCommand{} },
	}
}

func (c *registryInspectCommand) flags(fs *pflag.FlagSet) {
	c.platform.declare(fs, "the image of an index for this `OS/ARCH[/VARIANT]`")
	fs.BoolVar(&c.raw, "raw", false, "print the manifest or index as it is")
	fs.BoolVar(&c.config, "config", false, "print the config as it is")
	fs.StringVarP(&c.format, "format", "f", "", "print this Go `TEMPLATE`, or json for one line")
	fs.BoolVar(&c.json, "json", false, "print one line of JSON, as --format=json does")
	insecureFlag(fs, &c.insecure)
}

func (c *registryInspectCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, 1, "one REF"); err != nil {
		return err
	}
	if c.json && c.format == "" {
		c.format = "json"
	}
	if c.raw && c.config || (c.raw || c.config) && c.format != "" {
		return usagef("--raw, --config and --format exclude each other")
	}
	refs, err := parseRemote(args)
	if err != nil {
		return err
	}
	c.ref = refs[0]
	if c.format != "" && c.format != "json" {
		if c.template, err = parseTemplate(c.format); err != nil {
			return err
		}
	}
	return c.platform.check()
}

// remoteImage is what the verb prints, and templates see.
type remoteImage struct {
	Name         string
	Tag          string `json:",omitempty"`
	Digest       digest.Digest
	MediaType    string
	Size         int64
	ArtifactType string               `json:",omitempty"`
	Subject      *ocispec.Descriptor  `json:",omitempty"`
	Annotations  map[string]string    `json:",omitempty"`
	Manifests    []ocispec.Descriptor `json:",omitempty"`
	Layers       []ocispec.Descriptor `json:",omitempty"`
	Config       any                  `json:",omitempty"`
}

// remoteManifest is a manifest or an index, as far as it is shown.
type remoteManifest struct {
	ArtifactType string               `json:"artifactType"`
	Config       *ocispec.Descriptor  `json:"config"`
	Layers       []ocispec.Descriptor `json:"layers"`
	Manifests    []ocispec.Descriptor `json:"manifests"`
	Subject      *ocispec.Descriptor  `json:"subject"`
	Annotations  map[string]string    `json:"annotations"`
}

func (c *registryInspectCommand) run(ctx context.Context, s *session) error {
	client := s.client(c.insecure, noDisplay{})
	desc, body, err := c.manifest(ctx, client)
	if err != nil {
		return err
	}
	if c.raw {
		_, err := s.out.Write(body)
		return err
	}
	var m remoteManifest
	if err := json.Unmarshal(body, &m); err != nil {
		return fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	var config []byte
	if m.Config != nil {
		if config, err = c.blob(ctx, client, *m.Config); err != nil {
			return err
		}
	}
	if c.config {
		if config == nil {
			return &usageError{msg: c.ref.Familiar() + " is an index, which has no config", hint: "choose an image of it with --platform"}
		}
		_, err := s.out.Write(config)
		return err
	}
	return c.print(s, c.describe(desc, m, config))
}

// manifest fetches what the name stands for, or the image of an index that is
// for the platform.
func (c *registryInspectCommand) manifest(ctx context.Context, client *registry.Client) (ocispec.Descriptor, []byte, error) {
	if c.platform.want == nil {
		return client.Manifest(ctx, repository(c.ref), remoteReference(c.ref))
	}
	return client.PlatformManifest(ctx, repository(c.ref), remoteReference(c.ref), *c.platform.want)
}

// maxConfig is how large a config may be that is shown.
const maxConfig = 8 << 20

func (c *registryInspectCommand) blob(ctx context.Context, client *registry.Client, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > maxConfig {
		return nil, fmt.Errorf("the config %s has more than %d bytes", desc.Digest, maxConfig)
	}
	rc, err := client.Blob(ctx, repository(c.ref), desc)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func (c *registryInspectCommand) describe(desc ocispec.Descriptor, m remoteManifest, config []byte) remoteImage {
	img := remoteImage{
		Name: repositoryName(c.ref), Tag: c.ref.Tag(), Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size,
		ArtifactType: m.ArtifactType, Subject: m.Subject, Annotations: m.Annotations, Manifests: m.Manifests, Layers: m.Layers,
	}
	var doc map[string]any
	if json.Unmarshal(config, &doc) == nil && len(doc) > 0 { // an artifact's need not be JSON
		img.Config = doc
	}
	return img
}

func (c *registryInspectCommand) print(s *session, img remoteImage) error {
	switch {
	case c.template != nil:
		return execute(s.out, c.template, img)
	case c.format == "json":
		return writeJSONLine(s.out, img)
	}
	return writeJSON(s.out, img)
}
