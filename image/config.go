package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxConfig and maxManifest bound what is read into memory.
const (
	maxConfig   = 16 << 20
	maxManifest = 4 << 20
)

// Config is an image's config: the OCI one with Docker's additions. Fields
// that neither knows are not kept when a config is read; the blob it came from
// has them still.
type Config struct {
	Created *time.Time `json:"created,omitempty"`
	Author  string     `json:"author,omitempty"`
	ocispec.Platform
	Config  RunConfig         `json:"config"`
	RootFS  ocispec.RootFS    `json:"rootfs"`
	History []ocispec.History `json:"history,omitempty"`
}

// RunConfig is how containers of an image run: the OCI fields and those that
// Docker adds.
type RunConfig struct {
	ocispec.ImageConfig
	Healthcheck *HealthConfig `json:",omitempty"`
	OnBuild     []string      `json:",omitempty"`
	Shell       []string      `json:",omitempty"`
}

// HealthConfig is Docker's health check. Zero means inherited or the default.
type HealthConfig struct {
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// encode gives the config's JSON as BuildKit writes it: no indentation, the
// outermost keys sorted, created always there when any time is known.
func (c Config) encode() ([]byte, error) {
	if c.RootFS.Type == "" {
		c.RootFS.Type = "layers"
	}
	if c.RootFS.DiffIDs == nil {
		c.RootFS.DiffIDs = []digest.Digest{}
	}
	for _, h := range slices.Backward(c.History) {
		if c.Created == nil {
			c.Created = h.Created
		}
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode config: %w", err)
	}
	fields := make(map[string]json.RawMessage)
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("encode config: %w", err)
	}
	return json.Marshal(fields)
}

// decodeConfig reads a config, OCI's or Docker's.
func decodeConfig(text []byte) (Config, error) {
	var c Config
	if err := json.Unmarshal(text, &c); err != nil {
		return Config{}, fmt.Errorf("read config: %w", err)
	}
	if bytes.Equal(bytes.TrimSpace(text), []byte("null")) {
		return Config{}, fmt.Errorf("read config: it is null")
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return Config{}, fmt.Errorf("read config: diff id %d: %q: %w", i, string(d), err)
		}
	}
	return c, nil
}
