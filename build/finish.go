package build

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ocibuild/ocibuild/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// exporterComment marks the history entries that no instruction made.
const exporterComment = "buildkit.exporter.image.v0"

// finish is what the config of an image gets at last, whatever its steps made.
type finish struct {
	labels   map[string]string
	platform ocispec.Platform
	// chosen says that the platform was asked for: the image names it even where
	// its base is for another one.
	chosen bool
	epoch  *time.Time
}

// config gives the config that the image of a State is stored with.
func (f finish) config(s *State) image.Config {
	c := cloneConfig(s.Config)
	if len(f.labels) > 0 && c.Config.Labels == nil {
		c.Config.Labels = map[string]string{}
	}
	maps.Copy(c.Config.Labels, f.labels)
	c.Platform = f.imagePlatform(c.Platform)
	if c.OS == windows {
		c.Config.WorkingDir = strings.ReplaceAll(c.Config.WorkingDir, "/", `\`)
	}
	c.History = accounted(c.History, s.Layers)
	return fillCreated(c, s.Config.History[:s.inherited], f.epoch)
}

// imagePlatform is the platform that the config names. have is that of the base.
func (f finish) imagePlatform(have ocispec.Platform) ocispec.Platform {
	if f.chosen {
		same := have.OS == f.platform.OS && have.Architecture == f.platform.Architecture
		have.OS, have.Architecture = f.platform.OS, f.platform.Architecture
		if !same || f.platform.Variant != "" {
			have.Variant = f.platform.Variant
		}
		if !same || f.platform.OSVersion != "" {
			have.OSVersion = f.platform.OSVersion
		}
		if f.platform.OSFeatures != nil {
			have.OSFeatures = slices.Clone(f.platform.OSFeatures)
		}
	}
	return image.NormalPlatform(have)
}

// accounted gives a history with as many entries of layers as there are layers.
// Bases exist whose own history tells of more, or of fewer.
func accounted(history []ocispec.History, layers []*Layer) []ocispec.History {
	history = slices.Clone(history)
	n := 0
	for i := range history {
		if history[i].EmptyLayer {
			continue
		}
		if n == len(layers) {
			history[i].EmptyLayer = true
			continue
		}
		n++
	}
	for _, l := range layers[n:] {
		h := ocispec.History{CreatedBy: l.made, Comment: exporterComment}
		if !l.created.IsZero() {
			h.Created = &l.created
		}
		history = append(history, h)
	}
	return history
}

// fillCreated gives every history entry without a time the time of the layer
// before it, or of the first layer after it. An epoch is then the latest time
// of all that did not come with the base. The image is as old as its last
// entry, so that a rebuild from the cache gives the same id.
func fillCreated(c image.Config, base []ocispec.History, epoch *time.Time) image.Config {
	h := slices.Clone(c.History)
	last := firstNew(h)
	missing := false
	for i := range h {
		switch {
		case h[i].Created == nil:
			missing = true
			h[i].Created = last
		case missing:
			last = h[i].Created
		}
	}
	if epoch != nil {
		for i := inCommon(h, base); i < len(h); i++ {
			if h[i].Created == nil || h[i].Created.After(*epoch) {
				h[i].Created = epoch
			}
		}
	}
	c.History = h
	c.Created = nil
	for _, e := range h {
		if e.Created != nil {
			c.Created = e.Created
		}
	}
	return c
}

// firstNew gives the first time behind an entry that has none, else the last one.
func firstNew(h []ocispec.History) *time.Time {
	var last *time.Time
	missing := false
	for _, e := range h {
		if e.Created == nil {
			missing = true
			continue
		}
		last = e.Created
		if missing {
			break
		}
	}
	return last
}

// inCommon counts the entries that are still as they came with the base.
func inCommon(h, base []ocispec.History) int {
	n := 0
	for n < len(h) && n < len(base) && sameEntry(h[n], base[n]) {
		n++
	}
	return n
}

func sameEntry(a, b ocispec.History) bool {
	if a.Created == nil || b.Created == nil {
		return a == b
	}
	same := a.Created.Equal(*b.Created)
	a.Created, b.Created = nil, nil
	return same && a == b
}
