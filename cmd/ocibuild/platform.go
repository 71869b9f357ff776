package main

import (
	"strings"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
)

// platformFlag is --platform of verbs that are about images of the store: no
// value is whatever the image has.
type platformFlag struct {
	text string
	want *ocispec.Platform
}

func (p *platformFlag) declare(fs *pflag.FlagSet, usage string) {
	fs.StringVar(&p.text, "platform", "", usage)
}

func (p *platformFlag) check() error {
	if p.text == "" {
		return nil
	}
	want, err := parsePlatform(p.text)
	p.want = &want
	return err
}

// platformsFlag is --platform of verbs that take several.
type platformsFlag struct {
	texts []string
	want  []ocispec.Platform
}

func (p *platformsFlag) declare(fs *pflag.FlagSet, usage string) {
	fs.StringSliceVar(&p.texts, "platform", nil, usage+" (may be repeated, or several with commas between)")
}

// allFlag is a --platform flag's opposite.
type allFlag bool

func (a *allFlag) declare(fs *pflag.FlagSet, usage string) {
	fs.BoolVar((*bool)(a), "all-platforms", false, usage)
}

// check refuses it beside platforms.
func (a allFlag) check(platforms ...string) error {
	if a && len(platforms) > 0 {
		return usagef("--platform and --all-platforms exclude each other")
	}
	return nil
}

func (p *platformsFlag) check() error {
	for _, text := range p.texts {
		want, err := parsePlatform(text)
		if err != nil {
			return err
		}
		p.want = append(p.want, want)
	}
	return nil
}

// parsePlatform reads a --platform flag; empty is this machine's.
func parsePlatform(text string) (ocispec.Platform, error) {
	if text == "" {
		return image.HostPlatform(), nil
	}
	if strings.Contains(text, ",") {
		return ocispec.Platform{}, &usageError{msg: "--platform=" + text + ": one platform at a time", hint: "run the command once for each platform"}
	}
	p, err := build.ParsePlatform(text)
	if err != nil {
		return p, &usageError{msg: "--platform: " + err.Error(), hint: "write it as linux/amd64 or linux/arm64"}
	}
	return p, nil
}
