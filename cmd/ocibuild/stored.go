package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ocibuild/ocibuild/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

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
