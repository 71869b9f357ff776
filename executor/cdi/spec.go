package cdi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// spec is a file as it is written.
type spec struct {
	Version     string         `json:"cdiVersion"`
	Kind        string         `json:"kind"`
	Annotations map[string]any `json:"annotations"`
	Devices     []struct {
		Name        string         `json:"name"`
		Annotations map[string]any `json:"annotations"`
		Edits       Edits          `json:"containerEdits"`
	} `json:"devices"`
	Edits Edits `json:"containerEdits"`
}

// Edits are what a container gets with a device.
type Edits struct {
	Env         []string `json:"env"`
	DeviceNodes []Node   `json:"deviceNodes"`
	Mounts      []Mount  `json:"mounts"`
	Groups      []uint32 `json:"additionalGids"`

	Hooks      []json.RawMessage `json:"hooks"`
	NetDevices []json.RawMessage `json:"netDevices"`
	RDT        json.RawMessage   `json:"intelRdt"`
}

// Node is a device node. What is missing is that of HostPath on the machine.
type Node struct {
	Path        string  `json:"path"`
	HostPath    string  `json:"hostPath"` // "" is Path
	Type        string  `json:"type"`
	Major       int64   `json:"major"`
	Minor       int64   `json:"minor"`
	FileMode    *uint32 `json:"fileMode"`
	Permissions string  `json:"permissions"`
	UID         *uint32 `json:"uid"`
	GID         *uint32 `json:"gid"`
}

// Mount is a mount, in the words of mount(8).
type Mount struct {
	HostPath      string   `json:"hostPath"`
	ContainerPath string   `json:"containerPath"`
	Type          string   `json:"type"`
	Options       []string `json:"options"`
}

// parseYAML is parse for the format's other form.
func parseYAML(text []byte) (*spec, error) {
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return parse(text)
}

// parse reads a file and refuses what is not a specification. A field that is not
// known could ask for something that a container must have.
func parse(text []byte) (*spec, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var s spec
	if err := d.Decode(&s); err != nil {
		return nil, err
	}
	vendor, class := Kind(s.Kind)
	switch {
	case !strings.HasPrefix(s.Version, "0.") && !strings.HasPrefix(s.Version, "1."):
		return nil, fmt.Errorf("cdiVersion %q is not known", s.Version)
	case vendor == "" || class == "":
		return nil, fmt.Errorf("kind %q is not VENDOR/CLASS", s.Kind)
	case len(s.Devices) == 0:
		return nil, errors.New("it has no devices")
	}
	for _, dev := range s.Devices {
		if !isName(dev.Name, ":") {
			return nil, fmt.Errorf("%q cannot be a device's name", dev.Name)
		}
	}
	return &s, nil
}

// Kind splits VENDOR/CLASS. Both are empty for what is no kind.
func Kind(text string) (vendor, class string) {
	vendor, class, ok := strings.Cut(text, "/")
	if !ok || !isName(vendor, "") || !isName(class, "") {
		return "", ""
	}
	return vendor, class
}

// isName tells whether a text is made of letters, digits, _, -, . and more, and
// neither begins nor ends with punctuation.
func isName(text, more string) bool {
	const punctuation = "_-."
	for i, c := range text {
		word := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !word && (i == 0 || i == len(text)-1 || !strings.ContainsRune(punctuation+more, c)) {
			return false
		}
	}
	return text != ""
}
