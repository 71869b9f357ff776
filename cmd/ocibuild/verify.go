package main

import (
	"context"
	"fmt"

	"github.com/ocibuild/ocibuild/image"
	"github.com/spf13/pflag"
)

type verifyCommand struct {
	names       []string
	quiet, json bool
	platforms   platformsFlag
}

func verifyDescription() *command {
	return &command{
		name: "verify", args: "IMAGE...", short: "recompute every digest and claim of images",
		long: "Reads images whole: every blob must have the digest and the size that is claimed for it, every layer the compression that " +
			"its media type says and the content that the config says, and index, manifest, config and history must agree. Of an " +
			"image for several platforms all that are in the store are read, or those of --platform. `ocibuild fsck` checks the " +
			"blobs of the whole store instead.",
		examples: []example{
			{"ocibuild verify app:v1", ""},
			{"ocibuild verify --platform linux/arm64 app:v1", ""},
			{"ocibuild verify --json app:v1", "what was found, for programs"},
		},
		make: func() verb { return &verifyCommand{} },
	}
}

func (c *verifyCommand) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&c.quiet, "quiet", "q", false, "print faults only")
	fs.BoolVar(&c.json, "json", false, "print a JSON object a line for each image")
	c.platforms.declare(fs, "verify the image for this `OS/ARCH[/VARIANT]` alone")
}

func (c *verifyCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 1, -1, "an IMAGE"); err != nil {
		return err
	}
	c.names = args
	return c.platforms.check()
}

// verifyResult is what verify --json prints of an image.
type verifyResult struct {
	Name      string   `json:"name"`
	Digest    string   `json:"digest"`
	Claims    int      `json:"claims"`
	Indexes   int      `json:"indexes"`
	Manifests int      `json:"manifests"`
	Configs   int      `json:"configs"`
	Layers    int      `json:"layers"`
	Absent    int      `json:"absent"`
	Away      int      `json:"away,omitempty"`
	Bytes     int64    `json:"bytes"`
	Faults    []string `json:"faults"`
}

func (c *verifyCommand) run(ctx context.Context, s *session) error {
	st, err := s.store()
	if err != nil {
		return err
	}
	bad := 0
	for _, name := range c.names {
		desc, err := st.Resolve(ctx, name)
		if err != nil {
			return missingImage(name, err)
		}
		v, err := st.Verify(ctx, desc, c.platforms.want)
		if err != nil {
			return missingImage(name, err)
		}
		bad += len(v.Faults)
		if err := c.print(s, name, desc.Digest.String(), v); err != nil {
			return err
		}
	}
	if bad > 0 {
		return &storeError{msg: fmt.Sprintf("%s found", plural(bad, "fault")), hint: "remove the image, and pull, load or build it again"}
	}
	return nil
}

func (c *verifyCommand) print(s *session, name, digest string, v *image.Verification) error {
	faults := []string{}
	for _, f := range v.Faults {
		faults = append(faults, sanitizeText(f.Err.Error()))
	}
	if c.json {
		return writeJSONLine(s.out, verifyResult{
			Name: name, Digest: digest, Claims: v.Claims, Indexes: v.Indexes, Manifests: v.Manifests,
			Configs: v.Configs, Layers: v.Layers, Absent: v.Absent, Away: v.Away, Bytes: v.Bytes, Faults: faults,
		})
	}
	for _, f := range faults {
		if _, err := fmt.Fprintf(s.out, "%s: %s\n", name, f); err != nil {
			return err
		}
	}
	if c.quiet || len(faults) > 0 {
		return nil
	}
	line := fmt.Sprintf("%s: verified: %s of %s", name, plural(v.Claims, "claim"), plural(v.Manifests, "manifest"))
	line += fmt.Sprintf(" and %s, %s", plural(v.Layers, "layer"), humanSize(v.Bytes))
	if v.Away > 0 {
		line += fmt.Sprintf("; %s at registries alone", plural(v.Away, "layer"))
	}
	if v.Absent > 0 {
		line += fmt.Sprintf("; %s of the index not in the store", plural(v.Absent, "manifest"))
	}
	_, err := fmt.Fprintln(s.out, line)
	return err
}
