package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// manifestReader reads what an index leads to.
type manifestReader interface {
	// child gives the bytes of a manifest that an index names.
	child(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
	// config gives the platform that a config tells, nil if it is no image's.
	config(ctx context.Context, desc ocispec.Descriptor) (*ocispec.Platform, error)
}

// maxSilent bounds how many entries of an index are looked into for their platforms.
const maxSilent = 16

// entry picks the entry of an index that suits. Entries that name no platform are looked into when no other suits.
func (j job) entry(ctx context.Context, from manifestReader, entries []ocispec.Descriptor, want ocispec.Platform, depth int) (ocispec.Descriptor, error) {
	if child, ok := choose(entries, want); ok {
		return child, nil
	}
	silent := silentEntries(entries)
	if len(silent) == 1 {
		return silent[0], nil
	}
	seen := append([]ocispec.Descriptor{}, entries...)
	for _, e := range silent[:min(len(silent), maxSilent)] {
		found, err := j.platformsOf(ctx, from, e, depth+1)
		if err != nil {
			return e, err
		}
		for _, platform := range found {
			e.Platform = &platform
			seen = append(seen, e)
		}
	}
	if child, ok := choose(seen, want); ok {
		return child, nil
	}
	hint := "it has no image at all"
	if names := available(seen); len(names) > 0 {
		hint = "available: " + strings.Join(names, ", ")
	}
	return ocispec.Descriptor{}, j.errorf(hint, "there is no image for %s", platformName(want))
}

// silentEntries are those that may be images and do not say for which platform.
func silentEntries(entries []ocispec.Descriptor) []ocispec.Descriptor {
	var silent []ocispec.Descriptor
	for _, e := range entries {
		if e.Platform == nil && isImage(e) && (isIndex(e.MediaType) || isManifest(e.MediaType)) {
			silent = append(silent, e)
		}
	}
	return silent
}

// platformsOf reads a manifest's platform from its config, and those of a nested index from what it names.
func (j job) platformsOf(ctx context.Context, from manifestReader, desc ocispec.Descriptor, depth int) ([]ocispec.Platform, error) {
	if depth >= maxDepth {
		return nil, nil
	}
	body, err := from.child(ctx, desc)
	if err != nil {
		return nil, err
	}
	doc, err := parseManifest(desc.MediaType, body)
	if err != nil {
		return nil, nil //nolint:nilerr // another entry may suit; if it does not, this one has no platform to offer
	}
	if !isIndex(doc.MediaType) {
		found, err := from.config(ctx, *doc.Config)
		if found == nil {
			return nil, err
		}
		return []ocispec.Platform{*found}, err
	}
	var all []ocispec.Platform
	for _, e := range doc.Manifests {
		if e.Platform != nil && isImage(e) {
			all = append(all, *e.Platform)
		}
	}
	silent := silentEntries(doc.Manifests)
	for _, e := range silent[:min(len(silent), maxSilent)] {
		found, err := j.platformsOf(ctx, from, e, depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func isImageConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == mediaTypeDockerConfig
}

// platformIn reads the platform that a config tells; nil is none.
func (j job) platformIn(desc ocispec.Descriptor, body []byte) (*ocispec.Platform, error) {
	var platform ocispec.Platform
	if err := json.Unmarshal(body, &platform); err != nil {
		return nil, j.errorf("", "the config %s is malformed: %s", desc.Digest, err.Error())
	}
	if platform.OS == "" && platform.Architecture == "" {
		return nil, nil
	}
	return &platform, nil
}

// entryChoice is an entry of an index that is taken into another: by its place in the first, and as it is to be.
type entryChoice struct {
	at int
	choice
}

// subIndex returns an index of some of the manifests of another, which may have become other ones; all else is kept as it is.
func subIndex(desc ocispec.Descriptor, body []byte, keep []entryChoice) (ocispec.Descriptor, []byte, error) {
	var index map[string]json.RawMessage
	var all, some []json.RawMessage
	if err := json.Unmarshal(body, &index); err != nil {
		return desc, nil, fmt.Errorf("read index %s: %w", desc.Digest, err)
	}
	if err := json.Unmarshal(index["manifests"], &all); err != nil {
		return desc, nil, fmt.Errorf("read index %s: %w", desc.Digest, err)
	}
	for _, e := range keep {
		entry, err := e.written(all[e.at])
		if err != nil {
			return desc, nil, fmt.Errorf("read index %s: %w", desc.Digest, err)
		}
		some = append(some, entry)
	}
	var err error
	if index["manifests"], err = json.Marshal(some); err == nil {
		body, err = json.Marshal(index)
	}
	if err != nil {
		return desc, nil, fmt.Errorf("write an index: %w", err)
	}
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}, body, nil
}

// written is the entry as it is to be, made of what it was.
func (e entryChoice) written(was json.RawMessage) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(was, &fields); err != nil || string(fields["digest"]) == strconv.Quote(e.desc.Digest.String()) {
		return was, err
	}
	fields["digest"] = json.RawMessage(strconv.Quote(e.desc.Digest.String()))
	fields["size"] = json.RawMessage(strconv.FormatInt(e.desc.Size, 10))
	return json.Marshal(fields)
}
