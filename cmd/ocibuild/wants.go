package main

import (
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// checkPlatforms reads the values of --platform.
func (c *buildCommand) checkPlatforms() error {
	texts := c.platformTexts
	if len(texts) == 0 {
		texts = []string{""}
	}
	for _, text := range texts {
		p, err := parsePlatform(text)
		if err != nil {
			return err
		}
		same := func(other ocispec.Platform) bool { return image.FormatPlatform(other) == image.FormatPlatform(p) }
		if !slices.ContainsFunc(c.platforms, same) {
			c.platforms = append(c.platforms, p)
		}
	}
	return nil
}

// target is a value of --target: a stage, and a name for its image.
type target struct {
	stage string
	tags  []image.Ref
}

// checkTargets reads the values of --target, STAGE[=NAME].
func (c *buildCommand) checkTargets() error {
	for _, text := range c.targetTexts {
		stage, name, named := strings.Cut(text, "=")
		t := target{stage: stage}
		if named {
			ref, err := parseNewRef(name)
			if err != nil {
				return err
			}
			t.tags = append(t.tags, ref)
		}
		for _, other := range c.targets {
			if strings.EqualFold(other.stage, stage) {
				return usagef("--target=%s: the stage is given twice", text)
			}
		}
		c.targets = append(c.targets, t)
	}
	if len(c.targets) == 0 {
		c.targets = []target{{}}
	}
	return nil
}

// wants are the results to build: --tag names that of the last target.
func (c *buildCommand) wants() []build.Want {
	multi := c.args["BUILDKIT_MULTI_PLATFORM"]
	var out []build.Want
	for _, t := range c.targets {
		out = append(out, build.Want{
			Target: t.stage, Platforms: c.platforms, Chosen: len(c.platformTexts) > 0, Tags: t.tags,
			Index: multi == "1" || strings.EqualFold(multi, "true"),
		})
	}
	last := &out[len(out)-1]
	last.Tags = append(slices.Clone(last.Tags), c.tags...)
	return out
}
