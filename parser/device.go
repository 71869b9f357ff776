package parser

import (
	"slices"
	"strconv"
	"strings"
)

var deviceKeys = []string{"name", "required"}

// Device is one --device of a RUN: the name of a CDI device, or of a class of them.
type Device struct {
	Name     string
	Required bool
}

// parseDevice reads a --device: a name, given alone or as name=, and perhaps
// "required".
func parseDevice(raw string) (Device, error) {
	fields, err := csvFields(raw)
	if err != nil {
		return Device{}, refuse("write --device=<vendor>/<class>=<name>", "bad device %q: %v", raw, err)
	}
	var d Device
	for _, field := range fields {
		if err := d.field(field); err != nil {
			return Device{}, err
		}
	}
	if d.Name == "" {
		return Device{}, refuse("write --device=<vendor>/<class>=<name>", "device %q has no name", raw)
	}
	return d, nil
}

func (d *Device) field(field string) error {
	key, value, valued := strings.Cut(field, "=")
	key = strings.ToLower(key)
	known := slices.Contains(deviceKeys, key)
	switch {
	case key == "required" && valued:
		on, err := strconv.ParseBool(value)
		if err != nil {
			return refuse("true or false", "invalid value for required: %s", value)
		}
		d.Required = on
	case key == "required":
		d.Required = true
	case key == "name" && valued && d.Name == "":
		d.Name = value
	case key == "name" && valued:
		return refuse("name one device a flag", "device name already set to %s", d.Name)
	case !known && d.Name == "":
		d.Name = field
	case !valued:
		return refuse(didYouMean(key, deviceKeys), "invalid field '%s' must be a key=value pair", field)
	default:
		return refuse(didYouMean(key, deviceKeys), "unexpected key '%s' in '%s'", key, field)
	}
	return nil
}
