package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// selectImage finds an image by name, id or the beginning of one, and of an
// index the one for a platform.
func selectImage(ctx context.Context, s *session, name string, want *ocispec.Platform) (*image.Image, error) {
	st, err := s.store()
	if err != nil {
		return nil, err
	}
	desc, err := st.Resolve(ctx, name)
	if err != nil {
		return nil, missingImage(name, err)
	}
	img, err := st.Select(ctx, desc, want)
	return img, missingImage(name, err)
}

// missingImage words that the store does not have name.
func missingImage(name string, err error) error {
	var many *image.AmbiguousError
	var platform *image.PlatformError
	var other *image.NotImageError
	var worded *storeError
	var bad *image.RefError
	name = sanitizeText(name)
	switch {
	case errors.As(err, &bad):
		return &usageError{msg: bad.Error(), hint: "a name looks like app:v1, or registry.example.org/team/app:v1"}
	case errors.As(err, &many), errors.As(err, &worded):
		return err
	case errors.As(err, &platform):
		return missingPlatform(name, platform)
	case errors.As(err, &other):
		return &storeError{msg: name + ": " + other.Error(), hint: "`ocibuild inspect " + name + "` tells what it is", err: err}
	case errors.Is(err, image.ErrNotFound):
		return &storeError{
			msg:  "no such image: " + name,
			hint: "`ocibuild images` lists what is there, `ocibuild pull` fetches more",
			err:  err,
		}
	}
	return err
}

func missingPlatform(name string, e *image.PlatformError) error {
	want := image.FormatPlatform(e.Want)
	if e.Absent {
		return &storeError{
			msg:  fmt.Sprintf("%s: its image for %s is not in the store", name, want),
			hint: fmt.Sprintf("`ocibuild pull --platform %s %s` fetches it, if a registry has the image under that name", want, name),
			err:  e,
		}
	}
	return &storeError{
		msg:  fmt.Sprintf("%s: there is no image for %s in it", name, want),
		hint: "it has " + formatPlatforms(e.Have),
		err:  e,
	}
}

// formatPlatforms lists platforms, each once.
func formatPlatforms(list []ocispec.Platform) string {
	var texts []string
	for _, p := range list {
		if text := image.FormatPlatform(p); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, ", ")
}
